"""What schedules share: the worlds in which they play, provider faults, and coming to rest.

A world is one database with one configuration, one sandbox and a plan; a schedule is one batch of
it. Recovery is what an operator's next nights are: new processes, and clocks that have moved on.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import text

from enrich_pipeline.waterfall.engine import Partition

from ..support.lab import Lab, chain_of, contact, contacts
from ..support.sandbox import PROVIDERS
from . import checks
from .ground import Ground

IN_FLIGHT = 2
"""Calls that one process has under way at most at a provider (`concurrency` of each)."""
PERSONS = 6
"""Persons per schedule on average."""
TIMEOUT_SECONDS = 3.0

SHARES = {
    "prospeo.match": 0.5,
    "prospeo.mobile": 0.3,
    "agntdata.record": 0.5,
    "agntdata.phone": 0.3,
    "agntdata.personal_email": 0.3,
    "pronto.email": 0.6,
    "pronto.phone": 0.4,
    "pronto.personal_email": 0.5,
    "lance.emails": 0.5,
    "lance.phones": 0.5,
    "apollo.email": 0.7,
    "apollo.phone": 0.6,
}
"""Misses enough for every field to come down its whole waterfall now and then."""

SANDBOX = ("--lance-delay", "0.05-0.4")
"""Polls of one call tell of its records one after the other."""

_CONSENTS = {"personal_email_consent": "true"}

_ORDERS: tuple[Mapping[str, Sequence[str]], ...] = (
    {
        "work_email": ("prospeo", "agntdata", "pronto", "lance", "apollo"),
        "phone": ("prospeo", "lance", "pronto", "apollo"),
        "personal_email": ("pronto", "agntdata", "apollo"),
        "profile": ("prospeo", "agntdata", "apollo"),
    },
    {
        "work_email": ("apollo", "lance", "prospeo"),
        "phone": ("apollo", "pronto", "lance"),
        "personal_email": ("apollo", "agntdata", "pronto"),
        "profile": ("apollo", "prospeo"),
    },
    {
        "work_email": ("pronto", "lance", "agntdata"),
        "phone": ("lance", "apollo", "prospeo"),
        "personal_email": ("agntdata", "pronto"),
        "profile": ("agntdata", "prospeo"),
    },
    {
        "work_email": ("lance", "apollo", "pronto"),
        "phone": ("pronto", "prospeo", "lance"),
        "personal_email": ("pronto", "apollo"),
        "profile": ("prospeo", "apollo"),
    },
)


def configuration(number: int, batches: int) -> dict[str, Any]:
    """Another order of providers for every world, and Apollo's waterfalls in every second."""
    order = _ORDERS[number % len(_ORDERS)]
    providers: dict[str, Any] = {
        name: {
            "concurrency": IN_FLIGHT,
            "batch_size": 3,
            "await_seconds": 0.15,
            "timeout_seconds": TIMEOUT_SECONDS,
        }
        for name in PROVIDERS
    }
    if number % 2:
        providers["apollo"]["options"] = {
            "run_waterfall_email": True,
            "max_credits_per_record": 30,
        }
    return {
        "refresh": {"batches": batches},
        "fields": {name: {"waterfall": list(chain)} for name, chain in order.items()},
        "providers": providers,
    }


@dataclass(frozen=True, slots=True)
class World:
    """A lab whose batches wait for one schedule each, on two dates."""

    lab: Lab
    schedules: int
    divided: frozenset[int]
    """Humans with two contacts that nothing joins until somebody learns more."""

    @property
    def persons(self) -> dict[str, int]:
        """How many persons each divided human is."""
        return {f"h{number}": 2 for number in self.divided}

    def unite(self, number: int) -> None:
        """A CRM user completes a contact: two persons turn out to be one."""
        self.lab.load([contact(number, updated_at="2026-02-01T00:00:00Z", **_CONSENTS)])

    @property
    def days(self) -> tuple[date, ...]:
        return (self.lab.today, self.lab.day(1))


@contextmanager
def world(ground: Ground, number: int, schedules: int) -> Iterator[World]:
    """Opens world `number`; everybody consents until a schedule withdraws it."""
    own = configuration(number, schedules)
    with ground.lab(own, SHARES, sandbox_options=SANDBOX) as lab:
        people = range(schedules * PERSONS)
        divided = frozenset(n for n in people if n % 12 == 5)
        lab.load(contacts((n for n in people if n not in divided), **_CONSENTS))
        lab.load(contacts(divided, linkedin_url="", **_CONSENTS))
        by_profile = {"email": "", "lance_person_id": "", **_CONSENTS}
        lab.load([contact(n, contact_id=f"d{n:04d}", **by_profile) for n in sorted(divided)])
        made = World(lab, schedules, divided)
        for day in made.days:
            lab.plan(day)
        yield made


# ---- faults of providers --------------------------------------------------------------------

_GATEWAY = {"message": "Bad gateway"}
AMBIGUOUS: tuple[Mapping[str, Any], ...] = (
    {"kind": "charge_then_drop"},
    {"kind": "charge_then_status", "status": 502, "body": _GATEWAY},
    {"kind": "drop_before"},
    {"kind": "truncate"},
    {"kind": "cut_body"},
    {"kind": "html"},
    {"kind": "wrong_content_type"},
    {"kind": "status", "status": 503, "body": _GATEWAY},
)
"""After these nobody can know whether there was a charge."""
PLAIN: tuple[Mapping[str, Any], ...] = (
    {"kind": "429", "seconds": 0.1},
    {"kind": "status", "status": 500},
    {"kind": "insufficient", "times": 1},
    {"kind": "poison", "match": {"share": 0.1}},
    {"kind": "slow", "seconds": 0.3},
)
RARE: tuple[Mapping[str, Any], ...] = (
    {"kind": "slow", "seconds": TIMEOUT_SECONDS + 0.5, "times": 1, "probability": 0.3},
    {"kind": "lose_webhook", "times": 3, "probability": 0.3},
    {"kind": "late_webhook", "seconds": 1.5, "times": 3, "probability": 0.3},
    {"kind": "duplicate_webhook", "times": 20, "probability": 0.5},
)


def draw_faults(rng: random.Random) -> list[dict[str, Any]]:
    """A script that strikes about half of the calls."""
    drawn: list[dict[str, Any]] = [dict(f) for f in RARE if rng.random() < 0.35]
    for kinds in (rng.sample(AMBIGUOUS, 2), rng.sample(PLAIN, 2)):
        for kind in kinds:
            provider = rng.choice(("*", *PROVIDERS))
            share = 0.14 if provider == "*" else 0.5
            drawn.append({"provider": provider, "probability": share, "times": None, **kind})
    return drawn


def ambiguous_strikes(lab: Lab) -> int:
    """How often the script left it open whether there was a charge or an answer."""
    plain = {"429", "insufficient", "poison", "duplicate_webhook"}
    return sum(f["applied"] for f in lab.sandbox.get("faults") if f["kind"] not in plain)


def all_strikes(lab: Lab) -> int:
    return sum(f["applied"] for f in lab.sandbox.get("faults"))


# ---- coming to rest -------------------------------------------------------------------------

_CLOCKS = {
    "leases": "lease_until = least(lease_until, clock_timestamp() - interval '1 second')",
    "polls": "next_poll_at = least(next_poll_at, clock_timestamp() - interval '1 second')",
    "deadlines": "deadline_at = least(deadline_at, clock_timestamp() - interval '1 second')",
    "horizons": "write_off_at = least(write_off_at, clock_timestamp() - interval '1 second')",
}


def advance(lab: Lab, *clocks: str) -> None:
    """Moves clocks of all live calls into the past: time passes.

    Locked in the order of their ids, as everybody does who changes several.
    """
    changes = ", ".join(_CLOCKS[clock] for clock in clocks)
    lab.sql(
        f"update enrichment.calls set {changes} where call_id in ("  # noqa: S608
        "select call_id from enrichment.calls where closed_at is null "
        "order by call_id for no key update)"
    )


def calm(lab: Lab) -> None:
    """The pauses of breakers and the provider's own are over."""
    lab.sql("delete from enrichment.provider_states")
    lab.sql("delete from enrichment.rate_pauses")


def drain(lab: Lab, batch: int, days: Sequence[date]) -> None:
    """One run of this process over each date's batch."""
    for day in days:
        with lab.waterfall() as waterfall:
            waterfall.sweep()
            waterfall.reuse(Partition(day, batch))
            for provider in chain_of(lab.settings):
                waterfall.attempt(Partition(day, batch), provider)


def live_calls(lab: Lab, state: str = "%") -> int:
    return int(
        lab.one(
            "select count(*) from enrichment.calls where closed_at is null and state like :state",
            state=state,
        )
    )


def open_fields(lab: Lab) -> int:
    return int(
        lab.one(
            "select count(*) from enrichment.enrichments "
            "where state in ('open', 'pending', 'in_doubt')"
        )
    )


def come_to_rest(
    lab: Lab,
    batch: int,
    days: Sequence[date],
    *,
    patient: bool,
    run: Callable[[int, Sequence[date]], None] | None = None,
) -> None:
    """Drains and lets time pass until nothing is under way; `patient` waits for late webhooks.

    Without it they arrive after their calls were written off. `run` drains a batch of some dates,
    in another process say.
    """

    def drain_again() -> None:
        unfinished = _unfinished_days(lab, batch)
        waiting = [day for day in days if day in unfinished] or days[:1]
        if run is None:
            drain(lab, batch, waiting)
        else:
            run(batch, waiting)

    if patient:
        lab.sandbox.wait_for_deliveries()
    calm(lab)
    drain_again()
    for clocks, state in (
        (("leases", "polls"), "%"),
        (("leases", "polls", "deadlines"), "accepted"),
        (("leases", "horizons"), "in_doubt"),
        (("leases", "polls", "deadlines", "horizons"), "%"),
    ):
        if live_calls(lab, state):
            advance(lab, *clocks)
            drain_again()
    for _ in range(4):
        lab.sandbox.wait_for_deliveries()
        if not _unfinished_days(lab, batch):
            return
        # The next night's planning gives survivors what finished under persons merged away.
        lab.plan()
        calm(lab)
        advance(lab, "leases", "polls", "deadlines", "horizons")
        drain_again()


_WAITING_ROWS = """
    select r.partition_date from enrichment.plan_rows as r
    join enrichment.persons as p using (person_id)
    where r.state = 'waiting' and r.batch = :batch and not exists (
        -- What its own date has answered is closed when that is published.
        select 1 from enrichment.enrichments as e
        where e.person_id in (p.person_id, p.merged_into) and e.field = r.field
          and e.partition_date = r.partition_date and e.closed_at >= r.planned_at)
"""


def _unfinished_days(lab: Lab, batch: int) -> set[date]:
    """Dates on which a run of this batch would bring something further."""
    rows = lab.sql(
        f"""
        {_WAITING_ROWS}
        union select partition_date from enrichment.enrichments
        where state in ('open', 'pending', 'in_doubt') and batch = :batch
        union select partition_date from enrichment.calls
        where closed_at is null or (provider, token_hash) in (
            select provider, token_hash from enrichment.inbox where state = 'new')
        """,  # noqa: S608
        batch=batch,
    )
    return {day for (day,) in rows}


def at_rest(world: World, batch: int) -> list[str]:
    """All checks, and that nothing of this batch is left open."""
    lab = world.lab
    with lab.engine.connect() as conn:
        left = conn.execute(
            text("""
                select e.enrichment_id, e.field, e.state, e.next_provider, e.wait_reason,
                       e.partition_date, e.person_id, p.merged_into, i.blocked_reason,
                       (select string_agg(concat_ws(' ', r.partition_date, r.batch, r.contact_id,
                                                    r.state, r.person_id), ', ')
                        from enrichment.plan_rows as r
                        where r.field = e.field
                          and r.person_id in (p.person_id, p.merged_into)) as rows
                from enrichment.enrichments as e
                join enrichment.persons as p using (person_id)
                left join enrichment.person_inputs as i
                    on i.person_id = coalesce(p.merged_into, p.person_id)
                where e.state in ('open', 'pending', 'in_doubt') and e.batch = :batch
                  -- Of persons that became one, another batch may have the row that still waits.
                  and not exists (
                      select from enrichment.plan_rows as r
                      where r.field = e.field and r.person_id in (p.person_id, p.merged_into)
                        and r.state = 'waiting' and r.batch <> :batch)
            """),
            {"batch": batch},
        ).all()
    return [
        *checks.all_of(lab.engine, lab.sandbox, world.persons),
        *checks.open_work(lab.engine),
        *checks.broken_rules(lab.sandbox),
        *(f"left open: {row._asdict()}" for row in left),
    ]
