"""Where one scene is played: labs to play in, workers who stop at their cue, a book of complaints.

What a scene expects is exact: nothing in it is drawn by lot but the moment at which the machine
happens to give a process its turn.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any, Literal

from ..support.lab import Lab
from . import checks, schedules, workers
from .ground import Ground

_LONGEST_SECONDS = 60.0


class Stage:
    """One scene's own. `violations` are what went otherwise than written."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.violations: list[str] = []
        self._runs = count(1)

    @contextmanager
    def lab(
        self,
        own: Mapping[str, Any],
        shares: Mapping[str, float] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Iterator[Lab]:
        with self.ground.lab(own, shares or {}, environment) as lab:
            yield lab

    def expect(self, what: str, got: object, wanted: object) -> None:
        if got != wanted:
            self.violations.append(f"{what}: {got}, expected {wanted}")

    def blame(self, when: str, found: Iterable[str]) -> None:
        self.violations += [f"{when}: {each}" for each in found]

    @contextmanager
    def worker(self, lab: Lab) -> Iterator[workers.Worker]:
        """A worker for the length of the block, whatever becomes of it."""
        worker = workers.Worker(lab)
        try:
            yield worker
        finally:
            worker.kill()

    def job(self, lab: Lab, batch: int = 0, **more: Any) -> workers.Job:
        return workers.Job(f"scene-{next(self._runs)}", (lab.today,), batch, **more)

    @contextmanager
    def struck(
        self, lab: Lab, label: str, kind: Literal["kill", "stop"], batch: int = 0, **more: Any
    ) -> Iterator[workers.Worker]:
        """A worker that has come as far as `label` and was killed, or sleeps, there."""
        with self.worker(lab) as worker:
            worker.give(self.job(lab, batch, strike=workers.Strike(label, 1, kind), **more))
            self.await_stop(worker)
            self.expect("the worker came", worker.struck, f"{kind} {label}")
            yield worker

    def finish(self, worker: workers.Worker) -> None:
        """Lets a worker go on to its end, which must be a good one."""
        if worker.stopped:
            worker.go_on()
        worker.wait(_LONGEST_SECONDS)
        self.expect("the worker is busy for ever", worker.busy, False)
        self.expect("the worker's failure", worker.error, None)

    def await_stop(self, worker: workers.Worker) -> None:
        """Until it has stopped by itself; its end is as good, for what then follows."""
        until = time.monotonic() + _LONGEST_SECONDS
        while time.monotonic() < until:
            worker.look()
            if not worker.busy or worker.stopped:
                return
            time.sleep(0.002)

    def await_block(self, lab: Lab, worker: workers.Worker) -> None:
        """Until it waits for a lock, or is done."""
        if worker.stopped:
            worker.go_on()
        until = time.monotonic() + _LONGEST_SECONDS
        while workers.busy([worker]) and time.monotonic() < until:
            if lab.one(
                "select count(*) from pg_stat_activity "
                "where datname = current_database() and wait_event_type = 'Lock'"
            ):
                return
            time.sleep(0.01)

    def drain(self, lab: Lab, batch: int = 0) -> None:
        """The next run: it sweeps first."""
        schedules.drain(lab, batch, (lab.today,))

    def end(self, lab: Lab, batches: Iterable[int] = (0,)) -> None:
        """Every horizon passes: everything is closed, adds up, and nothing more is sent for it."""
        lab.sandbox.clear_faults()
        lab.sandbox.wait_for_deliveries()
        schedules.calm(lab)
        for clocks in (("leases", "polls"), ("leases", "polls", "deadlines"), ("horizons",)):
            schedules.advance(lab, *clocks)
            lab.sweep()
        for batch in batches:
            self.drain(lab, batch)
        self.blame("in the end", checks.all_of(lab.engine, lab.sandbox))
        self.blame("in the end", checks.open_work(lab.engine))


def alone(provider: str, *fields: str, **more: Any) -> dict[str, Any]:
    """A configuration in which one provider is asked for these fields, one call at a time."""
    return {
        "fields": {
            name: {"waterfall": [provider] if name in (fields or ("work_email",)) else []}
            for name in ("work_email", "phone", "personal_email", "profile")
        },
        "providers": {
            provider: {
                "concurrency": 1,
                "await_seconds": 0.4,
                # Nothing here is lost because a machine was slow.
                "timeout_seconds": 30,
            }
        },
        **more,
    }
