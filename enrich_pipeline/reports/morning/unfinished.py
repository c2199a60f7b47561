"""What is not settled, whatever night it is of, and what the night left out: by reason, counted."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import Connection, text

from enrich_pipeline.store import breakers, nights, switch


@dataclass(frozen=True, slots=True)
class Pending:
    """What a provider accepted and has not answered: `number` counts (person, field)."""

    provider: str
    field: str
    number: int
    since: datetime
    deadline: datetime | None


@dataclass(frozen=True, slots=True)
class Doubt:
    """Calls of one provider of which nobody knows, for one reason, whether they were charged."""

    provider: str
    reason: str
    calls: int
    persons: int
    usd: Decimal
    since: datetime
    written_off_at: datetime | None


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Webhook deliveries that were set aside without effect."""

    provider: str
    reason: str
    number: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Waiting:
    """(person, field) that a later run asks `provider` for, and why not now."""

    provider: str
    reason: str
    number: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """How often, for one reason, a provider was not asked in the night for a (person, field).

    `by_provider` is ordered by number; under `*` are those of whom nobody could be asked.
    """

    reason: str
    by_provider: Mapping[str, int]

    @property
    def number(self) -> int:
        return sum(self.by_provider.values())


@dataclass(frozen=True, slots=True)
class Rejected:
    """Answers of the night about somebody else, by provider; paid or not, they were not used."""

    provider: str
    number: int
    usd: Decimal


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Everything that is open now, and what the night skipped and rejected."""

    pending: tuple[Pending, ...]
    doubts: tuple[Doubt, ...]
    quarantined: tuple[Quarantine, ...]
    waiting: tuple[Waiting, ...]
    skipped: tuple[Skipped, ...]
    rejected: tuple[Rejected, ...]
    breakers: tuple[breakers.BreakerState, ...]
    paused: switch.Pause | None


def unfinished(conn: Connection, day: date) -> Unfinished:
    """What is open now; skipped and rejected are those of the night of `day`."""
    return Unfinished(
        pending=_pending(conn),
        doubts=_doubts(conn),
        quarantined=_quarantined(conn),
        waiting=_waiting(conn),
        skipped=_skipped(conn, day),
        rejected=_rejected(conn, day),
        breakers=tuple(b for b in breakers.breaker_states(conn) if b.state != "closed"),
        paused=switch.paused(conn),
    )


def _pending(conn: Connection) -> tuple[Pending, ...]:
    rows = conn.execute(
        text("""
            select c.provider, e.field, count(distinct e.enrichment_id) as number,
                min(coalesce(c.accepted_at, c.armed_at, c.claimed_at)) as since,
                max(c.deadline_at) as deadline
            from enrichment.enrichments as e
            join enrichment.attempts as a
                on a.enrichment_id = e.enrichment_id and a.outcome = 'pending'
            join enrichment.calls as c on c.call_id = a.call_id
            where e.state = 'pending'
            group by c.provider, e.field
            order by c.provider, e.field
        """)
    )
    return tuple(Pending(**row._mapping) for row in rows)


def _doubts(conn: Connection) -> tuple[Doubt, ...]:
    rows = conn.execute(
        text("""
            select c.provider, c.reason, count(distinct c.call_id) as calls,
                count(distinct l.person_id) as persons,
                sum(l.hold_usd_micro) / 1000000.0 as usd,
                min(c.in_doubt_at) as since, min(c.write_off_at) as written_off_at
            from enrichment.charge_lines as l
            join enrichment.calls as c on c.call_id = l.call_id
            where l.state = 'in_doubt'
            group by c.provider, c.reason
            order by since, c.provider, c.reason
        """)
    )
    return tuple(Doubt(**row._mapping) for row in rows)


def _quarantined(conn: Connection) -> tuple[Quarantine, ...]:
    rows = conn.execute(
        text("""
            select provider, coalesce(reason, '') as reason, count(*) as number,
                max(received_at) as last_at
            from enrichment.inbox
            where state = 'quarantined'
            group by provider, reason
            order by provider, reason
        """)
    )
    return tuple(Quarantine(**row._mapping) for row in rows)


def _waiting(conn: Connection) -> tuple[Waiting, ...]:
    rows = conn.execute(
        text("""
            select next_provider as provider,
                wait_reason as reason, count(*) as number
            from enrichment.enrichments
            where state = 'open' and wait_reason is not null
            group by next_provider, wait_reason
            order by number desc, provider, reason
        """)
    )
    return tuple(Waiting(**row._mapping) for row in rows)


def _skipped(conn: Connection, day: date) -> tuple[Skipped, ...]:
    reasons: dict[str, dict[str, int]] = {}
    for provider, counted in nights.skips(conn, day).items():
        for reason, number in counted.items():
            reasons.setdefault(reason, {})[provider] = number
    skipped = [
        Skipped(reason, dict(sorted(numbers.items(), key=lambda n: (-n[1], n[0]))))
        for reason, numbers in reasons.items()
    ]
    return tuple(sorted(skipped, key=lambda each: (-each.number, each.reason)))


def _rejected(conn: Connection, day: date) -> tuple[Rejected, ...]:
    rows = conn.execute(
        text("""
            select provider, count(*) as number, sum(cost_usd) as usd
            from analytics.fct_rejected_answers
            where partition_date = :day
            group by provider
            order by provider
        """),
        {"day": day},
    )
    return tuple(Rejected(**row._mapping) for row in rows)
