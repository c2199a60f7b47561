"""Schedules side by side: every lane has a database server, a sandbox and worlds of its own.

A schedule mostly waits, for leases, deliveries and processes that sleep, so that a machine can see
to several. Its number is its seed, and says which world it plays in and which batch of that is its
own: it goes the same way alone as among thousands.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from itertools import count, groupby
from typing import Protocol

from . import checks, schedules, workers
from .figures import Figures, Ticker
from .ground import Ground

PER_WORLD = 10
PEOPLE = PER_WORLD * schedules.PERSONS
_PER_CORE = 2
_RECOVERED_WITHIN_SECONDS = 120.0
_runs = count(1)


class Team:
    """The workers of one world; those that died are replaced."""

    def __init__(self, world: schedules.World) -> None:
        self.world = world
        self.known: set[str] = set()
        """Violations that an earlier schedule of this world was blamed for."""
        self._workers: list[workers.Worker] = []
        self._spared: list[workers.Worker] = []

    def take(self, number: int) -> list[workers.Worker]:
        return self._manned(self._workers, number)

    def drain(self, batch: int, days: Sequence[date]) -> None:
        """One run over each date's batch, by a worker whom nobody harms.

        Raises:
            RuntimeError: it failed, or came to no end.
        """
        (worker,) = self._manned(self._spared, 1)
        worker.give(workers.Job(f"rest-{next(_runs)}", tuple(days), batch))
        worker.wait(_RECOVERED_WITHIN_SECONDS)
        if worker.busy:
            worker.kill()
            raise RuntimeError("a run that nobody harmed came to no end")
        if worker.error is not None:
            raise RuntimeError(worker.error)

    def hire(self) -> workers.Worker:
        return workers.Worker(self.world.lab)

    def dismiss(self) -> None:
        for worker in (*self._workers, *self._spared):
            worker.kill()

    def _manned(self, posts: list[workers.Worker], number: int) -> list[workers.Worker]:
        posts[:] = [w for w in posts if w.is_alive]
        while len(posts) < number:
            posts.append(self.hire())
        return posts[:number]


class Playable(Protocol):
    """A schedule that has not begun."""

    def play(self) -> list[str]:
        """Makes trouble, brings everything to rest, and says what does not hold then."""


@dataclass(frozen=True, slots=True)
class Lane:
    """Where schedules are played one after the other: `schedule` makes the one of a number."""

    ground: Ground
    schedule: Callable[[Team, int], Playable]
    team: Callable[[schedules.World], Team] = Team


def play(
    name: str,
    numbers: range,
    full: int,
    figures: Figures,
    lane: Callable[[], AbstractContextManager[Lane]],
) -> None:
    """Plays the schedules of these numbers; `full` is how many the full form of `name` has."""
    worlds = [list(members) for _, members in groupby(numbers, lambda n: n // PER_WORLD)]
    waiting: Iterator[list[int]] = iter(worlds)
    turn, over = threading.Lock(), threading.Event()
    ticker, done = Ticker(figures, len(numbers), "schedules"), count(1)

    def work() -> None:
        with lane() as own:
            while True:
                with turn:
                    members = next(waiting, None)
                if members is None:
                    return
                for number, violations in _in_world(own, members, figures):
                    once = f"make campaign NAME={name} SCALE={1 / full:.2g} SEED={number}"
                    figures.blame(f"schedule {number} (alone: {once})", violations)
                    ticker.tick(next(done))
                    if over.is_set():
                        return

    lanes = min(len(worlds), _PER_CORE * (os.cpu_count() or 1))
    with ThreadPoolExecutor(lanes, thread_name_prefix=name) as pool:
        try:
            for each in [pool.submit(work) for _ in range(lanes)]:
                each.result()
        finally:
            # Told to end, a lane finishes its schedule and stops its servers.
            over.set()


def _in_world(
    lane: Lane, numbers: Sequence[int], figures: Figures
) -> Iterator[tuple[int, list[str]]]:
    """Plays schedules of one world; for each what it is the first to be blamed for."""
    with schedules.world(lane.ground, numbers[0] // PER_WORLD, PER_WORLD) as world:
        team = lane.team(world)
        try:
            for number in numbers:
                found = lane.schedule(team, number).play()
                fresh = [v for v in dict.fromkeys(found) if v not in team.known]
                team.known.update(fresh)
                yield number, fresh
        finally:
            team.dismiss()
        figures.add("calls", sum(world.lab.sent().values()))
        figures.add("calls in doubt", checks.doubts(world.lab.engine))
