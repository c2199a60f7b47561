"""The operators' switch: while it is off nothing new is sent, by any process, in any run.

Everything under way goes on: replies settle, polls are made, deliveries are read. What a paused
field waits for is decided where it is claimed and where a call is armed; here is only the switch.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from enrich_pipeline.store import locks

REASON = "paused"
"""Why a field waits that would be bought but for the switch."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Sending is off since then; `reason` is what the operator said."""

    since: datetime
    reason: str


def paused(conn: Connection) -> Pause | None:
    """The pause that is on, if one is."""
    row = conn.execute(
        text("SELECT paused_at, reason FROM enrichment.sending WHERE paused_at IS NOT NULL")
    ).one_or_none()
    return None if row is None else Pause(row.paused_at, row.reason)


def may_send(conn: Connection) -> bool:
    """Whether a call may be armed in this transaction, which a later pause then waits for."""
    locks.share(conn, locks.SENDING)
    return paused(conn) is None


def pause(conn: Connection, reason: str) -> Pause:
    """Turns sending off; one that is on keeps its beginning and takes a new reason."""
    conn.execute(
        text("""
            UPDATE enrichment.sending
            SET paused_at = coalesce(paused_at, clock_timestamp()),
                reason = CASE WHEN :reason = '' THEN reason ELSE :reason END
        """),
        {"reason": reason},
    )
    now = paused(conn)
    assert now is not None  # noqa: S101  (the row is there since the migration)
    return now


def resume(conn: Connection) -> Pause | None:
    """Turns sending on; the pause that this ends, if one was on."""
    ended = paused(conn)
    conn.execute(text("UPDATE enrichment.sending SET paused_at = NULL, reason = ''"))
    return ended


def outlast_senders(conn: Connection, seconds: float) -> bool:
    """Waits until nobody is between asking `may_send` and its commit.

    False when somebody still was after `seconds`: a process that sleeps in the middle of it may
    send the one call when it wakes. The transaction is of no use any more then.
    """
    conn.execute(text(f"set local lock_timeout = {round(seconds * 1000)}"))
    try:
        locks.hold(conn, locks.SENDING)
    except OperationalError:
        return False
    return True
