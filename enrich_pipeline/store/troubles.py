"""What is wrong now, as rows of ids, counts and amounts. The words are in `reports/alerts.py`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import Connection, text

NEARLY_USED_PERCENT = 80

DOUBT_GRACE = timedelta(hours=1)
"""A doubt past its horizon is written off by the next sweep; one older than this finds no sweep."""

RECONCILED_OVER = timedelta(hours=24)
"""How far back balances are compared: the trouble ends a day after its cause."""

USUAL_DAYS = 30
USUAL_NIGHTS = 7
ENOUGH_ANSWERS = 50
SMALL_DROP = 0.10
"""The rule of `weak_matches`, see there."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget of a day of which much is used, in micro-USD (night) or micro-credits (provider).

    `is_used_up`: nothing is left, or what is left is too small for what waits for it.
    """

    scope: str
    key: str
    day: date
    cap: int
    spent: int
    reserved: int
    is_used_up: bool


def budgets(conn: Connection, day: date) -> list[Budget]:
    """Budgets of the UTC day `day` of which NEARLY_USED_PERCENT or more is used."""
    found = conn.execute(
        text("""
            with waiting as (
                select next_provider as provider from enrichment.enrichments
                where state = 'open' and wait_reason = 'budget'
                group by next_provider
            ), used as (
                select *, held + in_doubt + spent + overage as used from enrichment.budgets
                where day = :day and cap > 0
            )
            select scope, key, day, cap, spent + overage as spent, held + in_doubt as reserved,
                used >= cap or exists (
                    select from waiting where scope = 'night' or waiting.provider = used.key
                ) as is_used_up
            from used
            where used * 100 >= cap::numeric * :percent
            order by scope, key
        """),
        {"day": day, "percent": NEARLY_USED_PERCENT},
    )
    return [Budget(**row) for row in found.mappings()]


@dataclass(frozen=True, slots=True)
class Lateness:
    """Why a night is not finished. `open_fields` counts (contact, field); None: it has no plan."""

    open_fields: int | None
    planned_fields: int
    pending: int
    never_asked: int
    paused: int


def lateness(
    conn: Connection, day: date, deadline: datetime, allowed: timedelta, now: datetime
) -> Lateness | None:
    """What keeps the night of `day` open although its deadline is over; None when all is well.

    A night that was planned late has the same time from its plan on. What waits for budget, for a
    provider whose breaker is open, or in doubt has an alert of its own and does not count; nor
    does what nobody may ask for tonight. Before the first night of a database nothing is late.
    """
    row = conn.execute(
        text("""
            with open_rows as (
                select e.state, e.wait_reason, e.enrichment_id
                from enrichment.plan_rows as plan
                join enrichment.persons as person on person.person_id = plan.person_id
                left join enrichment.enrichments as e
                    on e.person_id = coalesce(person.merged_into, plan.person_id)
                    and e.field = plan.field and e.state in ('open', 'pending', 'in_doubt')
                where plan.partition_date = :day and plan.state = 'waiting'
                and e.state is distinct from 'in_doubt'
                and coalesce(e.wait_reason, '')
                    not in ('budget', 'person_budget', 'asked_already')
                and (coalesce(e.wait_reason, '') not like 'unavailable:%'
                    or e.wait_reason = 'unavailable:receiver_unreachable')
            )
            select
                (select min(as_of) from enrichment.plan_nights where partition_date = :day)
                    as planned_at,
                exists (select from enrichment.plan_nights where partition_date < :day)
                    as is_not_first,
                (select count(*) from enrichment.plan_rows where partition_date = :day) as planned,
                count(*) as open,
                count(*) filter (where state = 'pending') as pending,
                count(*) filter (where enrichment_id is null) as never_asked,
                count(*) filter (where wait_reason = 'paused') as paused
            from open_rows
        """),
        {"day": day},
    ).one()
    if row.planned_at is None:
        return Lateness(None, 0, 0, 0, 0) if row.is_not_first and now >= deadline else None
    if not row.open or now < max(deadline, row.planned_at + allowed):
        return None
    return Lateness(row.open, row.planned, row.pending, row.never_asked, row.paused)


@dataclass(frozen=True, slots=True)
class Doubts:
    """Calls of one provider in doubt for longer than their horizon; amount in micro-credits."""

    provider: str
    calls: int
    persons: int
    amount_micro: int
    oldest: datetime


def overdue_doubts(conn: Connection, now: datetime) -> list[Doubts]:
    """Calls in doubt that should have been written off `DOUBT_GRACE` ago."""
    found = conn.execute(
        text("""
            select c.provider, count(distinct c.call_id) as calls,
                count(distinct l.person_id) as persons,
                coalesce(sum(l.hold_micro), 0)::bigint as amount_micro,
                min(c.in_doubt_at) as oldest
            from enrichment.calls as c
            left join enrichment.charge_lines as l
                on l.call_id = c.call_id and l.state = 'in_doubt'
            where c.state = 'in_doubt' and c.write_off_at < :latest
            group by c.provider order by c.provider
        """),
        {"latest": now - DOUBT_GRACE},
    )
    return [Doubts(**row) for row in found.mappings()]


@dataclass(frozen=True, slots=True)
class Balance:
    """What a provider last said it holds, in micro-credits of its unit."""

    provider: str
    balance_micro: int
    taken_at: datetime


def low_balances(conn: Connection, below_micro: Mapping[str, int], now: datetime) -> list[Balance]:
    """Providers whose newest balance, at most two days old, is below their threshold."""
    found = conn.execute(
        text("""
            select provider, balance_micro, taken_at
            from unnest(cast(:providers as text[]), cast(:below as bigint[]))
                as t(provider, below)
            cross join lateral (
                select r.balance_micro, r.taken_at from enrichment.balance_readings as r
                where r.provider = t.provider and r.taken_at > :since
                order by r.reading_id desc limit 1
            ) as newest
            where newest.balance_micro < t.below
            order by provider
        """),
        {
            "providers": list(below_micro),
            "below": list(below_micro.values()),
            "since": now - timedelta(days=2),
        },
    )
    return [Balance(**row) for row in found.mappings()]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Micro-credits that a provider charged and the ledger did not post since `since`.

    `unexplained_micro` is what credits under way cannot cover; negative: posted, never charged.
    """

    provider: str
    since: datetime
    charged_micro: int
    posted_micro: int
    unexplained_micro: int


def mismatches(conn: Connection, providers: Sequence[str], now: datetime) -> list[Mismatch]:
    """Providers whose balance moved otherwise than the ledger, over RECONCILED_OVER.

    Compared are two readings: the newest and the last one before that time. A balance that rose in
    between was topped up, and the comparison begins there.
    """
    found = conn.execute(
        text("""
            with readings as (
                select *,
                    balance_micro > lag(balance_micro) over w as is_top_up,
                    row_number() over w = 1 as is_first,
                    max(taken_at) over (partition by provider) as newest_at
                from enrichment.balance_readings
                where provider = any(cast(:providers as text[])) and taken_at > :since
                window w as (partition by provider order by reading_id)
            ), base as (
                select distinct on (provider) * from readings
                where is_first or is_top_up or taken_at <= newest_at - cast(:over as interval)
                order by provider, reading_id desc
            ), newest as (
                select distinct on (provider) * from readings
                order by provider, reading_id desc
            ), compared as (
                select
                    provider,
                    base.taken_at as since,
                    base.balance_micro - newest.balance_micro as charged_micro,
                    newest.spent_micro - base.spent_micro as posted_micro,
                    base.in_flight_micro as before_micro,
                    newest.in_flight_micro as after_micro
                from base join newest using (provider)
            )
            select provider, since, charged_micro, posted_micro,
                case when charged_micro - posted_micro > 0
                    then charged_micro - posted_micro - after_micro
                    else charged_micro - posted_micro + before_micro end as unexplained_micro
            from compared
            where charged_micro - posted_micro not between -before_micro and after_micro
            order by provider
        """),
        {"providers": list(providers), "since": now - 2 * RECONCILED_OVER, "over": RECONCILED_OVER},
    )
    return [Mismatch(**row) for row in found.mappings()]


@dataclass(frozen=True, slots=True)
class WeakMatch:
    """A night in which a provider found far less than it usually does; shares from 0 to 1."""

    provider: str
    field: str
    date: date
    answered: int
    found: int
    usual_rate: float
    usual_nights: int


def weak_matches(conn: Connection, providers: Sequence[str], today: date) -> list[WeakMatch]:
    """Newest night, of today or yesterday, per provider and field that found far too little.

    Nights with fewer than ENOUGH_ANSWERS answers are not looked at. Usual is the median of the
    nights of the USUAL_DAYS before, of which there must be USUAL_NIGHTS. Far too little is a rate
    below that median by more than all of: SMALL_DROP; three times the usual spread of the nights
    (1.4826 times their median absolute deviation); three standard deviations of a share drawn
    from so many answers. One odd night moves neither median nor spread.
    """
    found = conn.execute(
        text("""
            with nights as (
                select provider, field, date, found, found + not_found as answered,
                    found::float8 / (found + not_found) as rate
                from analytics.mart_provider_daily
                where date > :today - :days - 2 and provider = any(cast(:providers as text[]))
                and found + not_found >= :enough
            ), newest as (
                select distinct on (provider, field) * from nights
                where date >= :today - 1
                order by provider, field, date desc
            ), usual as (
                select n.provider, n.field, o.rate,
                    percentile_cont(0.5) within group (order by o2.rate) as median
                from newest as n
                join nights as o on (o.provider, o.field) = (n.provider, n.field)
                    and o.date < n.date and o.date >= n.date - :days
                join nights as o2 on (o2.provider, o2.field) = (n.provider, n.field)
                    and o2.date < n.date and o2.date >= n.date - :days
                group by n.provider, n.field, o.date, o.rate
            ), spread as (
                select provider, field, median, count(*) as nights,
                    percentile_cont(0.5) within group (order by abs(rate - median)) as deviation
                from usual group by provider, field, median
            )
            select provider, field, date, answered, found,
                median as usual_rate, nights as usual_nights
            from newest join spread using (provider, field)
            where nights >= :least_nights and rate < median - greatest(
                :drop, 3 * 1.4826 * deviation, 3 * sqrt(median * (1 - median) / answered))
            order by provider, field
        """),
        {
            "today": today,
            "providers": list(providers),
            "days": USUAL_DAYS,
            "enough": ENOUGH_ANSWERS,
            "least_nights": USUAL_NIGHTS,
            "drop": SMALL_DROP,
        },
    )
    return [WeakMatch(**row) for row in found.mappings()]
