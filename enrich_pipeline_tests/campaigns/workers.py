"""Worker processes that drain partitions, and are killed, stopped and continued while they do.

A worker lives for as many jobs as nobody kills it. It says through its pipe what it does; what it
is told to do to itself at a fault point is a real signal from its own hand, at that very step.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

import psutil
from sqlalchemy import URL, Engine, create_engine, event, make_url, text

from enrich_pipeline.settings import load as load_settings
from enrich_pipeline.store import connection
from enrich_pipeline.waterfall import fault_points
from enrich_pipeline.waterfall.engine import Partition

from ..support.lab import Lab, chain_of, opened

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload([__name__])


@dataclass(frozen=True, slots=True)
class Strike:
    """What happens to a worker, by its own hand, at a fault point reached for the `nth` time.

    `cut` ends its database sessions, so that a transaction under way cannot commit.
    """

    label: str
    nth: int
    kind: Literal["kill", "stop", "cut"]


@dataclass(frozen=True, slots=True)
class Job:
    """One drain of a batch of these dates, date after date."""

    run_id: str
    days: tuple[date, ...]
    batch: int
    strike: Strike | None = None
    chain: tuple[str, ...] | None = None


class Worker:
    """A worker process from the side of whoever gives it jobs."""

    def __init__(
        self,
        lab: Lab,
        environment: Mapping[str, str] | None = None,
        database: URL | None = None,
    ) -> None:
        """`environment` and `database`: other ways to the same places, through a proxy say."""
        self._pipe, theirs = _PROCESSES.Pipe()
        url = (database or lab.database).render_as_string(hide_password=False)
        variables = {**lab.environment, **(environment or {})}
        self._process = _PROCESSES.Process(
            target=_work, args=(theirs, url, variables, lab.folder), daemon=True
        )
        self._process.start()
        theirs.close()
        self.busy = False
        self.struck: str | None = None
        self.error: str | None = None
        self.stopped = False

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    def give(self, job: Job) -> None:
        self.struck = self.error = None
        self._pipe.send(job)
        self.busy = True

    def look(self) -> None:
        """Reads what the worker said; a dead one is not busy."""
        with contextlib.suppress(EOFError, OSError):
            while self._pipe.poll():
                kind, words = self._pipe.recv()
                if kind == "struck":
                    self.struck = words
                    self.stopped = words.startswith("stop ")
                else:
                    self.busy, self.error = False, words
        if self.busy and not self.is_alive:
            self.busy = False

    def kill(self) -> None:
        self._process.kill()
        self._process.join(10)
        self.busy = self.stopped = False

    def stop(self) -> None:
        """Pauses it, as a machine that sleeps does."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGSTOP)
            self.stopped = True

    def go_on(self) -> None:
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            # It says that it is about to stop before it does.
            until = time.monotonic() + 1
            while psutil.Process(self.pid).status() != psutil.STATUS_STOPPED:
                if time.monotonic() > until:
                    break
                time.sleep(0.002)
            os.kill(self.pid, signal.SIGCONT)
        self.stopped = False


def busy(workers: Sequence[Worker]) -> list[Worker]:
    """Those that still work, after hearing all of them."""
    for worker in workers:
        worker.look()
    return [w for w in workers if w.busy]


def _work(pipe: Connection, database: str, environment: dict[str, str], folder: Path) -> None:
    engine = connection.create_engine(make_url(database), pool_size=6)
    sessions = _Sessions(engine)
    settings = load_settings(environment, folder)
    voice = threading.Lock()

    def say(kind: str, words: str | None) -> None:
        with voice:
            pipe.send((kind, words))

    while True:
        try:
            job: Job = pipe.recv()
        except EOFError:
            return
        fault_points.set_hook(_striking(job.strike, say, sessions))
        error = None
        try:
            for day in job.days:
                with opened(engine, settings, f"{job.run_id}-{day}") as waterfall:
                    waterfall.sweep()
                    partition = Partition(day, job.batch)
                    waterfall.reuse(partition)
                    for provider in job.chain or chain_of(settings):
                        waterfall.attempt(partition, provider)
        except Exception as problem:  # noqa: BLE001 - a drain may fail; what it left is checked
            error = f"{type(problem).__name__}: {str(problem).splitlines()[0][:200]}"
        say("done", error)


class _Sessions:
    """The database sessions of this process."""

    def __init__(self, engine: Engine) -> None:
        self._url = engine.url
        self._pids: set[int] = set()
        event.listen(engine, "connect", lambda raw, _: self._pids.add(raw.info.backend_pid))

    def end(self) -> None:
        other = create_engine(self._url, isolation_level="AUTOCOMMIT")
        with other.connect() as conn:
            conn.execute(
                text("select pg_terminate_backend(pid) from unnest(cast(:pids as int[])) as pid"),
                {"pids": sorted(self._pids)},
            )
        other.dispose()
        self._pids.clear()


def _striking(
    strike: Strike | None, say: Callable[[str, str | None], None], sessions: "_Sessions"
) -> Callable[[fault_points.Label], None] | None:
    if strike is None:
        return None
    # Its `next` is atomic, and calls are sent by several threads.
    times = count(1)

    def hook(label: fault_points.Label) -> None:
        if label == strike.label and next(times) == strike.nth:
            say("struck", f"{strike.kind} {label}")
            if strike.kind == "cut":
                sessions.end()
            else:
                os.kill(os.getpid(), signal.SIGSTOP if strike.kind == "stop" else signal.SIGKILL)

    return hook
