"""Telling living runs from dead ones, and closing the dead.

A run's process holds a PostgreSQL advisory lock for as long as it lives; the server drops it with
the connection, whatever killed the process or its machine. Whoever can take the lock knows that
the run is dead. Age says nothing: an old run may still be making calls.
"""

import hashlib
import logging
import time
from collections.abc import Callable
from contextlib import suppress

import dagster as dg
from sqlalchemy import Connection, Engine, exc, text

from enrich_pipeline.orchestration import jobs
from enrich_pipeline.store import locks

MARK = "enrich/liveness"
"""Tag of runs that took the lock: only these can be found dead by its absence alone."""

UNMARKED_SECONDS = 300.0
"""A run takes its lock as its first deed: one that has none so long after it began died before,
and has sent nothing."""

_SETTLE_SECONDS = 3.0
"""Between letting go of the lock and its last event a run that ends well looks dead."""

_log = logging.getLogger(__name__)


class Liveness:
    """The lock of one run, held by this process until `close`."""

    def __init__(self, engine: Engine, run_id: str) -> None:
        self._engine = engine
        self._run_id = run_id
        self._connection: Connection | None = None
        self.renew()

    def renew(self) -> None:
        """Take the lock again should the connection have been lost."""
        if self._connection is not None:
            try:
                self._connection.execute(text("select 1"))
            except exc.DBAPIError:
                self.close()
            else:
                return
        self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        # Shared: the run's own processes do not exclude each other, only the question whether
        # any of them lives.
        self._connection.execute(
            text("select pg_advisory_lock_shared(:class, :key)"), _lock(self._run_id)
        )

    def close(self) -> None:
        """Let go of the lock; the run is over in this process."""
        if self._connection is not None:
            with suppress(exc.SQLAlchemyError):
                self._connection.execute(
                    text("select pg_advisory_unlock_shared(:class, :key)"), _lock(self._run_id)
                )
            # Should that have failed, the session must end: the pool would keep it, and the lock.
            self._connection.invalidate()
            self._connection.close()
            self._connection = None


def is_alive(connection: Connection, run_id: str) -> bool:
    """Whether some process holds the lock of the run."""
    taken = connection.execute(
        text("select pg_try_advisory_xact_lock(:class, :key)"), _lock(run_id)
    ).scalar_one()
    return not taken


def close_dead_runs(
    instance: dg.DagsterInstance,
    engine: Engine,
    sleep: Callable[[float], None] = time.sleep,
    unmarked_seconds: float = UNMARKED_SECONDS,
) -> list[str]:
    """Mark as failed the runs whose process is gone, free their pool slots; gives their ids."""
    suspects = _dead(instance, engine, unmarked_seconds)
    if not suspects:
        return []
    sleep(_SETTLE_SECONDS)
    again = {suspect.run_id for suspect in suspects}
    dead = [run for run in _dead(instance, engine, unmarked_seconds) if run.run_id in again]
    for run in dead:
        fail(instance, run, "its process is gone; what it left open is continued by the next run")
    return [run.run_id for run in dead]


def fail(instance: dg.DagsterInstance, run: dg.DagsterRun, why: str) -> None:
    """Record that a run is over that cannot say so itself."""
    instance.report_run_failed(run, message=f"run {run.run_id}: {why}")
    instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    _log.warning("run %s closed: %s", run.run_id, why)


def _dead(
    instance: dg.DagsterInstance, engine: Engine, unmarked_seconds: float
) -> list[dg.DagsterRun]:
    records = instance.get_run_records(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING])
    )
    suspects = [
        record.dagster_run
        for record in records
        if MARK in record.dagster_run.tags
        or is_ours(record.dagster_run)
        and record.start_time is not None
        and time.time() - record.start_time > unmarked_seconds
    ]
    if not suspects:
        return []
    # The unmarked ones too: a run that holds its lock lives, whatever became of its tag.
    with engine.begin() as connection:
        return [run for run in suspects if not is_alive(connection, run.run_id)]


def is_ours(run: dg.DagsterRun) -> bool:
    """Whether this package made the run: an instance may serve others too."""
    ours = {dg.AssetKey(name) for name in (*jobs.ASSETS, *jobs.DAILY_ASSETS)}
    return run.job_name in (jobs.NAME, jobs.DAILY_NAME, jobs.RETENTION_NAME) or (
        bool(run.asset_selection) and set(run.asset_selection or ()) <= ours
    )


def _lock(run_id: str) -> dict[str, int]:
    digest = hashlib.sha256(run_id.encode()).digest()
    return {"class": locks.RUN, "key": int.from_bytes(digest[:4], signed=True)}
