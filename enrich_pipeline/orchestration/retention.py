"""The daily job that removes what was kept long enough; what and how is `store/retention.py`."""

from typing import Any

import dagster as dg

from enrich_pipeline.orchestration import jobs
from enrich_pipeline.orchestration.resources import Pipeline, guarded, now
from enrich_pipeline.store import retention as pruning


@dg.op(
    name="prune",
    out=dg.Out(dg.Nothing),
    description="Removes raw replies, requests, deliveries, skips and files older than configured.",
)
def _prune(context: dg.OpExecutionContext, pipeline: Pipeline) -> None:
    with guarded("prune"):
        settings = pipeline.settings
        removed = pruning.prune(pipeline.engine, settings.home, settings.policy.retention, now())
        context.log.info(", ".join(f"{kind} {count}" for kind, count in removed.items()))
        context.add_output_metadata(removed)


@dg.job(
    name=jobs.RETENTION_NAME,
    description=(
        "Removes what is older than `retention` in the configuration says; `enrich prune` does the "
        "same. Never the ledger, observations, or what an open call needs."
    ),
)
def retention() -> None:
    _prune()


def schedule(hour_utc: int) -> Any:
    """Every day, some hours after the night. It spends nothing, so it is on from the start."""
    return dg.ScheduleDefinition(
        name="retention_schedule",
        job=retention,
        cron_schedule=f"30 {(hour_utc + 6) % 24} * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Every day, six hours after the night begins.",
    )
