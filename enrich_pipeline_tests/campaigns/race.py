"""Many processes on the same persons at the same moment, and budgets too small for all of them.

Eight processes drain every date and batch of a plan: half of them come from tonight, half from
earlier days, so that each person is met by two dates at once and each partition by all eight. Two
more do what the late-results sensor and its runs do while answers arrive. No provider fails: all
trouble comes from the processes themselves.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from sqlalchemy import Engine, text

from ..support.lab import Lab, contacts
from ..support.sandbox import PROVIDERS, SandboxProcess
from . import checks, schedules, workers
from .figures import Figures, Scale
from .gauge import Gauge
from .ground import Ground

_SENSORS = 2
_SAY_EVERY_SECONDS = 10.0
_OVER_WITHIN_SECONDS = 1800.0
_ANSWERED_WITHIN_SECONDS = 300.0
_GRACE = "6 minutes"
"""Longer than the sensor leaves an overdue poll to the run that is to make it."""


@dataclass(frozen=True, slots=True)
class _Form:
    """How many processes meet, on how many batches and dates, and persons per call."""

    processes: int
    batches: int
    days: int
    batch_size: int


_SHORT = _Form(processes=4, batches=2, days=2, batch_size=5)
_FULL = _Form(processes=8, batches=4, days=3, batch_size=40)


@dataclass(frozen=True, slots=True)
class _Budgets:
    """Less than what all would cost."""

    night_usd: Decimal
    prospeo_credits: Decimal


def run(scale: Scale, seed: int) -> Figures:
    """12,000 persons and 8 processes in the full form; a quarter of them again on tight budgets.

    `seed` says who begins where; what the processes make of it is theirs.
    """
    figures = Figures()
    people = scale.of(short=120, full=12_000)
    few = max(60, people // 4)
    form = _SHORT if scale.share is None else _FULL
    # Everything for everybody costs about 0.4 USD and 10 of Prospeo's credits a person.
    tight = _Budgets(few * Decimal("0.06"), few * Decimal("1.5"))
    with Ground(people) as ground:
        for name, number, budgets in (("wide", people, None), ("tight", few, tight)):
            with ground.lab(_configuration(form, budgets), schedules.SHARES) as lab:
                lab.load(contacts(range(number), personal_email_consent="true"))
                race = _Race(lab, name, form, seed, figures, is_tight=budgets is not None)
                figures.blame(name, race.run())
    return figures


def _configuration(form: _Form, budgets: _Budgets | None) -> dict[str, Any]:
    providers: dict[str, Any] = {
        name: {"concurrency": 2, "batch_size": form.batch_size, "await_seconds": 0}
        for name in PROVIDERS
    }
    providers["apollo"]["batch_size"] = min(form.batch_size, 10)
    if budgets is not None:
        providers["prospeo"]["budget_credits"] = str(budgets.prospeo_credits)
    return {
        "refresh": {"batches": form.batches, "contacts_per_night": 1_000_000},
        "budget": {"night_usd": str(budgets.night_usd if budgets else 1_000_000)},
        "providers": providers,
    }


class _Race:
    def __init__(
        self, lab: Lab, name: str, form: _Form, seed: int, figures: Figures, *, is_tight: bool
    ) -> None:
        self._lab, self._name, self._form, self._seed = lab, name, form, seed
        self._figures, self._is_tight = figures, is_tight
        self._days = [lab.day(ago) for ago in range(form.days)]

    def run(self) -> list[str]:
        lab, figures, name = self._lab, self._figures, self._name
        violations: list[str] = []
        started = time.monotonic()
        with Gauge(lab.database) as gauge, self._crew() as (racers, sensors):
            violations += self._race(racers, sensors)
            figures.note(f"{name}: seconds of racing", round(time.monotonic() - started, 1))
            violations += self._bring_home(racers, sensors)
        violations += gauge.violations
        figures.note(f"{name}: partitions drained", sum(w.drains for w in racers))
        figures.note(f"{name}: partitions drained for the sensors", sum(w.drains for w in sensors))
        figures.note(f"{name}: calls", sum(lab.sent().values()))
        figures.note(f"{name}: readings of the budgets", gauge.readings)
        for scope, free in sorted(gauge.least_free.items()):
            figures.note(f"{name}: least free in a {scope} budget (micro)", free)
        violations += self._at_rest()
        return violations

    @contextmanager
    def _crew(self) -> Iterator[tuple[list[workers.Worker], list[workers.Worker]]]:
        racers = [workers.Worker(self._lab) for _ in range(self._form.processes)]
        sensors = [workers.Worker(self._lab) for _ in range(_SENSORS)]
        try:
            for number, sensor in enumerate(sensors):
                sensor.give(workers.Watch(f"{self._name}-sensor-{number}"))
            yield racers, sensors
        finally:
            for worker in (*racers, *sensors):
                worker.kill()

    def _jobs(self, place: int) -> list[workers.Job]:
        """Every batch of every date once; two neighbours meet on a batch, on different dates."""
        begin = (self._seed + place // 2) % self._form.batches
        batches = [(begin + step) % self._form.batches for step in range(self._form.batches)]
        tonight, *earlier = self._days
        days: list[date] = [tonight, *earlier] if place % 2 == 0 else [*earlier, tonight]
        return [
            workers.Job(f"{self._name}-{place}-{batch}", (day,), batch, plan=True)
            for day in days
            for batch in batches
        ]

    def _race(
        self, racers: Sequence[workers.Worker], sensors: Sequence[workers.Worker]
    ) -> list[str]:
        violations: list[str] = []
        queues = {worker.pid: self._jobs(place) for place, worker in enumerate(racers)}
        until, last = time.monotonic() + _OVER_WITHIN_SECONDS, time.monotonic()
        while any(worker.busy or queues[worker.pid] for worker in racers):
            for worker in racers:
                worker.look()
                if worker.busy:
                    continue
                if worker.error is not None:
                    violations.append(f"a drain failed: {worker.error}")
                    worker.error = None
                if queues[worker.pid]:
                    worker.give(queues[worker.pid].pop(0))
            self._let_polls_be_overdue()
            now = time.monotonic()
            if now > until:
                return [*violations, "the processes came to no end"]
            if now - last > _SAY_EVERY_SECONDS:
                last = now
                left = sum(len(queue) for queue in queues.values())
                print(
                    f"{self._name}: {left} drains to begin, "
                    f"{sum(self._lab.sent().values())} calls so far",
                    file=sys.stderr,
                    flush=True,
                )
            time.sleep(0.05)
        workers.busy(sensors)
        return violations

    def _let_polls_be_overdue(self) -> None:
        self._lab.sql(
            f"""
            update enrichment.calls set next_poll_at = next_poll_at - interval '{_GRACE}'
            where state = 'accepted' and next_poll_at between clock_timestamp()
                - interval '1 minute' and clock_timestamp()
            """  # noqa: S608
        )

    def _bring_home(
        self, racers: Sequence[workers.Worker], sensors: Sequence[workers.Worker]
    ) -> list[str]:
        """The sensors see to what is left; then one drain more finds nothing to buy."""
        lab = self._lab
        lab.sandbox.wait_for_deliveries(60)
        until = time.monotonic() + _ANSWERED_WITHIN_SECONDS
        while schedules.live_calls(lab) and time.monotonic() < until:
            self._let_polls_be_overdue()
            time.sleep(0.2)
        found = []
        for sensor in sensors:
            sensor.tell_off()
            sensor.wait(60)
            if sensor.busy or sensor.error:
                found.append(f"a sensor failed: {sensor.error or 'it did not end'}")
        racer = racers[0]
        for day in self._days:
            for batch in range(self._form.batches):
                racer.give(workers.Job(f"{self._name}-last-{batch}", (day,), batch))
                racer.wait(_ANSWERED_WITHIN_SECONDS)
                if racer.error:
                    found.append(f"the last drain failed: {racer.error}")
        return found

    def _at_rest(self) -> list[str]:
        lab = self._lab
        found = [
            *checks.all_of(lab.engine, lab.sandbox),
            *checks.open_work(lab.engine),
            *checks.broken_rules(lab.sandbox),
            *checks.deadlocks(lab.engine),
            *_claimed_twice(lab.engine),
            *_sent_otherwise(lab.engine, lab.sandbox),
        ]
        waiting = dict(
            lab.sql(
                "select coalesce(wait_reason, 'nothing'), count(*) from enrichment.enrichments "
                "where state = 'open' group by 1"
            )
        )
        for reason, fields in sorted(waiting.items()):
            self._figures.note(f"{self._name}: fields waiting for {reason}", fields)
        if self._is_tight:
            found += self._left_over(waiting)
        elif waiting:
            found.append(f"fields are left open: {waiting}")
        return found

    def _left_over(self, waiting: dict[str, int]) -> list[str]:
        """The last credits must have been fought for, and have gone."""
        if not waiting.get("budget"):
            return ["the budget was not tight: nobody waits for it"]
        free = int(self._lab.one(_FREE_USD))
        dearest = int(self._lab.one(_DEAREST_USD))
        if free >= dearest:
            return [f"fields wait for the budget although {free} micro-USD are left of it"]
        return []


_FREE_USD = """
    select cap - held - in_doubt - spent from enrichment.budgets
    where scope = 'night' order by day desc limit 1
"""
_DEAREST_USD = """
    select max(usd) from (select sum(hold_usd_micro) as usd from enrichment.charge_lines
                          group by call_id, item_key) as held
"""


def _claimed_twice(engine: Engine) -> list[str]:
    """The tables' word: nobody is asked for twice with nothing new to say, answered or not."""
    with engine.connect() as conn:
        rows = conn.execute(
            text("""
                select a.line_id as one, b.line_id as other from enrichment.charge_lines as a
                join enrichment.charge_lines as b
                  on (b.person_id, b.provider, b.product, b.options)
                   = (a.person_id, a.provider, a.product, a.options) and b.line_id > a.line_id
                join enrichment.calls as first on first.call_id = a.call_id
                join enrichment.calls as second on second.call_id = b.call_id
                where first.sends > 0 and second.sends > 0
                  and (b.sent_identity <@ a.sent_identity or a.answered_at is null
                       or second.claimed_at < a.answered_at)
                order by 1
            """)
        ).all()
    return [f"line {row.other} asks for what line {row.one} asks for" for row in rows]


def _sent_otherwise(engine: Engine, sandbox: SandboxProcess) -> list[str]:
    """The meter's word: each provider was asked for whom the tables say, no person more."""
    with engine.connect() as conn:
        intended = {
            row.provider: int(row.persons)
            for row in conn.execute(
                text("""
                    select provider, sum(sends * items.persons) as persons
                    from enrichment.calls join (
                        select call_id, count(distinct item_key) as persons
                        from enrichment.charge_lines group by call_id) as items using (call_id)
                    group by provider
                """)
            )
        }
    return [
        f"{provider} was asked for {meter['records']} persons, the tables say "
        f"{intended.get(provider, 0)}"
        for provider, meter in sandbox.meter().items()
        if meter["records"] != intended.get(provider, 0)
    ]
