"""The scorecard of the providers: what asking each of them was good for, by field and segment.

Recomputed per date, as the marts of `store/marts.py`, which decides when.
"""

from collections.abc import Sequence
from datetime import date
from typing import Final

from sqlalchemy import Connection, text

NO_SEGMENT: Final = "(none)"
"""The segment of persons none of whose contacts has one."""


def refresh(conn: Connection, dates: Sequence[date]) -> None:
    """Bring `analytics.mart_provider_scorecard` of `dates` to what the operational tables say."""
    for statement in _STATEMENTS:
        conn.execute(statement, {"dates": list(dates), "no_segment": NO_SEGMENT})


# Gathered into tables of their own and analyzed: joins of guesses end in loops over loops (two
# minutes instead of half a second for 20,000 attempts, measured).
_STATEMENTS: Final = tuple(
    text(statement)
    for statement in (
        "drop table if exists scored_attempts, scored_persons, scored_values",
        """
        create temp table scored_attempts on commit drop as
        select
            a.partition_date, a.provider, a.field, a.line_id, a.is_verified, a.cost_micro,
            a.cost_usd_micro, a.outcome = 'found' as is_found,
            coalesce(p.merged_into, a.person_id) as person_id
        from enrichment.attempts as a
        left join enrichment.persons as p
            on p.person_id = a.person_id and p.merged_into is not null
        where a.partition_date = any(cast(:dates as date[])) and a.outcome <> 'reused'
        """,
        """
        create temp table scored_persons on commit drop as
        select distinct person_id from scored_attempts
        """,
        "analyze scored_attempts",
        "analyze scored_persons",
        # Per person, reply and field: whether a value of it ever won, and whether it could have.
        """
        create temp table scored_values on commit drop as
        select
            o.person_id, o.line_id, f.field, o.provider,
            min(c.partition_date) as partition_date,
            bool_or(o.won_at is not null) as has_won,
            bool_or(o.status <> 'invalid'
                    and o.rejected_reason is distinct from 'other_person') as is_usable
        from scored_persons as p
        join enrichment.observations as o on o.person_id = p.person_id
        join enrichment.calls as c on c.call_id = o.call_id
        cross join lateral (select case
            when o.attribute in ('work_email', 'phone', 'personal_email') then o.attribute
            else 'profile'
        end as field) as f
        group by o.person_id, o.line_id, f.field, o.provider
        """,
        "analyze scored_values",
        """
        with segments as (
            select distinct on (c.person_id) c.person_id, c.segment
            from scored_persons as p
            join enrichment.contacts as c on c.person_id = p.person_id
            where c.segment is not null and c.removed_at is null
            order by c.person_id, c.contact_id
        ), winning as (
            select distinct line_id from scored_values where has_won
        ), known as (
            select person_id, field, provider, min(partition_date) as since
            from scored_values
            where is_usable
            group by person_id, field, provider
        ), first_known as (
            select
                person_id,
                field,
                (array_agg(provider order by since, provider))[1] as provider,
                (array_agg(since order by since, provider))[1] as since,
                (array_agg(since order by since, provider))[2] as second_since
            from known
            group by person_id, field
        ), figures as (
            select
                a.partition_date,
                a.provider,
                a.field,
                coalesce(s.segment, :no_segment) as segment,
                count(*) as asked,
                count(*) filter (where a.is_found) as found,
                count(*) filter (where a.is_found and a.is_verified) as verified,
                count(*) filter (where v.has_won) as won,
                count(*) filter (where a.is_found and coalesce(
                    case when k.provider = a.provider then k.second_since else k.since end
                        > a.partition_date,
                    true)) as found_alone,
                sum(a.cost_micro) as micro,
                sum(a.cost_usd_micro) as usd_micro,
                coalesce(sum(a.cost_usd_micro) filter (where w.line_id is null), 0)
                    as idle_usd_micro
            from scored_attempts as a
            left join segments as s on s.person_id = a.person_id
            left join winning as w on w.line_id = a.line_id
            left join scored_values as v on v.line_id = a.line_id and v.field = a.field
            left join first_known as k on k.person_id = a.person_id and k.field = a.field
            group by a.partition_date, a.provider, a.field, coalesce(s.segment, :no_segment)
        ), removed as (
            delete from analytics.mart_provider_scorecard as m
            where m.date = any(cast(:dates as date[])) and not exists (
                select from figures as f
                where (f.partition_date, f.provider, f.field, f.segment)
                    = (m.date, m.provider, m.field, m.segment))
        )
        insert into analytics.mart_provider_scorecard as m
            (date, provider, field, segment, asked, found, verified, won, found_alone,
             spend_micro_credits, spend_usd, usd_per_verified, spend_usd_never_won)
        select
            partition_date, provider, field, segment, asked, found, verified, won, found_alone,
            micro, usd_micro / 1000000.0, usd_micro / 1000000.0 / nullif(verified, 0),
            idle_usd_micro / 1000000.0
        from figures
        on conflict (date, provider, field, segment) do update set
            asked = excluded.asked,
            found = excluded.found,
            verified = excluded.verified,
            won = excluded.won,
            found_alone = excluded.found_alone,
            spend_micro_credits = excluded.spend_micro_credits,
            spend_usd = excluded.spend_usd,
            usd_per_verified = excluded.usd_per_verified,
            spend_usd_never_won = excluded.spend_usd_never_won
        where m is distinct from excluded
        """,
    )
)
