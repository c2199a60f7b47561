"""Planning a night: what is stale as of its date and worth asking for, written once per date.

The plan says what is wanted and opens nothing: enrichments are opened by the runs that drain it.
The arithmetic of prices is `waterfall/pricing.py`, the statements are in
`store/selection.py` and `store/plan.py`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import Connection, Engine

from enrich_pipeline.domain.enrichment import Field
from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.domain.policy import Policy, micro
from enrich_pipeline.intake.source import sync, sync_source
from enrich_pipeline.providers.protocol import Offer, Provider
from enrich_pipeline.store import (
    coverage,
    freshness,
    locks,
    person_merges,
    plan,
    selection,
    statistics,
    waiting,
)
from enrich_pipeline.waterfall.decide import MAX_FAILURES
from enrich_pipeline.waterfall.pricing import Pattern, ProviderPrice, Range, Step, price

LOOKED_BEYOND = 10_000
"""Contacts looked at beyond a share of the cap: of smaller sources all reasons are counted."""


@dataclass(frozen=True, slots=True)
class NightSummary:
    """The plan of a date. `added` are the contacts that this call planned, the rest is in all.

    `fields` and `reasons` count (contact, field); `blocked` counts stale (person, field) that
    cannot be bought, by reason, and is empty when this call had nothing to select. Where the cap
    was reached it counts only contacts that ranked high enough to be looked at.
    """

    day: date
    as_of: datetime
    contacts_cap: int
    contacts_stale: int
    contacts: int
    persons: int
    added: int
    fields: Mapping[str, int]
    reasons: Mapping[str, int]
    blocked: Mapping[str, int]


def plan_night(
    engine: Engine,
    policy: Policy,
    providers: Mapping[str, Provider],
    day: date,
    limit: int | None,
    now: datetime,
    on_progress: Callable[[int], None] | None = None,
) -> NightSummary:
    """Write the plan of a date, or add to today's what has become eligible since.

    The source is read first. The first call of a date selects for all batches and keeps the
    coverage before; calls on a later day leave the plan as it is. The cap, in contacts, is the
    smaller of `limit` and `refresh.contacts_per_night` at the first call, and stays. Safe from
    several processes at once: one plans, and those that waited for it take its plan.

    Raises:
        ConfigurationError: the date is in the future or before `refresh.start_date`, or its plan
            takes more contacts than `limit`.
    """
    check_date(policy, day, now)
    with engine.begin() as conn:
        began = plan.clock(conn)
        locks.hold(conn, locks.PLAN, day.toordinal())
        night = _planned_within(conn, day, limit)
        if night is not None and plan.was_written_since(conn, day, began):
            # The runs of one night's batches start together: one reads the source for all.
            return _summary(conn, day, night, added=0, blocked={})
        sync_source(engine, policy, now, on_progress)
        return write_plan(conn, policy, providers, day, limit, now)


@dataclass(frozen=True, slots=True)
class NightPrice:
    """A night's plan and what it would cost. `contacts` and `persons` are those that still wait.

    `night_budget_usd_micro` is what a UTC day may cost at most, whatever the estimate says.
    """

    night: NightSummary
    contacts: int
    persons: int
    providers: tuple[ProviderPrice, ...]
    usd_micro: Range
    night_budget_usd_micro: int


def price_night(
    engine: Engine,
    policy: Policy,
    providers: Mapping[str, Provider],
    day: date,
    limit: int | None,
    now: datetime,
    batches: Sequence[int] | None = None,
    fields: Collection[Field] = tuple(Field),
) -> NightPrice:
    """Plan a date, or take its plan as it is, and price what waits in it: no call, nothing is kept.

    `batches` and `fields` narrow the price, not the plan. Found rates are those of the last 30 days
    per provider and field where it was asked for at least 30 persons, else one half.

    Raises:
        ConfigurationError: as `plan_night`.
    """
    check_date(policy, day, now)
    with engine.connect() as conn, conn.begin() as transaction:
        locks.hold(conn, locks.PLAN, day.toordinal())
        sync(conn, policy, now)
        night = write_plan(conn, policy, providers, day, limit, now)
        waits = waiting.take(conn, day, batches)
        if not set(fields).issuperset(Field):
            waits = waiting.Waiting(*selection.narrow(conn, fields))
        selection.judge(conn, judged_offers(policy, providers), _memory(policy, now))
        patterns = [_pattern(row) for row in waiting.patterns(conn)]
        rates = waiting.found_rates(conn, now)
        transaction.rollback()
    prices = price(patterns, policy, providers, rates, now.astimezone(UTC).date())
    return NightPrice(
        night=night,
        contacts=waits.contacts,
        persons=waits.persons,
        providers=prices,
        usd_micro=Range(
            sum(p.usd_micro.least for p in prices),
            sum(p.usd_micro.expected for p in prices),
            sum(p.usd_micro.most for p in prices),
        ),
        night_budget_usd_micro=micro(policy.budget.night_usd),
    )


def compare_limit(day: date, cap: int, limit: int | None, option: str = "limit") -> str | None:
    """Return what to tell who gives a night a limit that is not its cap; None where they agree.

    `option` is what the limit is called where it was given.

    Raises:
        ConfigurationError: the night takes more than the limit, which somebody would pay for.
    """
    if limit is None or limit == cap:
        return None
    told = f"the night of {day} has its plan of at most {cap:,} contacts; {option} {limit:,} "
    if cap > limit:
        raise ConfigurationError(
            f"{told}does not make it smaller: leave {option} out to go on with it, or choose "
            "another date"
        )
    return f"{told}changes nothing"


def check_date(policy: Policy, day: date, now: datetime) -> None:
    """Raise ConfigurationError unless a night of this date can be planned at `now`."""
    today = now.astimezone(UTC).date()
    if day > today:
        raise ConfigurationError(f"{day} is in the future: today is {today} (UTC)")
    if day < policy.refresh.start_date:
        raise ConfigurationError(
            f"{day} is before refresh.start_date ({policy.refresh.start_date})"
        )


def as_of_date(day: date, now: datetime) -> datetime:
    """The moment that a plan judges by: the end of its date, or now while the date is today.

    So a plan of today sees what happened today, and one of a past date says the same whenever it is
    written, but for what has become known since.
    """
    end = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    return min(now, end)


def write_plan(
    conn: Connection,
    policy: Policy,
    providers: Mapping[str, Provider],
    day: date,
    limit: int | None,
    now: datetime,
) -> NightSummary:
    """Do what `plan_night` says in the caller's transaction, which holds the date's lock."""
    night = _planned_within(conn, day, limit)
    person_merges.follow_merges(conn)
    is_over = day < now.astimezone(UTC).date()
    if night is not None and (is_over or not plan.has_room(conn, day, night.contacts_cap)):
        return _summary(conn, day, night, added=0, blocked={})
    as_of = as_of_date(day, now)
    ages = {field.value: policy.fields[field].stale_after_days for field in policy.fields}
    bought = {field: age for field, age in ages.items() if policy.waterfall(Field(field))}
    freshness.read_in_parallel(conn)
    if night is None:
        per_night = policy.refresh.contacts_per_night
        night = plan.Night(
            as_of=as_of,
            contacts_cap=per_night if limit is None else min(limit, per_night),
            batches=policy.refresh.batches,
            contacts_stale=0,
        )
    if plan.planned(conn, day)["contacts"] == 0:
        covered, stale = coverage.survey(conn, ages, bought, as_of)
        night = replace(night, as_of=as_of, contacts_stale=stale)
        plan.open_night(conn, day, night, covered)
    is_full = _select(conn, policy, providers, day, night.contacts_cap, bought, as_of, now)
    blocked = selection.write_skips(conn, day, bought, as_of, is_full=is_full)
    added = plan.write_rows(conn, day, night.contacts_cap, night.batches)
    statistics.analyze(conn, added, "enrichment.plan_rows")
    plan.touch(conn, day, added=added)
    return _summary(conn, day, night, added=added, blocked=blocked)


def _planned_within(conn: Connection, day: date, limit: int | None) -> plan.Night | None:
    """The head of a date's plan, if it has one; raises where that takes more than `limit`."""
    night = plan.night(conn, day)
    if night is not None:
        compare_limit(day, night.contacts_cap, limit)
    return night


def _select(
    conn: Connection,
    policy: Policy,
    providers: Mapping[str, Provider],
    day: date,
    cap: int,
    bought: Mapping[str, int],
    as_of: datetime,
    now: datetime,
) -> bool:
    """Look at contacts until they fill the plan; return whether they do. Else it was at all.

    Some of those looked at cannot be bought, or for less than what ranked them. Where a third more
    than the cap is too few, all is done anew with more.
    """
    offers, memory = judged_offers(policy, providers), _memory(policy, now)
    contacts = cap + cap // 3 + LOOKED_BEYOND
    while True:
        is_all = selection.look(conn, bought, as_of, contacts)
        is_full = selection.select(conn, offers, memory, day, cap)
        if is_all or is_full:
            return is_full
        contacts *= 3


def judged_offers(
    policy: Policy, providers: Mapping[str, Provider]
) -> tuple[selection.JudgedOffer, ...]:
    """Return what each field's waterfall sells, in its order, without and with consent."""
    return tuple(
        _judged(field, providers[name], consented)
        for field in policy.fields
        for consented in (False, True)
        for name in policy.waterfall(field)
        if name in providers
    )


def _memory(policy: Policy, now: datetime) -> selection.Memory:
    return selection.Memory(now, policy.reuse.found_days, policy.reuse.not_found_days, MAX_FAILURES)


def _pattern(row: waiting.PatternRow) -> Pattern:
    return Pattern(
        batch=row.batch,
        consented=row.consented,
        present=frozenset(row.present),
        steps=tuple(Step(*step) for step in row.steps),
        persons=row.persons,
    )


def _judged(field: Field, provider: Provider, consented: bool) -> selection.JudgedOffer:
    offers = provider.offers(consented=consented)
    offer = next((o for o in offers if field in o.fields), None)
    if offer is None:
        reason = provider.unavailable(field, consented=consented)
        return selection.JudgedOffer(
            field.value, provider.name, consented, reason.value if reason else "not_sold"
        )
    return selection.JudgedOffer(
        field=field.value,
        provider=provider.name,
        consented=consented,
        product=offer.product,
        options=offer.options,
        requires=tuple(tuple(sorted(d.value for d in needed)) for needed in offer.requires),
        identity=tuple(d.value for d in offer.identity),
        brought=tuple(_brought(o) for o in offers if o.product in offer.brings),
    )


def _brought(offer: Offer) -> Mapping[str, object]:
    return {
        "product": offer.product,
        "options": offer.options,
        "identity": [d.value for d in offer.identity],
        "repeat_is_charged": offer.repeat_is_charged,
    }


def _summary(
    conn: Connection, day: date, night: plan.Night, *, added: int, blocked: Mapping[str, int]
) -> NightSummary:
    return NightSummary(
        day=day,
        as_of=night.as_of,
        contacts_cap=night.contacts_cap,
        contacts_stale=night.contacts_stale,
        added=added,
        blocked=blocked,
        **plan.planned(conn, day),
    )
