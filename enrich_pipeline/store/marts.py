"""The daily marts: what a night bought from whom, and what it made of the contacts.

Recomputed per date from the operational tables, as often as anybody likes: the same rows in, the
same rows out. A mart's date is the partition date. When to refresh them is decided by the callers.
"""

from collections.abc import Sequence
from datetime import date

from sqlalchemy import Connection, text

from enrich_pipeline.store import locks, scorecard
from enrich_pipeline.store.scorecard import Partition

UNASSIGNED = "unassigned"
"""The field of cost that a provider charged and that belongs to no charge line."""

_SPENT = """
    select
        l.partition_date,
        l.provider,
        sum(case when debit.kind = 'spent' then l.amount_micro else 0 end
            - case when credit.kind = 'spent' then l.amount_micro else 0 end) as micro,
        sum(case when debit.kind = 'spent' then l.amount_usd_micro else 0 end
            - case when credit.kind = 'spent' then l.amount_usd_micro else 0 end) as usd_micro
    from enrichment.ledger_entries as l
    join enrichment.accounts as debit on debit.account_id = l.debit_account
    join enrichment.accounts as credit on credit.account_id = l.credit_account
    where l.partition_date = any(cast(:dates as date[]))
      and 'spent' in (debit.kind, credit.kind)
    group by l.partition_date, l.provider
"""


def take_dirty(conn: Connection, day: date, batch: int) -> list[Partition]:
    """Return the partitions that money or winners touched since they were last refreshed.

    Those with open work, but for (day, batch), are left to the run that will publish them. The
    marks of those returned are deleted: refresh them before the transaction ends. Waits for
    transactions that mark the same partitions, so that what they posted is seen by the refresh.
    """
    locks.hold(conn, locks.MARTS)
    rows = conn.execute(
        text("""
            delete from enrichment.mart_dirty_partitions as m
            where (m.partition_date, m.batch) = (:day, :batch) or not exists (
                select from enrichment.enrichments as e
                where e.state = 'open'
                  and (e.partition_date, e.batch) = (m.partition_date, m.batch))
            returning m.partition_date, m.batch
        """),
        {"day": day, "batch": batch},
    )
    return sorted((row.partition_date, row.batch) for row in rows)


def refresh(
    conn: Connection, dates: Sequence[date], partitions: Sequence[Partition] | None = None
) -> None:
    """Bring the marts of `dates` to what the operational tables say now.

    With `partitions` the scorecard only of these: it is what takes time, and the other batches of
    a night do not change it. One process at a time: a second one waits, and then sees what the
    first one saw and more.
    """
    if not dates:
        return
    locks.hold(conn, locks.MARTS)
    _refresh_provider_daily(conn, dates)
    _refresh_refresh_daily(conn, dates)
    if partitions is None:
        partitions = scorecard.partitions_of(conn, dates)
    scorecard.refresh(conn, partitions)


def _refresh_provider_daily(conn: Connection, dates: Sequence[date]) -> None:
    conn.execute(
        text(f"""
            with spent as (
                {_SPENT}
            ), asked as (
                select
                    partition_date,
                    provider,
                    field,
                    count(*) filter (where outcome <> 'reused') as attempts,
                    count(*) filter (where outcome = 'found') as found,
                    count(*) filter (where outcome in ('not_found', 'other_person')) as not_found,
                    count(*) filter (where outcome = 'found' and is_verified) as verified,
                    count(*) filter (where outcome = 'reused') as reused,
                    sum(cost_micro) as micro,
                    sum(cost_usd_micro) as usd_micro
                from enrichment.attempts
                where partition_date = any(cast(:dates as date[]))
                group by partition_date, provider, field
            ), explained as (
                select partition_date, provider, sum(micro) as micro, sum(usd_micro) as usd_micro
                from asked group by partition_date, provider
            ), figures as (
                select * from asked
                union all
                select
                    partition_date, provider, :unassigned, 0, 0, 0, 0, 0,
                    coalesce(s.micro, 0) - coalesce(e.micro, 0),
                    coalesce(s.usd_micro, 0) - coalesce(e.usd_micro, 0)
                from spent as s full join explained as e using (partition_date, provider)
                where (coalesce(s.micro, 0), coalesce(s.usd_micro, 0))
                      <> (coalesce(e.micro, 0), coalesce(e.usd_micro, 0))
            ), removed as (
                delete from analytics.mart_provider_daily as m
                where m.date = any(cast(:dates as date[])) and not exists (
                    select from figures as f
                    where (f.partition_date, f.provider, f.field) = (m.date, m.provider, m.field))
            )
            insert into analytics.mart_provider_daily as m
                (date, provider, field, attempts, found, not_found, verified, reused,
                 spend_micro_credits, spend_usd, usd_per_found)
            select
                partition_date, provider, field, attempts, found, not_found, verified, reused,
                micro, usd_micro / 1000000.0, usd_micro / 1000000.0 / nullif(found, 0)
            from figures
            on conflict (date, provider, field) do update set
                attempts = excluded.attempts,
                found = excluded.found,
                not_found = excluded.not_found,
                verified = excluded.verified,
                reused = excluded.reused,
                spend_micro_credits = excluded.spend_micro_credits,
                spend_usd = excluded.spend_usd,
                usd_per_found = excluded.usd_per_found
            where m is distinct from excluded
        """),  # noqa: S608  (a fragment of our own)
        {"dates": list(dates), "unassigned": UNASSIGNED},
    )


def _refresh_refresh_daily(conn: Connection, dates: Sequence[date]) -> None:
    conn.execute(
        text(f"""
            with spent as (
                {_SPENT}
            ), money as (
                select partition_date, sum(usd_micro) as usd_micro
                from spent group by partition_date
            ), closed as (
                select
                    partition_date,
                    count(distinct contact_id) as contacts,
                    count(*) filter (where state = 'reused' or result = 'found') as filled
                from enrichment.plan_rows
                where partition_date = any(cast(:dates as date[])) and state in ('done', 'reused')
                group by partition_date
            ), reuse as (
                select partition_date, count(*) as reused
                from enrichment.attempts
                where partition_date = any(cast(:dates as date[])) and outcome = 'reused'
                group by partition_date
            ), live as (
                select
                    partition_date,
                    count(*) filter (where state = 'pending') as pending,
                    count(*) filter (where state = 'in_doubt') as in_doubt
                from enrichment.enrichments
                where state in ('open', 'pending', 'in_doubt')
                  and partition_date = any(cast(:dates as date[]))
                group by partition_date
            ), coverage as (
                select
                    n.partition_date,
                    n.contacts_stale,
                    c.field,
                    c.before,
                    c.after
                from enrichment.plan_nights as n
                cross join lateral (
                    select
                        b.key as field,
                        (b.value ->> 'filled')::numeric
                            / nullif((b.value ->> 'contacts')::numeric, 0) as before,
                        (a.value ->> 'filled')::numeric
                            / nullif((a.value ->> 'contacts')::numeric, 0) as after
                    from jsonb_each(n.coverage_before) as b
                    left join jsonb_each(n.coverage_after) as a on a.key = b.key
                ) as c
                where n.partition_date = any(cast(:dates as date[]))
            ), covered as (
                select
                    partition_date,
                    max(before) filter (where field = 'work_email') as work_email_before,
                    max(after) filter (where field = 'work_email') as work_email_after,
                    max(before) filter (where field = 'phone') as phone_before,
                    max(after) filter (where field = 'phone') as phone_after,
                    max(before) filter (where field = 'personal_email') as personal_email_before,
                    max(after) filter (where field = 'personal_email') as personal_email_after,
                    max(before) filter (where field = 'profile') as profile_before,
                    max(after) filter (where field = 'profile') as profile_after
                from coverage
                group by partition_date
            )
            insert into analytics.mart_refresh_daily as m
                (date, contacts_stale, contacts_refreshed, fields_filled, reused,
                 work_email_coverage_before, work_email_coverage_after,
                 phone_coverage_before, phone_coverage_after,
                 personal_email_coverage_before, personal_email_coverage_after,
                 profile_coverage_before, profile_coverage_after,
                 spend_usd, pending, in_doubt)
            select
                n.partition_date,
                n.contacts_stale,
                coalesce(closed.contacts, 0),
                coalesce(closed.filled, 0),
                coalesce(reuse.reused, 0),
                v.work_email_before, v.work_email_after,
                v.phone_before, v.phone_after,
                v.personal_email_before, v.personal_email_after,
                v.profile_before, v.profile_after,
                coalesce(money.usd_micro, 0) / 1000000.0,
                coalesce(live.pending, 0),
                coalesce(live.in_doubt, 0)
            from enrichment.plan_nights as n
            left join closed using (partition_date)
            left join reuse using (partition_date)
            left join live using (partition_date)
            left join money using (partition_date)
            left join covered as v using (partition_date)
            where n.partition_date = any(cast(:dates as date[]))
            on conflict (date) do update set
                contacts_stale = excluded.contacts_stale,
                contacts_refreshed = excluded.contacts_refreshed,
                fields_filled = excluded.fields_filled,
                reused = excluded.reused,
                work_email_coverage_before = excluded.work_email_coverage_before,
                work_email_coverage_after = excluded.work_email_coverage_after,
                phone_coverage_before = excluded.phone_coverage_before,
                phone_coverage_after = excluded.phone_coverage_after,
                personal_email_coverage_before = excluded.personal_email_coverage_before,
                personal_email_coverage_after = excluded.personal_email_coverage_after,
                profile_coverage_before = excluded.profile_coverage_before,
                profile_coverage_after = excluded.profile_coverage_after,
                spend_usd = excluded.spend_usd,
                pending = excluded.pending,
                in_doubt = excluded.in_doubt
            where m is distinct from excluded
        """),  # noqa: S608  (a fragment of our own)
        {"dates": list(dates)},
    )
