"""A night seen from outside: how far it is, what it leaves open, what the marts say of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the plan rows (contact, field) of some batches of a night stand now.

    `pending` and `in_doubt` count (person, field) of rows that wait; `spent_usd_micro` is what the
    ledger posted for these batches since the beginning.
    """

    planned: int
    waiting: int
    pending: int
    in_doubt: int
    waiting_for: Mapping[str, int]
    calls: int
    spent_usd_micro: int

    @property
    def closed(self) -> int:
        return self.planned - self.waiting


def progress(connection: Connection, day: date, batches: Sequence[int]) -> Progress:
    """Progress of `batches` of the night of `day`; all zero while it has no plan."""
    keys = {"day": day, "batches": list(batches)}
    row = (
        connection.execute(
            text("""
                select
                    plan.planned, plan.waiting, live.pending, live.in_doubt,
                    (
                        select count(*) from enrichment.calls
                        where partition_date = :day and sends > 0
                        and batch = any(cast(:batches as smallint[]))
                    ) as calls,
                    (
                        select coalesce(sum(
                            case when debit.kind = 'spent' then l.amount_usd_micro else 0 end
                            - case when credit.kind = 'spent' then l.amount_usd_micro else 0 end
                        ), 0)
                        from enrichment.ledger_entries as l
                        join enrichment.accounts as debit on debit.account_id = l.debit_account
                        join enrichment.accounts as credit on credit.account_id = l.credit_account
                        where l.partition_date = :day
                        and l.batch = any(cast(:batches as smallint[]))
                    ) as spent_usd_micro
                from (
                    select
                        count(*) as planned,
                        count(*) filter (where state = 'waiting') as waiting
                    from enrichment.plan_rows
                    where partition_date = :day
                    and batch = any(cast(:batches as smallint[]))
                ) as plan
                cross join (
                    select
                        count(*) filter (where e.state = 'pending') as pending,
                        count(*) filter (where e.state = 'in_doubt') as in_doubt
                    from enrichment.enrichments as e
                    where e.state in ('pending', 'in_doubt')
                    and exists (
                        select
                        from (
                            select e.person_id
                            union all
                            select merged.person_id from enrichment.persons as merged
                            where merged.merged_into = e.person_id
                        ) as member
                        join enrichment.plan_rows as r
                            on r.person_id = member.person_id and r.field = e.field
                        where r.partition_date = :day and r.state = 'waiting'
                        and r.batch = any(cast(:batches as smallint[]))
                    )
                ) as live
            """),
            keys,
        )
        .mappings()
        .one()
    )
    reasons = connection.execute(
        text("""
            select e.wait_reason as reason, count(distinct (e.person_id, e.field)) as number
            from enrichment.plan_rows as plan
            join enrichment.persons as person on person.person_id = plan.person_id
            join enrichment.enrichments as e
                on e.person_id = coalesce(person.merged_into, plan.person_id)
                and e.field = plan.field and e.state = 'open'
            where plan.partition_date = :day and plan.state = 'waiting'
            and plan.batch = any(cast(:batches as smallint[])) and e.wait_reason is not null
            group by 1
            order by 1
        """),
        keys,
    )
    return Progress(
        planned=row["planned"],
        waiting=row["waiting"],
        pending=row["pending"],
        in_doubt=row["in_doubt"],
        waiting_for={each.reason: each.number for each in reasons},
        calls=row["calls"],
        spent_usd_micro=int(row["spent_usd_micro"]),
    )


def provider_day(connection: Connection, day: date) -> list[dict[str, Any]]:
    """Rows of the mart of `day`, one per provider and field."""
    rows = connection.execute(
        text("""
            select provider, field, attempts, found, not_found, verified, reused,
                spend_micro_credits, spend_usd, usd_per_found
            from analytics.mart_provider_daily
            where date = :day
            order by provider, field
        """),
        {"day": day},
    )
    return [dict(row) for row in rows.mappings()]


def refresh_day(connection: Connection, day: date) -> dict[str, Any] | None:
    """The row of the mart of `day`; None while nothing was published for it."""
    row = (
        connection.execute(
            text("select * from analytics.mart_refresh_daily where date = :day"), {"day": day}
        )
        .mappings()
        .one_or_none()
    )
    return None if row is None else dict(row)


def skips(connection: Connection, day: date) -> dict[str, dict[str, int]]:
    """How many (person, field) each provider was not asked for on `day`, by reason."""
    rows = connection.execute(
        text("""
            select provider, reason, count(*) as number
            from analytics.fct_skips
            where partition_date = :day
            group by provider, reason
            order by provider, reason
        """),
        {"day": day},
    )
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        found.setdefault(row.provider, {})[row.reason] = row.number
    return found


def spend_differences(connection: Connection, day: date) -> list[tuple[str, int, int]]:
    """Providers whose spend of `day` in the mart is not what the ledger posted: both figures."""
    rows = connection.execute(
        text("""
            with posted as (
                select
                    l.provider,
                    sum(
                        case when debit.kind = 'spent' then l.amount_micro else 0 end
                        - case when credit.kind = 'spent' then l.amount_micro else 0 end
                    ) as micro
                from enrichment.ledger_entries as l
                join enrichment.accounts as debit on debit.account_id = l.debit_account
                join enrichment.accounts as credit on credit.account_id = l.credit_account
                where l.partition_date = :day
                group by l.provider
            ),
            shown as (
                select provider, sum(spend_micro_credits) as micro
                from analytics.mart_provider_daily
                where date = :day
                group by provider
            )
            select
                provider,
                coalesce(shown.micro, 0) as shown,
                coalesce(posted.micro, 0) as posted
            from shown full join posted using (provider)
            where coalesce(shown.micro, 0) <> coalesce(posted.micro, 0)
            order by provider
        """),
        {"day": day},
    )
    return [(row.provider, int(row.shown), int(row.posted)) for row in rows]


def usd(micro: int) -> Decimal:
    """Micro-USD in dollars."""
    return Decimal(micro) / 1_000_000
