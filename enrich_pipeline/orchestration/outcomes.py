"""How runs ended, in the words of their own steps and checks: ids and counts, no values."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from enrich_pipeline.domain.alert import Alert, Level
from enrich_pipeline.orchestration import jobs, liveness, partitions

REMEMBERED = timedelta(days=7)
"""A failure that nobody ran again in this time is not told any more."""

_MANY = 2000
_SHOWN = 3


def problems(instance: dg.DagsterInstance, run_id: str) -> tuple[str, ...]:
    """Why a run failed: messages of failed steps and names of red checks.

    Other messages are left out: what a library says may quote a value or an address.
    """
    found = []
    wanted = {
        dg.DagsterEventType.STEP_FAILURE,
        dg.DagsterEventType.ASSET_CHECK_EVALUATION,
        dg.DagsterEventType.RUN_FAILURE,
    }
    for entry in instance.all_logs(run_id, of_type=wanted):
        event = entry.dagster_event
        if event is None:
            continue
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            evaluation = event.asset_check_evaluation_data
            if not evaluation.passed:
                found.append(f"check {evaluation.check_name} is red")
        elif event.event_type == dg.DagsterEventType.RUN_FAILURE:
            ours = f"run {run_id}: "
            if event.message is not None and event.message.startswith(ours):
                found.append(event.message.removeprefix(ours))
        elif (told := event.step_failure_data.user_failure_data) is not None and told.description:
            found.append(told.description)
    return tuple(dict.fromkeys(found)) or ("the run failed",)


def failed_runs(instance: dg.DagsterInstance, now: datetime) -> list[Alert]:
    """Partitions whose last run that ended has failed, however it was started.

    Whoever launches a dry run sees for himself how it ends: it counts neither way.
    """
    records = instance.get_run_records(
        dg.RunsFilter(
            statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE],
            updated_after=now - REMEMBERED,
        ),
        limit=_MANY,
    )
    last: dict[str, dg.RunRecord] = {}
    for record in sorted(records, key=lambda each: each.end_time or 0.0):
        run = record.dagster_run
        if liveness.is_ours(run) and not _is_dry(run.run_config):
            last[run.tags.get(partitions.TAG, run.job_name)] = record
    return [
        _alert(instance, key, record)
        for key, record in sorted(last.items())
        if record.dagster_run.is_failure
    ]


def _is_dry(run_config: Mapping[str, Any]) -> bool:
    options = run_config.get("resources", {}).get("refresh_options", {}).get("config", {})
    return bool(options.get("dry_run"))


def _alert(instance: dg.DagsterInstance, key: str, record: dg.RunRecord) -> Alert:
    run = record.dagster_run
    ended = datetime.fromtimestamp(record.end_time or 0.0, UTC)
    why = problems(instance, run.run_id)
    meaning, again = _meaning(run, key)
    return Alert(
        f"run_failed:{key}",
        Level.CRITICAL,
        f"the run of {key} failed",
        f"Run {run.run_id[:8]} of {key} failed at {ended:%Y-%m-%d %H:%M} UTC: "
        + "; ".join(why[:_SHOWN])
        + (f"; and {len(why) - _SHOWN} more problems." if len(why) > _SHOWN else "."),
        meaning,
        f"Mend what it names, then {again}.",
    )


def _meaning(run: dg.DagsterRun, key: str) -> tuple[str, str]:
    """What the failure means, and what to do when its cause is mended."""
    if run.job_name == jobs.RETENTION_NAME:
        return (
            "Values of persons are kept longer than `retention` in the configuration says.",
            "the run's Re-execute button in Dagster, or wait for tomorrow's run; `enrich prune` "
            "does the same",
        )
    batch, _, day = key.rpartition("|")
    again = f"`enrich refresh --date {day}" + (f" --batch {batch}`" if batch else "`")
    return (
        "This part of the night is not finished. What was bought is kept, what is open is "
        "continued by its next run.",
        f"{again} or the run's Re-execute button in Dagster; nothing is bought twice",
    )
