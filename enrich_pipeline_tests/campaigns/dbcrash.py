"""PostgreSQL that dies and comes back under load, sessions that end, commits that are lost.

The server is this campaign's own: it gets SIGQUIT (an immediate shutdown, without a checkpoint) and
is started again while the workers go on as well as they can.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator

from sqlalchemy import text

from enrich_pipeline.store import embedded

from . import lanes, workers
from .crash import LABELS, Schedule
from .figures import Figures, Scale
from .ground import Ground
from .lanes import PEOPLE, Lane, Team

_FULL = 150
_ROUNDS = 3
_INSIDE = tuple(label for label in LABELS if label.endswith("ing"))


def run(scale: Scale, seed: int) -> Figures:
    """150 schedules in the full form, numbered from the seed on; a restart or more in each."""
    figures = Figures()
    struck: set[str] = set()
    total = scale.of(short=2, full=_FULL)

    @contextlib.contextmanager
    def lane() -> Iterator[Lane]:
        with Ground(PEOPLE) as ground:
            yield Lane(ground, lambda team, number: _Outage(ground, team, number, figures, struck))

    lanes.play("dbcrash", range(seed, seed + total), _FULL, figures, lane)
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

    def __init__(
        self, ground: Ground, team: Team, number: int, figures: Figures, struck: set[str]
    ) -> None:
        super().__init__(team, number, figures, struck)
        self._ground = ground
        self._due = float("inf")

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
            restart(self._ground)
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
