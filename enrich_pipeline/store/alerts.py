"""What was said to people, and when: so that a condition is told once and its end is told too.

Which conditions hold is found out elsewhere (`store/troubles.py`); nothing here sends.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, text

from enrich_pipeline.domain.alert import Alert
from enrich_pipeline.store import locks, rows

SLACK = timedelta(minutes=5)
"""A daily look is a little early every other day; without this it would say things every second."""

_CHANNEL = "channel"
"""Key of the row that is open while messages cannot be sent; no condition of its own."""


@dataclass(frozen=True, slots=True)
class Known:
    """A condition that was seen and is not over yet."""

    key: str
    level: str
    title: str
    first_seen: datetime
    last_sent: datetime | None


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be said now: alerts that hold, and conditions that were told and are over."""

    alerts: tuple[Alert, ...]
    over: tuple[Known, ...]


def take_turn(conn: Connection) -> bool:
    """Whether this session is the one that may send now; it must `end_turn` afterwards."""
    taken = text("select pg_try_advisory_lock(:class, 0)")
    return bool(conn.execute(taken, {"class": locks.ALERTS}).scalar_one())


def end_turn(conn: Connection) -> None:
    conn.execute(text("select pg_advisory_unlock(:class, 0)"), {"class": locks.ALERTS})


def due(conn: Connection, alerts: Sequence[Alert], now: datetime, repeat: timedelta) -> Due:
    """What would be said at `now` if `alerts` are all that holds; changes nothing.

    An alert is due when it was not sent since it began, when it became critical since, or when it
    was last sent `repeat` ago.
    """
    seen = {row.key: row for row in _open(conn)}
    told = {key: row.sent_level for key, row in seen.items() if row.last_sent is not None}
    again = {
        key for key, row in seen.items() if row.last_sent and row.last_sent <= now - repeat + SLACK
    }
    return Due(
        alerts=tuple(
            alert
            for alert in alerts
            if alert.key not in told
            or alert.key in again
            or (alert.level == "critical" and told[alert.key] == "warning")
        ),
        over=tuple(
            known
            for known in open_alerts(conn)
            if known.last_sent is not None and known.key not in {alert.key for alert in alerts}
        ),
    )


def note(conn: Connection, alerts: Sequence[Alert], now: datetime) -> None:
    """Keep what holds at `now`; what is over without ever having been told is closed in silence."""
    conn.execute(
        text("""
            with now_holding as (
                select * from jsonb_to_recordset(cast(:alerts as jsonb))
                    as a(key text, level text, title text)
            ), closed as (
                update enrichment.alerts as a set resolved_at = :now
                where a.resolved_at is null and a.last_sent is null and a.key <> :channel
                and not exists (select from now_holding as h where h.key = a.key)
            )
            insert into enrichment.alerts as a (key, level, title, first_seen)
            select key, level, title, :now from now_holding order by key
            on conflict (key) do update set
                level = excluded.level,
                title = excluded.title,
                first_seen = case when a.resolved_at is null then a.first_seen else :now end,
                last_sent = case when a.resolved_at is null then a.last_sent end,
                sent_level = case when a.resolved_at is null then a.sent_level end,
                resolved_at = null
        """),
        {
            "alerts": rows.as_json(
                {"key": alert.key, "level": alert.level, "title": alert.title} for alert in alerts
            ),
            "channel": _CHANNEL,
            "now": now,
        },
    )


def mark_told(conn: Connection, told: Due, now: datetime) -> None:
    """Keep that these were sent: alerts start to wait for their repetition, what is over closes."""
    conn.execute(
        text("""
            update enrichment.alerts set last_sent = :now, sent_level = level
            where key = any(cast(:keys as text[]))
        """),
        {"keys": [alert.key for alert in told.alerts], "now": now},
    )
    _close(conn, [known.key for known in told.over], now)


def channel_broke(conn: Connection, now: datetime) -> bool:
    """Keep that nothing could be sent; True when that is new."""
    changed = conn.execute(
        text("""
            insert into enrichment.alerts as a (key, level, title, first_seen)
            values (:channel, 'warning', 'alerts cannot be sent', :now)
            on conflict (key) do update set first_seen = :now, resolved_at = null
                where a.resolved_at is not null
        """),
        {"channel": _CHANNEL, "now": now},
    )
    return changed.rowcount > 0


def channel_works(conn: Connection, now: datetime) -> bool:
    """Keep that messages go out; True when they did not before."""
    return _close(conn, [_CHANNEL], now) > 0


def open_alerts(conn: Connection) -> list[Known]:
    """Everything that was seen and is not over, oldest first."""
    return [
        Known(row.key, row.level, row.title, row.first_seen, row.last_sent) for row in _open(conn)
    ]


def _open(conn: Connection) -> Sequence[Row[Any]]:
    return conn.execute(
        text("""
            select key, level, title, first_seen, last_sent, sent_level from enrichment.alerts
            where resolved_at is null and key <> :channel order by first_seen, key
        """),
        {"channel": _CHANNEL},
    ).all()


def _close(conn: Connection, keys: Collection[str], now: datetime) -> int:
    closed = conn.execute(
        text("""
            update enrichment.alerts set resolved_at = :now
            where key = any(cast(:keys as text[])) and resolved_at is null
        """),
        {"keys": list(keys), "now": now},
    )
    return closed.rowcount
