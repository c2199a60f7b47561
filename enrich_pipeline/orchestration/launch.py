"""Runs partitions of the job from the command line: one process per batch, beside any daemon.

Threads would deadlock in Dagster's logging; a pool of processes would end with its first dead
worker. The parent knows the run ids beforehand, so that it can close a run whose process died.
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
from dataclasses import dataclass
from datetime import date
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import dagster as dg

from enrich_pipeline import settings
from enrich_pipeline.orchestration import build, jobs, liveness, outcomes, partitions
from enrich_pipeline.orchestration.instance import keep_connections, open_instance

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_FOR_EVERY_RUN = (
    build.__name__,
    # What Dagster would import in every process anew, by name or on first use.
    "dagster_postgres",
    "dagster._core.execution.execute_in_process",
    "dagster._core.storage.local_compute_log_manager",
)
_STOP_WITHIN_SECONDS = 240.0
"""Longer than any exchange of the defaults: what is in flight is finished, not cut off."""


def warm_up() -> None:
    """Start the process that batches are forked from; it imports while the caller goes on."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(list(_FOR_EVERY_RUN))
    forkserver.ensure_running()


@dataclass(frozen=True, slots=True)
class Job:
    """One partition of one job, to be run in a process of its own."""

    name: str
    partition_key: str
    run_id: str
    run_config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended: `problems` are messages of failed steps and names of red checks."""

    job: Job
    succeeded: bool
    problems: tuple[str, ...]


def nightly(day: date, batch: int, options: Mapping[str, Any]) -> Job:
    """The nightly refresh of one partition."""
    config = {**_QUIET, "resources": {"refresh_options": {"config": dict(options)}}}
    return Job(jobs.NAME, partitions.key(day, batch), str(uuid.uuid4()), config)


def daily(day: date) -> Job:
    """The reports of a day."""
    return Job(jobs.DAILY_NAME, day.isoformat(), str(uuid.uuid4()), _QUIET)


def run_all(
    folder: Path,
    log: Path,
    wanted: Sequence[Job],
    meanwhile: Callable[[], None],
    on_stop: Callable[[], None],
) -> list[Ended]:
    """Run every job in its own process; `meanwhile` is called again and again until all ended.

    Interrupted, it calls `on_stop`, has the processes finish what they have in flight, closes their
    runs and raises the interruption again. A second interruption cuts them off.
    """
    context = multiprocessing.get_context("forkserver")
    processes = [
        context.Process(target=_run, args=(folder, log, job), name=job.partition_key, daemon=False)
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
        with open_instance(folder) as instance:
            ended = [_ended(instance, job) for job in wanted]
    return ended


def _run(folder: Path, log: Path, job: Job) -> None:
    """Body of the child process: execute one partition in this process."""
    with _output_to(log):
        # Ctrl-C reaches the parent only, which ends us by SIGTERM once.
        os.setsid()
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        _end_with_parent()
        defs = build.definitions(settings.load().policy)
        with open_instance(folder) as instance:
            keep_connections(instance)
            # Dagster finds run parameters of partitions through typed keys only.
            key = job.partition_key
            result = defs.resolve_job_def(job.name).execute_in_process(
                run_config=dict(job.run_config),
                instance=instance,
                partition_key=_typed(key),
                raise_on_error=False,
                run_id=job.run_id,
                tags={"enrich/launched_by": "enrich refresh"},
            )
    sys.exit(0 if result.success else 1)


def _typed(key: str) -> str:
    if "|" not in key:
        return key
    batch, _, day = key.partition("|")
    return partitions.key(date.fromisoformat(day), int(batch))


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


def _ended(instance: dg.DagsterInstance, job: Job) -> Ended:
    run = instance.get_run_by_id(job.run_id)
    if run is None:
        return Ended(job, False, ("its process ended before the run began",))
    if not run.is_finished:
        liveness.fail(instance, run, "its process ended early")
        return Ended(job, False, ("its process ended early",))
    return Ended(
        job, run.is_success, () if run.is_success else outcomes.problems(instance, job.run_id)
    )
