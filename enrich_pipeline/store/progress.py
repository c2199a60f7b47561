"""Where a stage or a partition stands: counts for progress displays and metadata."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class StageMoney:
    """Attempts still without an answer, in (person, field), and what is held for them."""

    pending: int
    in_doubt: int
    held_micro: int


def stage_money(conn: Connection, day: date, batch: int, provider: str) -> StageMoney:
    """One provider in one partition."""
    row = conn.execute(
        text("""
            -- Only calls that are under way have anything open: these few, not all of a night.
            WITH live AS (
                SELECT call_id FROM enrichment.calls
                WHERE partition_date = :day AND batch = :batch AND provider = :provider
                  AND state IN ('reserved', 'sending', 'responded', 'accepted', 'in_doubt')
            )
            SELECT (SELECT count(*) FROM live JOIN enrichment.attempts AS a USING (call_id)
                    WHERE a.outcome = 'pending') AS pending,
                   (SELECT count(*) FROM live JOIN enrichment.attempts AS a USING (call_id)
                    WHERE a.outcome = 'in_doubt') AS in_doubt,
                   (SELECT coalesce(sum(l.hold_micro), 0)
                    FROM live JOIN enrichment.charge_lines AS l USING (call_id)
                    WHERE l.state = 'held') AS held_micro
        """),
        {"day": day, "batch": batch, "provider": provider},
    ).one()
    return StageMoney(int(row.pending), int(row.in_doubt), int(row.held_micro))


@dataclass(frozen=True, slots=True)
class PartitionFigures:
    """Where one partition stands since its beginning, whichever runs did it.

    `contacts`, `planned` and `waiting` are of its plan, in contacts and in (contact, field);
    `calls` were sent; `attempts` to `in_doubt` count (person, field). Money is in micro-USD;
    `spent_micro` by provider in micro-credits of its unit.
    """

    contacts: int
    planned: int
    waiting: int
    calls: int
    attempts: int
    found: int
    not_found: int
    reused: int
    pending: int
    in_doubt: int
    entries: int
    spent_usd_micro: int
    held_usd_micro: int
    in_doubt_usd_micro: int
    spent_micro: Mapping[str, int]


def partition_figures(conn: Connection, day: date, batch: int) -> PartitionFigures:
    """One (date, batch); all zero while nothing was planned for it."""
    keys = {"day": day, "batch": batch}
    row = (
        conn.execute(
            text("""
                select
                    p.*, a.*, l.*,
                    (select count(*) from enrichment.calls
                     where partition_date = :day and batch = :batch and sends > 0) as calls
                from (
                    select
                        count(distinct contact_id) as contacts,
                        count(*) as planned,
                        count(*) filter (where state = 'waiting') as waiting
                    from enrichment.plan_rows where partition_date = :day and batch = :batch
                ) as p
                cross join (
                    select
                        count(*) filter (where outcome <> 'reused') as attempts,
                        count(*) filter (where outcome = 'found') as found,
                        count(*) filter (where outcome in ('not_found', 'other_person'))
                            as not_found,
                        count(*) filter (where outcome = 'reused') as reused,
                        count(*) filter (where outcome = 'pending') as pending,
                        count(*) filter (where outcome = 'in_doubt') as in_doubt
                    from enrichment.attempts where partition_date = :day and batch = :batch
                ) as a
                cross join (
                    select
                        count(*) as entries,
                        coalesce(sum(usd) filter (where kind = 'spent'), 0)::bigint
                            as spent_usd_micro,
                        coalesce(sum(usd) filter (where kind = 'held'), 0)::bigint
                            as held_usd_micro,
                        coalesce(sum(usd) filter (where kind = 'in_doubt'), 0)::bigint
                            as in_doubt_usd_micro
                    from enrichment.ledger_entries as e
                    cross join lateral (values
                        (e.debit_account, e.amount_usd_micro),
                        (e.credit_account, -e.amount_usd_micro)
                    ) as side (account_id, usd)
                    join enrichment.accounts using (account_id)
                    where e.partition_date = :day and e.batch = :batch
                ) as l
            """),
            keys,
        )
        .mappings()
        .one()
    )
    spent = conn.execute(
        text("""
            select l.provider,
                sum(case when debit.kind = 'spent' then l.amount_micro else 0 end
                    - case when credit.kind = 'spent' then l.amount_micro else 0 end) as micro
            from enrichment.ledger_entries as l
            join enrichment.accounts as debit on debit.account_id = l.debit_account
            join enrichment.accounts as credit on credit.account_id = l.credit_account
            where l.partition_date = :day and l.batch = :batch
              and 'spent' in (debit.kind, credit.kind)
            group by l.provider order by l.provider
        """),
        keys,
    )
    # Two sides of every entry were counted.
    return PartitionFigures(
        **{**row, "entries": row["entries"] // 2},
        spent_micro={each.provider: int(each.micro) for each in spent},
    )
