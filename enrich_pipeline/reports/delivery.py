"""Telling people what holds now: once, again after a while, and once more when it is over."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from enrich_pipeline.domain.alert import Alert, Level
from enrich_pipeline.reports.channel import Message, Receipt, send
from enrich_pipeline.store import alerts as store

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What was said: `told` and `over` count conditions, `holding` all that hold now.

    `receipts` is empty where nothing was due. `is_other_at_it`: another process was sending.
    """

    holding: int
    told: int = 0
    over: int = 0
    receipts: tuple[Receipt, ...] = ()
    is_other_at_it: bool = False

    @property
    def is_sent(self) -> bool:
        """Whether some channel took the message, if there was one."""
        return not self.receipts or any(receipt.is_sent for receipt in self.receipts)


def deliver(
    engine: Engine, urls: Sequence[str], alerts: Sequence[Alert], now: datetime, repeat: timedelta
) -> Delivery:
    """Say what is due in one message to every channel; what no channel took stays due.

    One process at a time: a second one says nothing, for the first says the same. Should this
    process die between sending and keeping that it did, the message is sent once more.
    """
    # No transaction is open while channels are asked: they may take their time.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as turn:
        if not store.take_turn(turn):
            return Delivery(len(alerts), is_other_at_it=True)
        try:
            with engine.begin() as conn:
                store.note(conn, alerts, now)
                due = store.due(conn, alerts, now, repeat)
            if not due.alerts and not due.over:
                return Delivery(len(alerts))
            receipts = tuple(send(urls, compose(due)))
            delivery = Delivery(len(alerts), len(due.alerts), len(due.over), receipts)
            with engine.begin() as conn:
                _keep(conn, due, delivery, now)
            return delivery
        finally:
            store.end_turn(turn)


def _keep(conn: Connection, due: store.Due, delivery: Delivery, now: datetime) -> None:
    failed = ", ".join(receipt.channel for receipt in delivery.receipts if not receipt.is_sent)
    if not delivery.is_sent:
        if store.channel_broke(conn, now):
            _log.warning("alerts cannot be sent, tried again next time: channel %s", failed)
        return
    store.mark_told(conn, due, now)
    if store.channel_works(conn, now):
        _log.info("alerts are sent again")
    if failed:
        _log.warning("an alert did not reach channel %s", failed)


def compose(due: store.Due) -> Message:
    """One message for everything that is due."""
    parts = [alert.message for alert in due.alerts]
    if due.over:
        parts.append(
            "\n".join(
                f"Over: {known.title} (since {known.first_seen:%Y-%m-%d %H:%M} UTC)"
                for known in due.over
            )
        )
    titles = [alert.title for alert in due.alerts] or [f"over: {due.over[0].title}"]
    more = len(due.alerts) + len(due.over) - 1
    levels = {alert.level for alert in due.alerts}
    return Message(
        title=f"enrich: {titles[0]}" + (f" (and {more} more)" if more else ""),
        body="\n\n".join(parts),
        level=Level.CRITICAL if Level.CRITICAL in levels else next(iter(levels), None),
    )
