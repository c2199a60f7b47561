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
_WITHOUT_A_STEP = {
    "START_TIMEOUT": (
        "its process had not started after run_monitoring.start_timeout_seconds of dagster.yaml; "
        "the machine may be overloaded"
    ),
    "UNEXPECTED_TERMINATION": "its process was told to end",
    "RUN_WORKER_RESTART": "its process was started a second time",
    "JOB_INITIALIZATION_FAILURE": "Dagster could not set it up; the run's log says why",
    "RUN_EXCEPTION": "Dagster failed while executing it; the run's log says why",
}
"""Dagster's reasons for a run that no step of ours has failed, in words for people."""


def problems(instance: dg.DagsterInstance, run_id: str) -> tuple[str, ...]:
    """Why a run failed: messages of failed steps, names of red checks, Dagster's own reason.

    Other messages are left out: what a library says may quote a value or an address. Of a step
    that could not speak for itself, its process having died, the kind of error is told.
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
            found += _of_the_run(event, ours=f"run {run_id}: ")
        else:
            found += _of_a_step(event)
    return tuple(dict.fromkeys(found)) or ("the run failed",)


def _of_the_run(event: dg.DagsterEvent, ours: str) -> list[str]:
    if event.message is not None and event.message.startswith(ours):
        return [event.message.removeprefix(ours)]
    said = event.job_failure_data if event.event_specific_data is not None else None
    reason = said.failure_reason if said is not None else None
    return [_WITHOUT_A_STEP[reason.value]] if reason and reason.value in _WITHOUT_A_STEP else []


def _of_a_step(event: dg.DagsterEvent) -> list[str]:
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return [data.user_failure_data.description]
    return [f"step {event.step_key}: {data.error.cls_name}"] if data.error is not None else []


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
