"""Runs partitions of the jobs from the command line: one process per batch, beside any daemon.

Threads would deadlock in Dagster's logging; a pool of processes would end with its first dead
worker. The parent knows the run ids beforehand, so that runs can be closed whose process died.

Nothing of Dagster is imported here: that takes two seconds of processor time, and the process that
others are forked from has done it (`run.py`).
"""

import multiprocessing
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Generic, TypeVar

from enrich_pipeline.domain.errors import EnrichError

_FOR_EVERY_RUN = (
    "enrich_pipeline.orchestration.run",
    # What Dagster would import in every process anew, by name or on first use.
    "dagster_postgres",
    "dagster._core.execution.execute_in_process",
    "dagster._core.storage.local_compute_log_manager",
)
_STOP_WITHIN_SECONDS = 240.0
"""Longer than any exchange of the defaults: what is in flight is finished, not cut off."""

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Job:
    """The refresh of one batch of a day, or without a batch the day's reports."""

    day: date
    batch: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: `problems` are messages of failed steps and names of red checks."""

    partition_key: str
    succeeded: bool
    problems: tuple[str, ...]


class Launcher:
    """Runs jobs in processes of their own, with Dagster's configuration of a folder.

    `log` takes what libraries print there.
    """

    def __init__(self, folder: Path, log: Path) -> None:
        self._folder, self._log = folder, log
        # Imports while the caller goes on.
        multiprocessing.get_context("forkserver").set_forkserver_preload(list(_FOR_EVERY_RUN))
        forkserver.ensure_running()

    def run_all(
        self, wanted: Sequence[Job], meanwhile: Callable[[], None], on_stop: Callable[[], None]
    ) -> list[Ended]:
        """Run every job; `meanwhile` is called again and again until all ended.

        Interrupted, it calls `on_stop`, has the processes finish what they have in flight, closes
        their runs and raises the interruption again. A second interruption cuts them off.
        """
        runs = [_Errand(self._log, _execute, self._folder, job) for job in wanted]
        processes = [run.process for run in runs]
        try:
            for run in runs:
                run.start()
            while any(process.is_alive() for process in processes):
                meanwhile()
        except BaseException:
            on_stop()
            _stop(processes)
            raise
        finally:
            told = [run.told() for run in runs]
            silent = [job for job, ended in zip(wanted, told, strict=True) if ended is None]
            others = self._ask(_how_they_ended, self._folder, silent) if silent else []
        return [ended for ended in told if ended is not None] + others

    def close_dead_runs(self) -> list[str]:
        """Mark as failed the runs whose process is gone; gives their ids."""
        return self._ask(_close_dead_runs, self._folder)

    def _ask(self, question: Callable[..., _Answer], *arguments: object) -> _Answer:
        errand = _Errand(self._log, question, *arguments)
        errand.start()
        answer = errand.told()
        if answer is None:
            raise EnrichError(f"Dagster's storage did not answer; {self._log} says why")
        return answer


class _Errand(Generic[_Answer]):
    """A forked process that has something done by Dagster, and tells what came of it."""

    def __init__(self, log: Path, errand: Callable[..., _Answer], *arguments: object) -> None:
        context = multiprocessing.get_context("forkserver")
        self._hears, self._tells = context.Pipe(duplex=False)
        self.process: BaseProcess = context.Process(
            target=_tell, args=(self._tells, log, errand, arguments), daemon=False
        )

    def start(self) -> None:
        self.process.start()
        # Only the process holds it open now: when it dies, nothing more will be told.
        self._tells.close()

    def told(self) -> _Answer | None:
        """Waits for what it tells; None where it did not live to."""
        if self.process.pid is None:
            return None
        try:
            answer: _Answer = self._hears.recv()
        except EOFError:
            return None
        return answer


def _tell(
    teller: Connection, log: Path, errand: Callable[..., object], arguments: Sequence[object]
) -> None:
    with _output_to(log):
        # Ctrl-C reaches the parent only, which ends us by SIGTERM once.
        os.setsid()
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        _end_with_parent()
        teller.send(errand(*arguments))


def _execute(folder: Path, job: Job) -> Ended:
    from enrich_pipeline.orchestration import run

    return run.execute(folder, job)


def _how_they_ended(folder: Path, wanted: Sequence[Job]) -> list[Ended]:
    from enrich_pipeline.orchestration import run

    return run.how_they_ended(folder, wanted)


def _close_dead_runs(folder: Path) -> list[str]:
    from enrich_pipeline.orchestration import run

    return run.close_dead_runs(folder)


@contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """What libraries print belongs into the log, not into the progress display."""
    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        yield


def _end_with_parent() -> None:
    """Stop when the command that started us is gone: nobody would see what we go on spending."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_STOP_WITHIN_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _stop(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        if process.pid is not None and process.is_alive():
            process.terminate()
    deadline = time.monotonic() + _STOP_WITHIN_SECONDS
    started = [process for process in processes if process.pid is not None]
    try:
        for process in started:
            process.join(max(0.0, deadline - time.monotonic()))
    finally:
        for process in started:
            if process.is_alive():
                process.kill()
                process.join()
