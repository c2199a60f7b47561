"""PostgreSQL that dies and comes back under load, sessions that end, commits that are lost.

The server is this campaign's own: it gets SIGQUIT (an immediate shutdown, without a checkpoint) and
is started again while the workers go on as well as they can.
"""

import contextlib
import os
import signal
import time
from collections import Counter

from sqlalchemy import text

from enrich_pipeline.store import embedded

from . import schedules, workers
from .crash import LABELS, Schedule, Team, play_all
from .figures import Figures, Scale
from .ground import Ground

_PER_WORLD = 15
_ROUNDS = 3
_INSIDE = tuple(label for label in LABELS if label.endswith("ing"))


def run(scale: Scale, seed: int) -> Figures:
    """150 schedules in the full form, with at least one restart in each."""
    figures = Figures()
    total = scale.of(short=2, full=150)
    struck: Counter[str] = Counter()
    with Ground(min(total, _PER_WORLD) * schedules.PERSONS) as ground:

        class Outage(_Outage):
            def _restart(self) -> None:
                restart(ground)

        play_all(ground, total, min(total, _PER_WORLD), seed, figures, Outage, Team, struck)
    figures.note("labels at which sessions were ended", len(struck))
    return figures


def restart(ground: Ground) -> None:
    """What a crash of the server does to everybody connected to it."""
    home = ground.home / "db"
    postmaster = int((home / "pg" / "postmaster.pid").read_text().split("\n", 1)[0])
    with contextlib.suppress(ProcessLookupError):
        os.kill(postmaster, signal.SIGQUIT)
    embedded.start(home)


class _Outage(Schedule):
    forgiven = ("OperationalError", "InterfaceError")
    _due = float("inf")

    def _restart(self) -> None:
        raise NotImplementedError

    def _strike(self, labels: tuple[str, ...], place: int) -> workers.Strike | None:
        rng = self._rng
        if rng.random() > 0.6:
            return None
        label = _INSIDE[self._number % len(_INSIDE)] if place == 0 else rng.choice(_INSIDE)
        return workers.Strike(label, rng.choice((1, 1, 2, 3)), "cut")

    def _at_random(self, worker: workers.Worker) -> None:
        """Processes live; it is the database that does not."""

    def _disturb(self, crew: list[workers.Worker]) -> None:
        """Drains that lost the database are begun again, as the next runs would be."""
        for _ in range(_ROUNDS):
            self._due = time.monotonic() + 0.1 + self._rng.random()
            super()._disturb(crew)
            if not any(worker.error for worker in crew):
                return
            crew = self._set_to_work(LABELS)
        self._due = float("inf")
        super()._disturb(crew)

    def _meanwhile(self, crew: list[workers.Worker]) -> None:
        if time.monotonic() > self._due:
            self._due = float("inf")
            self._crashes += len(crew)
            self._restart()
            self._figures.add("restarts of the server")
        elif self._rng.random() < 0.01:
            self._crashes += 1
            self._aside(self._end_a_session)

    def _end_a_session(self) -> None:
        with self._lab.engine.begin() as conn:
            ended = conn.execute(
                text("""
                    select count(pg_terminate_backend(pid)) from (
                        select pid from pg_stat_activity
                        where datname = current_database() and pid <> pg_backend_pid()
                        order by random() limit 1) as one
                """)
            ).scalar_one()
        self._figures.add("sessions ended", int(ended))
