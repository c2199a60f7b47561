"""What the command line has its forked processes do with Dagster: execute a run, tell of others."""

from collections.abc import Sequence
from pathlib import Path

import dagster as dg

from enrich_pipeline import settings
from enrich_pipeline.orchestration import build, jobs, liveness, outcomes, partitions
from enrich_pipeline.orchestration.instance import keep_connections, open_instance
from enrich_pipeline.orchestration.launch import Ended, Job
from enrich_pipeline.store import connection

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def execute(folder: Path, job: Job) -> Ended:
    """Execute one partition in this process, and tell how that ended."""
    defs = build.definitions(settings.load().policy)
    options = {"resources": {"refresh_options": {"config": dict(job.options)}}}
    with open_instance(folder) as instance:
        keep_connections(instance)
        defs.resolve_job_def(_name(job)).execute_in_process(
            run_config=_QUIET if job.batch is None else {**_QUIET, **options},
            instance=instance,
            partition_key=_partition_key(job),
            raise_on_error=False,
            run_id=job.run_id,
            tags={"enrich/launched_by": "enrich refresh"},
        )
        return _ended(instance, job)


def how_they_ended(folder: Path, wanted: Sequence[Job]) -> list[Ended]:
    """How runs ended whose processes did not live to tell; closes those that are not over."""
    with open_instance(folder) as instance:
        return [_ended(instance, job) for job in wanted]


def close_dead_runs(folder: Path) -> list[str]:
    """Mark as failed the runs whose process is gone; gives their ids."""
    engine = connection.create_engine(settings.load().database_url)
    with open_instance(folder) as instance:
        closed = liveness.close_dead_runs(instance, engine)
    engine.dispose()
    return closed


def _name(job: Job) -> str:
    return jobs.DAILY_NAME if job.batch is None else jobs.NAME


def _partition_key(job: Job) -> str:
    # Dagster finds run parameters of partitions through typed keys only.
    return job.day.isoformat() if job.batch is None else partitions.key(job.day, job.batch)


def _ended(instance: dg.DagsterInstance, job: Job) -> Ended:
    # Plain: whoever reads a key of Dagster's own type imports Dagster.
    key = str(_partition_key(job))
    run = instance.get_run_by_id(job.run_id)
    if run is None:
        return Ended(key, False, ("its process ended before the run began",))
    if not run.is_finished:
        liveness.fail(instance, run, "its process ended early")
        return Ended(key, False, ("its process ended early",))
    problems = () if run.is_success else outcomes.problems(instance, job.run_id)
    return Ended(key, run.is_success, problems)
