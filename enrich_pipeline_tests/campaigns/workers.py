"""Worker processes that drain partitions, and are killed, stopped and continued while they do.

A worker lives for as many jobs as nobody kills it. It says through its pipe what it does; what it
is told to do to itself at a fault point is a real signal from its own hand, at that very step.
"""

import contextlib
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import partial
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

import psutil
from sqlalchemy import URL, Engine, create_engine, event, make_url, text

from enrich_pipeline.settings import Settings
from enrich_pipeline.settings import load as load_settings
from enrich_pipeline.store import connection, late_results
from enrich_pipeline.waterfall import fault_points
from enrich_pipeline.waterfall.engine import Partition
from enrich_pipeline.waterfall.planning import plan_night

from ..support.lab import Lab, chain_of, opened
from ..support.sandbox import PROVIDERS

_PROCESSES = multiprocessing.get_context("forkserver")
# What every worker would load by itself, once: adapters are plug-ins, found by name.
_PROCESSES.set_forkserver_preload(
    [__name__, *(f"enrich_pipeline.providers.{name}" for name in PROVIDERS)]
)
_LOOK_EVERY_SECONDS = 0.1
_struck = threading.Event()
"""In a worker: its strike has happened."""


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
    clock_ahead_seconds: float = 0.0
    """How wrong the clock of this worker's machine is."""
    halt_after: str | None = None
    """Words of a statement: after the next such one, and after its strike if it has one, it stops
    with its locks in its hands."""
    plan: bool = False
    """Whether it plans the dates first, as every run of a night does."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What the sensor and the runs it asks for do, over and over, until the worker is told off."""

    run_id: str


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
        self.drains = 0
        """Partitions that it has drained."""

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    def give(self, job: Job | Watch) -> None:
        self.struck = self.error = None
        self._pipe.send(job)
        self.busy = True

    def tell_off(self) -> None:
        """Ends its watch."""
        with contextlib.suppress(OSError):
            self._pipe.send(None)

    def look(self) -> None:
        """Reads what the worker said; a dead one is not busy."""
        with contextlib.suppress(EOFError, OSError):
            while self._pipe.poll():
                kind, words = self._pipe.recv()
                if kind == "struck":
                    self.struck = words
                    self.stopped = words.startswith("stop ")
                elif kind == "drained":
                    self.drains += 1
                else:
                    self.busy, self.error = False, words
        if self.busy and not self.is_alive:
            self.busy = False

    def wait(self, seconds: float) -> None:
        """Until its job is done or it is dead, but no longer than this."""
        until = time.monotonic() + seconds
        while self.busy and (left := until - time.monotonic()) > 0:
            multiprocessing.connection.wait([self._pipe, self._process.sentinel], left)
            self.look()

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


_Say = Callable[[str, str | None], None]


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
            job: Job | Watch | None = pipe.recv()
        except EOFError:
            return
        if job is None:
            continue
        if isinstance(job, Watch):
            say("done", _failure_of(partial(_watch, engine, settings, job, pipe, say)))
            continue
        fault_points.set_hook(_striking(job.strike, say, sessions))
        if job.clock_ahead_seconds:
            _set_clock_ahead(job.clock_ahead_seconds)
        if job.halt_after:
            _halt_after(engine, job.halt_after, say, awaits_strike=job.strike is not None)
        say("done", _failure_of(partial(_drain, engine, settings, job, say)))


def _failure_of(act: Callable[[], None]) -> str | None:
    """A drain may fail: what it left behind is checked."""
    try:
        act()
    except Exception as problem:  # noqa: BLE001 - whatever it is, it is told
        return f"{type(problem).__name__}: {' '.join(str(problem).split())[:600]}"
    return None


def _drain(engine: Engine, settings: Settings, job: Job, say: _Say) -> None:
    for day in job.days:
        if job.plan:
            now = datetime.now(UTC)
            plan_night(engine, settings.policy, settings.providers, day, None, now)
        with opened(engine, settings, f"{job.run_id}-{day}") as waterfall:
            waterfall.sweep()
            partition = Partition(day, job.batch)
            waterfall.reuse(partition)
            chain = job.chain or chain_of(settings)
            for place, provider in enumerate(chain, start=1):
                waterfall.attempt(partition, provider, later=chain[place:])
        say("drained", None)


def _watch(engine: Engine, settings: Settings, watch: Watch, pipe: Connection, say: _Say) -> None:
    runs = count(1)
    while not pipe.poll(_LOOK_EVERY_SECONDS):
        with engine.connect() as conn:
            due = [p for p in late_results.partitions(conn) if p.reason]
        for each in due:
            run_id = f"{watch.run_id}-{next(runs)}"
            _drain(engine, settings, Job(run_id, (each.day,), each.batch), say)


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


def _halt_after(engine: Engine, words: str, say: _Say, *, awaits_strike: bool) -> None:
    times = count(1)

    def halt(_conn: object, _cursor: object, statement: str, *_: object) -> None:
        if words in statement and (not awaits_strike or _struck.is_set()) and next(times) == 1:
            say("struck", f"stop {words}")
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)

    event.listen(engine, "after_cursor_execute", halt)


def _set_clock_ahead(seconds: float) -> None:
    """Makes the clock that the package reads in this process wrong; the monotonic one never is."""
    right = time.time

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(seconds=seconds)

    for name, module in list(sys.modules.items()):
        if name.startswith("enrich_pipeline.") and hasattr(module, "datetime"):
            module.datetime = Wrong  # type: ignore[attr-defined]
    time.time = lambda: right() + seconds


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
            _struck.set()
            if strike.kind == "cut":
                sessions.end()
            else:
                # To this thread: of a signal to the process another one hears first, and this one
                # would have gone on for a step or two before it sleeps.
                number = signal.SIGSTOP if strike.kind == "stop" else signal.SIGKILL
                signal.pthread_kill(threading.get_ident(), number)

    return hook
