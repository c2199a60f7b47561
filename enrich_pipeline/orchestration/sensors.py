"""The sensor that brings late results home, and closes runs that died."""

from datetime import UTC, datetime, timedelta

import dagster as dg
from sqlalchemy import Engine

from enrich_pipeline import settings as configuration
from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.orchestration import jobs, liveness, partitions
from enrich_pipeline.store import late_results, ready

NEWEST = "enrich/newest_result"
"""Tag: the newest unapplied result that was there when the run was asked for."""

_PAUSE = timedelta(minutes=5)
"""Between two runs of a partition where nothing new has arrived."""
_UNFINISHED = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)


def late_results_sensor(batches: int) -> dg.SensorDefinition:
    """Asks for partitions whose answers arrived after their run had ended."""

    @dg.sensor(
        name="late_results_sensor",
        job_name=jobs.NAME,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Materializes a partition again when its accepted calls have all been answered, when "
            "a result has waited 15 minutes, or when a poll or deadline is due."
        ),
    )
    def _late_results_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        try:
            settings = configuration.load()
            engine = ready.open_engine(settings.database_url, settings.is_embedded)
        except ConfigurationError as error:
            return dg.SensorResult(skip_reason=str(error))
        try:
            return _evaluate(context.instance, engine, batches)
        finally:
            engine.dispose()

    return _late_results_sensor


def _evaluate(instance: dg.DagsterInstance, engine: Engine, batches: int) -> dg.SensorResult:
    closed = liveness.close_dead_runs(instance, engine)
    with engine.connect() as connection:
        late = late_results.partitions(connection)
    requests: dict[str, dg.RunRequest] = {}
    reasons = [f"closed the dead run {run_id}" for run_id in closed]
    for each in late:
        # A batch of an earlier, larger number of batches is drained by the one it falls into now.
        key = partitions.key(each.day, each.batch % batches)
        why_not = "" if each.reason else "answers are still out, none has waited 15 minutes"
        if each.reason:
            generation, why_not = _turn(instance, key, each.newest)
        if why_not:
            reasons.append(f"{key}: {why_not}")
            continue
        requests[key] = dg.RunRequest(
            run_key=f"{key}:{each.newest}:{generation}",
            partition_key=key,
            tags={NEWEST: str(each.newest), "enrich/reason": each.reason},
        )
    if requests:
        return dg.SensorResult(run_requests=list(requests.values()))
    return dg.SensorResult(skip_reason="; ".join(reasons) or "no call is waiting for a result")


def _turn(instance: dg.DagsterInstance, key: str, newest: int) -> tuple[int, str]:
    """How many runs the partition has had, and why it gets none now, if so.

    A run key is never used twice, so the number of runs is part of it: a run that failed is
    followed by another.
    """
    of_partition = dg.RunsFilter(tags={partitions.TAG: key})
    records = instance.get_run_records(of_partition, limit=1)
    if records:
        last = records[0]
        if last.dagster_run.status in _UNFINISHED:
            return 0, "a run is queued or running"
        same = last.dagster_run.tags.get(NEWEST) == str(newest)
        ended = datetime.fromtimestamp(last.end_time, UTC) if last.end_time else None
        if same and ended is not None and datetime.now(UTC) - ended < _PAUSE:
            return 0, "nothing new since the last run"
    return instance.get_runs_count(of_partition), ""
