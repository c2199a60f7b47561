"""Retention: what is kept for so many days and then removed.

Never what a call that is open, in doubt or not yet read needs, never the ledger, never an
observation. Hashes stay where a body goes, so that a repetition is still told. In chunks, each in a
transaction of its own: a night under way waits for nothing.

Dagster's runs stay: they hold ids and counts, and without them it would take every partition for
missing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, text

from enrich_pipeline.domain.policy import RetentionPolicy
from enrich_pipeline.store import personal_files

CHUNK: Final = 5_000
"""Rows per transaction."""

Progress = Callable[[str, int], object]
"""Receives what is being removed and how much of it is gone so far."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """`which` selects the ctid of rows that are older than :before; `deed` removes those."""

    setting: str
    which: str
    deed: str


_CLOSED: Final = "('settled', 'released', 'written_off')"

_RULES: Final[Mapping[str, _Rule]] = {
    "raw_replies": _Rule(
        "raw_replies_days",
        f"""
        select r.ctid from enrichment.replies as r
        join enrichment.calls as c on c.call_id = r.call_id
        where r.responses is not null and r.received_at < :before
          and r.applied_at is not null and c.state in {_CLOSED}
        """,  # noqa: S608  (a fragment of our own)
        "update enrichment.replies set responses = null",
    ),
    "requests": _Rule(
        "requests_days",
        """
        select ctid from enrichment.calls
        where state = 'written_off' and items is not null and closed_at < :before
        """,
        "update enrichment.calls set items = null, request_body = null",
    ),
    "deliveries": _Rule(
        "inbox_days",
        f"""
        select i.ctid from enrichment.inbox as i
        join enrichment.calls as c on c.token_hash = i.token_hash
        where i.body is not null and i.received_at < :before
          and i.state <> 'new' and c.state in {_CLOSED}
        """,  # noqa: S608  (a fragment of our own)
        "update enrichment.inbox set body = null",
    ),
    "strangers": _Rule(
        "inbox_days",
        """
        select ctid from enrichment.inbox
        where reason = 'unknown_token' and received_at < :before
        """,
        "delete from enrichment.inbox",
    ),
    "skips": _Rule(
        "skips_days",
        """
        select ctid from enrichment.skips
        where partition_date < cast(cast(:before as timestamptz) at time zone 'UTC' as date)
        """,
        "delete from enrichment.skips",
    ),
}

KINDS: Final = (*_RULES, "rejects_files", "reports")
"""What is counted: rows by rule, then files."""


def due(engine: Engine, home: Path, policy: RetentionPolicy, now: datetime) -> dict[str, int]:
    """How much `prune` would remove now, by KINDS."""
    counts: dict[str, int] = {}
    with engine.connect() as conn:
        for kind, rule in _RULES.items():
            query = f"select count(*) from ({rule.which}) as w"  # noqa: S608  (our own)
            before = {"before": _before(policy, rule.setting, now)}
            counts[kind] = int(conn.execute(text(query), before).scalar_one())
        old = personal_files.rejects_before(conn, _before(policy, "rejects_days", now))
        counts["rejects_files"] = len(old)
    pages = personal_files.pages_before(home, _before(policy, "reports_days", now))
    counts["reports"] = len(pages)
    return counts


def prune(
    engine: Engine,
    home: Path,
    policy: RetentionPolicy,
    now: datetime,
    on_progress: Progress | None = None,
) -> dict[str, int]:
    """Remove what is older than the policy says; returns how much went, by KINDS.

    Safe at any time and from several processes; cut off, it is continued by the next.
    """
    counts: dict[str, int] = {}
    for kind, rule in _RULES.items():
        counts[kind] = 0
        parameters: dict[str, Any] = {"before": _before(policy, rule.setting, now), "chunk": CHUNK}
        statement = text(f"{rule.deed} where ctid = any(array({rule.which} limit :chunk))")
        while True:
            with engine.begin() as conn:
                removed = conn.execute(statement, parameters).rowcount
            counts[kind] += removed
            if on_progress is not None:
                on_progress(kind, counts[kind])
            if removed < CHUNK:
                break
    with engine.begin() as conn:
        old = personal_files.rejects_before(conn, _before(policy, "rejects_days", now))
        counts["rejects_files"] = personal_files.remove_rejects(conn, old)
    pages_before = _before(policy, "reports_days", now)
    counts["reports"] = personal_files.remove_pages(home, pages_before)
    return counts


def _before(policy: RetentionPolicy, setting: str, now: datetime) -> datetime:
    days: int = getattr(policy, setting)
    return now - timedelta(days=days)
