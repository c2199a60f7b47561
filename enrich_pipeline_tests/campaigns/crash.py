"""Processes that die, sleep and race at every step of the protocol, while providers fail.

A schedule: one batch of a plan, one to three worker processes on it, on one date or two, some of
which kill or stop themselves at a label, others killed or stopped at any moment; consent withdrawn
and persons suppressed meanwhile. Then everything is brought to rest, and everything must add up.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Literal, get_args

from enrich_pipeline.store import person_inputs
from enrich_pipeline.waterfall import fault_points

from . import checks, lanes, schedules, workers
from .figures import Figures, Scale
from .ground import Ground
from .lanes import PEOPLE, PER_WORLD, Lane, Team

LABELS: tuple[str, ...] = get_args(fault_points.Label)
_LATE_LABELS: tuple[str, ...] = (
    "sweeping",
    "swept",
    "armed_again",
    "answered_again",
    "writing_off",
    "deadline_passing",
    "delivery_settling",
    "delivery_settled",
    "polled",
    "poll_stored",
    "poll_settling",
)
"""Where those die who see to what others left behind."""
_AGES = (
    ("leases", "polls"),
    ("leases", "polls", "deadlines"),
    ("leases", "horizons"),
    ("leases", "polls", "deadlines", "horizons"),
)
_CHANGES = ("personal_email_consent = false", "do_not_enrich = true", "unite", "unite")
_FULL = 2000
_ENOUGH_FOR_ALL = 400
_ELSEWHERE = {"unsent"}
"""Labels that only a network reaches: see `netfault`."""
_LONGEST_SECONDS = 20.0


def run(scale: Scale, seed: int) -> Figures:
    """2,000 schedules in the full form, numbered from the seed on."""
    figures = Figures()
    struck: set[str] = set()
    total = scale.of(short=4, full=_FULL)

    @contextmanager
    def lane() -> Iterator[Lane]:
        with Ground(PEOPLE) as ground:
            yield Lane(ground, lambda team, number: Schedule(team, number, figures, struck))

    lanes.play("crash", range(seed, seed + total), _FULL, figures, lane)
    figures.note("labels struck", f"{len(struck)} of {len(LABELS)}")
    missed = sorted(set(LABELS) - struck - _ELSEWHERE)
    if missed and total >= _ENOUGH_FOR_ALL:
        figures.blame("the campaign itself", [f"never struck at {', '.join(missed)}"])
    return figures


class Schedule:
    """One batch in trouble. Subclasses make trouble of other kinds."""

    forgiven: tuple[str, ...] = ()
    """Errors by which a drain may end; what it left behind is checked all the same."""

    def __init__(self, team: Team, number: int, figures: Figures, struck: set[str]) -> None:
        """`struck` collects the labels at which workers were struck."""
        self._team, self._world, self._lab = team, team.world, team.world.lab
        self._number, self._batch = number, number % PER_WORLD
        self._rng = random.Random(number)
        self._figures, self._struck = figures, struck
        self._runs = count(1)
        self._crashes = 0
        self._violations: list[str] = []
        self._threads: list[threading.Thread] = []

    def play(self) -> list[str]:
        lab, rng, figures = self._lab, self._rng, self._figures
        before = checks.doubts(lab.engine)
        schedules.calm(lab)
        with_faults = rng.random() < 0.75
        if with_faults:
            lab.sandbox.faults(*schedules.draw_faults(rng))
        undelivered = lab.sandbox.webhooks()["failed"]
        self._disturb(self._set_to_work(LABELS))
        if rng.random() < 0.6 and schedules.live_calls(lab):
            # Time has passed, and who comes to see to it dies as well.
            schedules.advance(lab, *rng.choice(_AGES))
            schedules.calm(lab)
            self._disturb(self._set_to_work(_LATE_LABELS))
        self._clear_up()
        # Whatever was left undone, nothing may be half done.
        self._violations += checks.ledger(lab.engine)
        ambiguous, strikes = schedules.ambiguous_strikes(lab), schedules.all_strikes(lab)
        lab.sandbox.clear_faults()
        try:
            schedules.come_to_rest(
                lab,
                self._batch,
                self._world.days,
                patient=rng.random() < 0.5,
                run=self._team.drain,
            )
        except Exception as error:  # noqa: BLE001 - a recovery that fails is what is looked for
            self._violations.append(f"recovery: {type(error).__name__}: {error}"[:300])
        self._violations += schedules.at_rest(self._world, self._batch)
        doubts = checks.doubts(lab.engine) - before
        ambiguous += self._broken() + lab.sandbox.webhooks()["failed"] - undelivered
        allowed = self._crashes * schedules.IN_FLIGHT + ambiguous
        if doubts > allowed:
            self._violations.append(
                f"{doubts} calls in doubt after {self._crashes} crashes and "
                f"{ambiguous} ambiguous faults"
            )
        figures.add("schedules")
        figures.add("provider faults", strikes)
        figures.add("ambiguous provider faults", ambiguous)
        return self._violations

    def _clear_up(self) -> None:
        """Ends the trouble before everything is brought to rest."""

    def _broken(self) -> int:
        """Exchanges with providers that this schedule broke, beside the sandbox's own faults."""
        return 0

    def _strike(self, labels: tuple[str, ...], place: int) -> workers.Strike | None:
        rng = self._rng
        if rng.random() > 0.75:
            return None
        # Every label gets its turn whatever the seed.
        label = labels[self._number % len(labels)] if place == 0 else rng.choice(labels)
        kind: Literal["kill", "stop"] = "stop" if rng.random() < 0.35 else "kill"
        return workers.Strike(label, rng.choice((1, 1, 1, 2, 3)), kind)

    def _set_to_work(self, labels: tuple[str, ...]) -> list[workers.Worker]:
        rng = self._rng
        crew = self._team.take(rng.choice((1, 2, 2, 3)))
        today, yesterday = self._world.days
        for place, worker in enumerate(crew):
            days = rng.choice(((today,), (today,), (yesterday,), (today, yesterday)))
            run_id = f"{self._number}-{next(self._runs)}"
            worker.give(workers.Job(run_id, days, self._batch, self._strike(labels, place)))
        return crew

    def _disturb(self, crew: list[workers.Worker]) -> None:
        """Until all have finished or died: signals, sleep past leases, consent withdrawn."""
        rng = self._rng
        until = time.monotonic() + _LONGEST_SECONDS
        wakes: dict[int, float] = {}
        heard: set[int] = set()
        while working := workers.busy(crew):
            now = time.monotonic()
            for worker in crew:
                self._hear(worker, heard)
            for worker in working:
                if worker.stopped and worker.pid not in wakes:
                    self._overtake(worker)
                    wakes[worker.pid] = now + rng.random() * 0.3
                elif worker.pid in wakes and now >= wakes[worker.pid]:
                    worker.go_on()
                    del wakes[worker.pid]
                elif now > until:
                    self._crashes += 1
                    worker.kill()
                    self._figures.add("killed for being slow")
                elif not worker.stopped:
                    self._at_random(worker)
            self._meanwhile(crew)
            if rng.random() < 0.02:
                self._aside(self._change_of_mind, rng.random(), rng.choice(_CHANGES))
            time.sleep(0.02)
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        for worker in crew:
            self._hear(worker, heard)
            if worker.stopped:
                worker.go_on()
            if worker.error and worker.error.startswith(self.forgiven or ("?",)):
                self._figures.add("drains that lost the database")
            elif worker.error:
                self._violations.append(f"a drain failed: {worker.error}")

    def _hear(self, worker: workers.Worker, heard: set[int]) -> None:
        if worker.struck and worker.pid not in heard:
            heard.add(worker.pid)
            self._crashes += 1
            kind, label = worker.struck.split(" ", 1)
            self._struck.add(label)
            self._figures.add(f"{kind} at a label")

    def _at_random(self, worker: workers.Worker) -> None:
        dice = self._rng.random()
        if dice < 0.004:
            worker.kill()
            self._crashes += 1
            self._figures.add("kills at random")
        elif dice < 0.008:
            worker.stop()
            self._crashes += 1
            self._figures.add("stops at random")

    def _meanwhile(self, crew: list[workers.Worker]) -> None:
        """What else happens every few milliseconds."""

    def _overtake(self, worker: workers.Worker) -> None:
        """While a process sleeps its leases end and somebody else sweeps."""
        if self._rng.random() < 0.7:
            self._aside(self._sweep_over_it)

    def _sweep_over_it(self) -> None:
        schedules.advance(self._lab, "leases")
        self._lab.sweep()

    def _aside(self, act: Callable[..., None], *arguments: object) -> None:
        """In a thread, because a process asleep inside a transaction keeps its locks."""

        def work() -> None:
            try:
                act(*arguments)
            except Exception as error:  # noqa: BLE001 - its failure is what is looked for
                said = f"{type(error).__name__}: {' '.join(str(error).split())[:600]}"
                if not said.startswith(self.forgiven or ("?",)):
                    self._violations.append(f"{act.__name__}: {said}")

        thread = threading.Thread(target=work)
        thread.start()
        self._threads.append(thread)

    def _change_of_mind(self, dice: float, change: str) -> None:
        """Somebody withdraws, must not be enriched any more, or turns out to be two contacts."""
        lab, batch = self._lab, self._batch
        known = [
            (str(contact), int(person))
            for contact, person in lab.sql(
                "select distinct r.contact_id, c.person_id from enrichment.plan_rows as r "
                "join enrichment.contacts as c using (contact_id) where r.batch = :b order by 1",
                b=batch,
            )
        ]
        if change == "unite":
            numbers = {int(contact[1:]) for contact, _ in known} & self._world.divided
            if numbers:
                self._world.unite(min(numbers, key=lambda n: (n * 7919 + int(dice * 1000)) % 97))
                self._figures.add("persons merged")
            return
        if not known:
            return
        contact_id, person = known[int(dice * len(known))]
        lab.sql(f"update enrichment.contacts set {change} where contact_id = :c", c=contact_id)  # noqa: S608
        with lab.engine.begin() as conn:
            person_inputs.refresh_inputs(conn, [person])
        self._figures.add("consents withdrawn or persons suppressed")
