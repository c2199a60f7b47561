"""Runs partitions of the jobs from the command line: one process per batch, beside any daemon.

Threads would deadlock in Dagster's logging; a pool of processes would end with its first dead
worker. The parent knows the run ids beforehand, so that runs can be closed whose process died.

Nothing of Dagster is imported here: that takes two seconds of processor time, and the process that
others are forked from has done it (`run.py`).
"""

import multiprocessing
import os
import signal
import sys
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
from typing import Any, TypeVar

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
        self._context = multiprocessing.get_context("forkserver")
        # Imports while the caller goes on.
        self._context.set_forkserver_preload(list(_FOR_EVERY_RUN))
        forkserver.ensure_running()

    def run_all(
        self, wanted: Sequence[Job], meanwhile: Callable[[], None], on_stop: Callable[[], None]
    ) -> list[Ended]:
        """Run every job; `meanwhile` is called again and again until all ended.

        Interrupted, it calls `on_stop`, has the processes finish what they have in flight, closes
        their runs and raises the interruption again. A second interruption cuts them off.
        """
        processes = [
            self._context.Process(target=_run, args=(self._folder, self._log, job), daemon=False)
            for job in wanted
        ]
        try:
            for process in processes:
                process.start()
            while any(process.is_alive() for process in processes):
                meanwhile()
        except BaseException:
            on_stop()
            _stop(processes)
            raise
        finally:
            ended = self._ask(_how_they_ended, self._folder, wanted)
        return ended

    def close_dead_runs(self) -> list[str]:
        """Mark as failed the runs whose process is gone; gives their ids."""
        return self._ask(_close_dead_runs, self._folder)

    def _ask(self, question: Callable[..., _Answer], *arguments: object) -> _Answer:
        hears, tells = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=_tell, args=(tells, self._log, question, arguments), daemon=False
        )
        process.start()
        tells.close()
        try:
            answer: _Answer = hears.recv()
        except EOFError:
            raise EnrichError(f"Dagster's storage did not answer; {self._log} says why") from None
        finally:
            hears.close()
            process.join()
        return answer


def _run(folder: Path, log: Path, job: Job) -> None:
    from enrich_pipeline.orchestration import run

    with _output_to(log):
        _end_with_parent()
        succeeded = run.execute(folder, job)
    sys.exit(0 if succeeded else 1)


def _tell(
    hearer: Connection, log: Path, question: Callable[..., object], arguments: Sequence[object]
) -> None:
    with _output_to(log):
        hearer.send(question(*arguments))


def _how_they_ended(folder: Path, wanted: Sequence[Job]) -> list[Ended]:
    from enrich_pipeline.orchestration import run

    return run.how_they_ended(folder, wanted)


def _close_dead_runs(folder: Path) -> list[str]:
    from enrich_pipeline.orchestration import run

    return run.close_dead_runs(folder)


@contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """What libraries print belongs into the log, and Ctrl-C to the parent."""
    os.setsid()
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
