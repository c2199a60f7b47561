"""The scorecard of the providers: what asking each of them was good for, by field and segment.

Recomputed per partition (date, batch), into parts that `analytics.mart_provider_scorecard` adds up.
When is decided by `store/marts.py`.
"""

from collections.abc import Sequence
from datetime import date
from typing import Final

from sqlalchemy import Connection, text

NO_SEGMENT: Final = "(none)"
"""The segment of persons none of whose contacts has one."""

Partition = tuple[date, int]
"""A night's date and a batch of it."""


def partitions_of(conn: Connection, dates: Sequence[date]) -> list[Partition]:
    """Return the partitions of `dates` that asked, or are said to have asked."""
    rows = conn.execute(
        text("""
            select partition_date, batch from enrichment.attempts
            where partition_date = any(cast(:dates as date[]))
            union
            select partition_date, batch from enrichment.scorecard_parts
            where partition_date = any(cast(:dates as date[]))
        """),
        {"dates": list(dates)},
    )
    return [(row.partition_date, row.batch) for row in rows]


def refresh(conn: Connection, partitions: Sequence[Partition]) -> None:
    """Bring the scorecard of `partitions` to what the operational tables say."""
    parameters = {
        "dates": [day for day, _ in partitions],
        "batches": [batch for _, batch in partitions],
        "no_segment": NO_SEGMENT,
    }
    for statement in _STATEMENTS:
        conn.execute(statement, parameters)


_PARTITIONS: Final = """
    unnest(cast(:dates as date[]), cast(:batches as smallint[])) as night (partition_date, batch)
"""


# Gathered into tables of their own and analyzed: joins of guesses end in loops over loops (two
# minutes instead of half a second for 20,000 attempts, measured).
_STATEMENTS: Final = tuple(
    text(statement)
    for statement in (
        # One process at a time refreshes, so that it may take memory: a third faster, measured.
        "set local work_mem = '64MB'",
        "drop table if exists scored_attempts, scored_persons, scored_values",
        f"""
        create temp table scored_attempts on commit drop as
        select
            a.attempt_id, a.partition_date, a.batch, a.provider, a.field, a.line_id, a.is_verified,
            a.cost_micro, a.cost_usd_micro, a.outcome = 'found' as is_found,
            coalesce(p.merged_into, a.person_id) as person_id
        from {_PARTITIONS}
        join enrichment.attempts as a
            on a.partition_date = night.partition_date and a.batch = night.batch
        left join enrichment.persons as p
            on p.person_id = a.person_id and p.merged_into is not null
        where a.outcome <> 'reused'
        """,  # noqa: S608  (a fragment of our own)
        """
        create temp table scored_persons on commit drop as
        select distinct person_id from scored_attempts
        """,
        "analyze scored_attempts",
        "analyze scored_persons",
        """
        create temp table scored_values on commit drop as
        select
            o.person_id, o.line_id, o.provider, c.partition_date,
            case
                when o.attribute in ('work_email', 'phone', 'personal_email') then o.attribute
                else 'profile'
            end as field,
            o.won_at is not null as has_won,
            o.status <> 'invalid' and o.rejected_reason is distinct from 'other_person'
                as is_usable
        from scored_persons as p
        -- Person by person, by what `offset 0` keeps apart: for many persons of a night the planner
        -- would rather read every observation there is (three times as long, measured).
        cross join lateral (
            select * from enrichment.observations as seen
            where seen.person_id = p.person_id offset 0) as o
        join enrichment.calls as c on c.call_id = o.call_id
        """,
        "analyze scored_values",
        f"""
        with segments as (
            select distinct on (c.person_id) c.person_id, c.segment
            from scored_persons as p
            join enrichment.contacts as c on c.person_id = p.person_id
            where c.segment is not null and c.removed_at is null
            order by c.person_id, c.contact_id
        ), winning as (
            select distinct line_id, field from scored_values where has_won
        ), known_elsewhere as (
            select a.attempt_id
            from scored_attempts as a
            where a.is_found and exists (
                select from scored_values as v
                where v.person_id = a.person_id and v.field = a.field and v.is_usable
                  and v.provider <> a.provider and v.partition_date <= a.partition_date)
        ), figures as (
            select
                a.partition_date,
                a.batch,
                a.provider,
                a.field,
                coalesce(s.segment, :no_segment) as segment,
                count(*) as asked,
                count(*) filter (where a.is_found) as found,
                count(*) filter (where a.is_found and a.is_verified) as verified,
                count(*) filter (where w.line_id is not null) as won,
                count(*) filter (where a.is_found and k.attempt_id is null) as found_alone,
                sum(a.cost_micro) as micro,
                sum(a.cost_usd_micro) as usd_micro,
                coalesce(sum(a.cost_usd_micro) filter (where any_field.line_id is null), 0)
                    as idle_usd_micro
            from scored_attempts as a
            left join segments as s on s.person_id = a.person_id
            left join winning as w on w.line_id = a.line_id and w.field = a.field
            left join (select distinct line_id from winning) as any_field
                on any_field.line_id = a.line_id
            left join known_elsewhere as k on k.attempt_id = a.attempt_id
            group by
                a.partition_date, a.batch, a.provider, a.field, coalesce(s.segment, :no_segment)
        ), removed as (
            delete from enrichment.scorecard_parts as part
            using {_PARTITIONS}
            where (part.partition_date, part.batch) = (night.partition_date, night.batch)
              and not exists (
                select from figures as f
                where (f.partition_date, f.batch, f.provider, f.field, f.segment)
                    = (part.partition_date, part.batch, part.provider, part.field, part.segment))
        )
        insert into enrichment.scorecard_parts as part
            (partition_date, batch, provider, field, segment, asked, found, verified, won,
             found_alone, micro, usd_micro, idle_usd_micro)
        select * from figures
        on conflict (partition_date, batch, provider, field, segment) do update set
            asked = excluded.asked,
            found = excluded.found,
            verified = excluded.verified,
            won = excluded.won,
            found_alone = excluded.found_alone,
            micro = excluded.micro,
            usd_micro = excluded.usd_micro,
            idle_usd_micro = excluded.idle_usd_micro
        where part is distinct from excluded
        """,  # noqa: S608  (a fragment of our own)
    )
)
