"""What one night did and what it cost, read from the tables: the same rows in, the same page out.

What is still open is in `unfinished.py`. Amounts are exact dollars.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from sqlalchemy import Connection, text

from enrich_pipeline.domain.policy import Policy
from enrich_pipeline.store import nights
from enrich_pipeline.store.coverage import FIELDS_OF_CONTACT, fields_json

WINDOW_DAYS = 30
SHOWN_CHANGES = 20


@dataclass(frozen=True, slots=True)
class Night:
    """One night as a whole.

    `values` and `filled` count (contact, field), `reused` (person, field); the rest are contacts.
    `open_values` are the planned (contact, field) that a later run continues.
    """

    day: date
    planned_at: datetime
    contacts: int
    stale: int
    cap: int
    planned: int
    values: int
    refreshed: int
    filled: int
    reused: int
    open_values: int
    spend_usd: Decimal


@dataclass(frozen=True, slots=True)
class FieldCoverage:
    """Shares of all contacts, 0 to 1; `after` is None while the night has open work."""

    field: str
    before: Decimal | None
    after: Decimal | None


@dataclass(frozen=True, slots=True)
class Step:
    """One provider's turn in the waterfall of one field; counts (person, field).

    `unanswered` were asked and are still out, in doubt, or came back as an error.
    """

    field: str
    position: int
    provider: str
    asked: int
    found: int
    verified: int
    not_found: int
    unanswered: int
    reused: int
    cost_usd: Decimal


@dataclass(frozen=True, slots=True)
class SpendDay:
    """A UTC day's money: `open_usd` is held or in doubt, `cap_usd` None on a day without calls."""

    day: date
    spent_usd: Decimal
    open_usd: Decimal
    cap_usd: Decimal | None


@dataclass(frozen=True, slots=True)
class ProviderCost:
    """What a provider's answers cost in the night and in the days up to it; counts attempts.

    `window_alone` were found by nobody else; `window_unused_usd` bought nothing that ever became
    the value of a contact.
    """

    provider: str
    spend_usd: Decimal
    verified: int
    window_spend_usd: Decimal
    window_found: int
    window_verified: int
    window_alone: int
    window_unused_usd: Decimal

    @property
    def window_usd_per_verified(self) -> Decimal | None:
        return per(self.window_spend_usd, self.window_verified)


@dataclass(frozen=True, slots=True)
class FieldAges:
    """How old the contacts' values of a field are; all counts add up to the contacts.

    `ages` are those up to 30 days, 31 to 90, 91 to 180, and older; `undated` have a value of
    unknown age. `stale` is what the settings call so, whatever the bucket.
    """

    field: str
    stale_after_days: int
    ages: tuple[int, int, int, int]
    undated: int
    missing: int
    stale: int

    @property
    def fresh(self) -> int:
        return sum(self.ages) + self.undated + self.missing - self.stale


@dataclass(frozen=True, slots=True)
class JobChange:
    """A contact that was found at another company; `is_reachable`: a work e-mail there is known."""

    contact_id: str
    old_company: str
    new_company: str
    segment: str | None
    source: str
    is_reachable: bool


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that the page says about the night itself."""

    night: Night
    coverage: tuple[FieldCoverage, ...]
    steps: tuple[Step, ...]
    unassigned_usd: Decimal
    spend_days: tuple[SpendDay, ...]
    providers: tuple[ProviderCost, ...]
    ages: tuple[FieldAges, ...]
    job_changes: int
    shown_job_changes: tuple[JobChange, ...]

    @property
    def asked(self) -> int:
        return sum(step.asked for step in self.steps)

    @property
    def found(self) -> int:
        return sum(step.found for step in self.steps)

    @property
    def verified(self) -> int:
        return sum(step.verified for step in self.steps)

    @property
    def today(self) -> SpendDay:
        """The night's own day among the `spend_days`."""
        return self.spend_days[-1]


def last_night(conn: Connection) -> date | None:
    """The latest date that has a plan; None where no night was ever planned."""
    found: date | None = conn.execute(
        text("select max(partition_date) from enrichment.plan_nights")
    ).scalar_one()
    return found


def figures(conn: Connection, policy: Policy, day: date, now: datetime) -> Figures | None:
    """Everything about the night of `day`, ages as of `now`; None where none was planned."""
    night = _night(conn, day)
    if night is None:
        return None
    order = {name.value: place for place, name in enumerate(policy.fields)}
    steps = _steps(conn, day)
    return Figures(
        night=night,
        coverage=_coverage(nights.refresh_day(conn, day) or {}, policy),
        steps=tuple(
            sorted(steps, key=lambda s: (order.get(s.field, len(order)), s.position, s.provider))
        ),
        unassigned_usd=_unassigned(conn, day),
        spend_days=_spend_days(conn, day),
        providers=_providers(conn, day),
        ages=_ages(conn, policy, now),
        job_changes=_job_changes(conn, day),
        shown_job_changes=_shown_job_changes(conn, day),
    )


def per(usd: Decimal, number: int) -> Decimal | None:
    """Dollars for each; None where there is none."""
    return usd / number if number else None


def _night(conn: Connection, day: date) -> Night | None:
    row = conn.execute(
        text("""
            select
                n.partition_date as day, n.planned_at, n.contacts_cap as cap,
                n.contacts_stale as stale,
                coalesce((select max((each.value ->> 'contacts')::bigint)
                          from jsonb_each(n.coverage_before) as each), 0) as contacts,
                planned.contacts as planned, planned.number as values,
                planned.open as open_values,
                coalesce(m.contacts_refreshed, 0) as refreshed,
                coalesce(m.fields_filled, 0) as filled,
                coalesce(m.reused, 0) as reused,
                coalesce(m.spend_usd, 0) as spend_usd
            from enrichment.plan_nights as n
            cross join lateral (
                select count(distinct contact_id) as contacts, count(*) as number,
                    count(*) filter (where state = 'waiting') as open
                from enrichment.plan_rows where partition_date = n.partition_date
            ) as planned
            left join analytics.mart_refresh_daily as m on m.date = n.partition_date
            where n.partition_date = :day
        """),
        {"day": day},
    ).one_or_none()
    return None if row is None else Night(**row._mapping)


def _coverage(mart: Mapping[str, Decimal | None], policy: Policy) -> tuple[FieldCoverage, ...]:
    return tuple(
        FieldCoverage(name, mart.get(f"{name}_coverage_before"), mart.get(f"{name}_coverage_after"))
        for name in policy.fields
    )


def _steps(conn: Connection, day: date) -> list[Step]:
    rows = conn.execute(
        text("""
            select
                m.field, coalesce(a.position, 0) as position, m.provider, m.attempts as asked,
                m.found, m.verified, m.not_found,
                m.attempts - m.found - m.not_found as unanswered, m.reused,
                m.spend_usd as cost_usd
            from analytics.mart_provider_daily as m
            left join (
                select field, provider, min(waterfall_position) as position
                from analytics.fct_enrichment_attempts
                where partition_date = :day
                group by field, provider
            ) as a using (field, provider)
            where m.date = :day and m.field <> 'unassigned'
        """),
        {"day": day},
    )
    return [Step(**row._mapping) for row in rows]


def _unassigned(conn: Connection, day: date) -> Decimal:
    """Cost that providers charged and that belongs to no field."""
    usd: Decimal = conn.execute(
        text("""
            select coalesce(sum(spend_usd), 0) from analytics.mart_provider_daily
            where date = :day and field = 'unassigned'
        """),
        {"day": day},
    ).scalar_one()
    return usd


def _spend_days(conn: Connection, day: date) -> tuple[SpendDay, ...]:
    rows = conn.execute(
        text("""
            select
                d.day::date as day,
                coalesce(b.spent + b.overage, 0) / 1000000.0 as spent_usd,
                coalesce(b.held + b.in_doubt, 0) / 1000000.0 as open_usd,
                b.cap / 1000000.0 as cap_usd
            from generate_series(cast(:first as timestamp), cast(:day as timestamp), '1 day')
                as d(day)
            left join enrichment.budgets as b
                on b.scope = 'night' and b.key = 'all' and b.day = d.day::date
            order by d.day
        """),
        {"first": day - timedelta(days=WINDOW_DAYS - 1), "day": day},
    )
    return tuple(SpendDay(**row._mapping) for row in rows)


def _providers(conn: Connection, day: date) -> tuple[ProviderCost, ...]:
    rows = conn.execute(
        text("""
            with daily as (
                select
                    provider,
                    coalesce(sum(spend_usd) filter (where date = :day), 0) as spend_usd,
                    coalesce(sum(verified) filter (where date = :day), 0)::bigint as verified,
                    sum(spend_usd) as window_spend_usd,
                    sum(found)::bigint as window_found,
                    sum(verified)::bigint as window_verified
                from analytics.mart_provider_daily
                where date between :first and :day
                group by provider
                having sum(attempts) > 0 or sum(spend_usd) > 0
            ), scores as (
                select provider, sum(found_alone)::bigint as window_alone,
                    sum(spend_usd_never_won) as window_unused_usd
                from analytics.mart_provider_scorecard
                where date between :first and :day
                group by provider
            )
            select daily.*, coalesce(window_alone, 0) as window_alone,
                coalesce(window_unused_usd, 0) as window_unused_usd
            from daily left join scores using (provider)
            order by window_spend_usd / nullif(window_verified, 0) nulls last, provider
        """),
        {"first": day - timedelta(days=WINDOW_DAYS - 1), "day": day},
    )
    return tuple(ProviderCost(**row._mapping) for row in rows)


def _ages(conn: Connection, policy: Policy, now: datetime) -> tuple[FieldAges, ...]:
    limits = {name.value: terms.stale_after_days for name, terms in policy.fields.items()}
    rows = conn.execute(
        text(f"""
            select v.field, f.stale_after_days,
                count(*) filter (where v.is_filled and age.days <= 30) as month,
                count(*) filter (where v.is_filled and age.days between 31 and 90) as quarter,
                count(*) filter (where v.is_filled and age.days between 91 and 180) as half,
                count(*) filter (where v.is_filled and age.days > 180) as older,
                count(*) filter (where v.is_filled and v.observed_at is null) as undated,
                count(*) filter (where not v.is_filled) as missing,
                count(*) filter (where s.is_stale) as stale
            from analytics.dim_contacts as d
            {FIELDS_OF_CONTACT}
            cross join lateral (select
                ceil(extract(epoch from cast(:as_of as timestamptz) - v.observed_at) / 86400)
                as days
            ) as age
            group by v.field, f.stale_after_days
        """),  # noqa: S608  (a fragment of our own)
        {"fields": fields_json(limits), "as_of": now},
    )
    found = {
        row.field: FieldAges(
            row.field,
            row.stale_after_days,
            (row.month, row.quarter, row.half, row.older),
            row.undated,
            row.missing,
            row.stale,
        )
        for row in rows
    }
    return tuple(found[name] for name in limits if name in found)


_OF_THE_NIGHT = """
    exists (
        select from analytics.fct_contact_changes as c
        where c.contact_version_id = j.contact_version_id
          and c.kind = 'job_change' and c.partition_date = :day
    )
"""


def _job_changes(conn: Connection, day: date) -> int:
    number: int = conn.execute(
        text(f"select count(*) from analytics.fct_job_changes as j where {_OF_THE_NIGHT}"),  # noqa: S608  (a fragment of our own)
        {"day": day},
    ).scalar_one()
    return number


def _shown_job_changes(conn: Connection, day: date) -> tuple[JobChange, ...]:
    """Those that can be written to first; of a person only the contact's id."""
    rows = conn.execute(
        text(f"""
            select
                j.contact_id,
                coalesce(j.old_company_name, j.old_company_domain) as old_company,
                coalesce(j.company_name, j.company_domain) as new_company,
                j.segment, j.source, j.work_email is not null as is_reachable
            from analytics.fct_job_changes as j
            where {_OF_THE_NIGHT}
            order by is_reachable desc, j.contact_id, j.contact_version_id
            limit :shown
        """),  # noqa: S608  (a fragment of our own)
        {"day": day, "shown": SHOWN_CHANGES},
    )
    return tuple(JobChange(**row._mapping) for row in rows)
