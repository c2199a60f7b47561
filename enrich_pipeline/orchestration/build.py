"""Puts the definitions together for one policy."""

import warnings

import dagster as dg

from enrich_pipeline.domain.policy import Policy
from enrich_pipeline.orchestration import (
    alerts,
    assets,
    checks,
    executors,
    jobs,
    partitions,
    report,
    retention,
    sensors,
)
from enrich_pipeline.orchestration.resources import Pipeline, RefreshOptions


def definitions(policy: Policy) -> dg.Definitions:
    """Everything that Dagster is shown. Needs no database and no keys."""
    # Checks by partition are a preview feature, used knowingly; every process would say so.
    warnings.filterwarnings("ignore", category=dg.PreviewWarning)
    by_date = partitions.by_date(policy.refresh)
    by_date_and_batch = partitions.by_date_and_batch(policy.refresh)
    job = jobs.nightly_refresh()
    return dg.Definitions(
        assets=[
            assets.stale_contacts(by_date_and_batch),
            assets.waterfall(policy, by_date_and_batch),
            *assets.daily(policy),
            report.refresh_report(policy),
        ],
        asset_checks=[*checks.blocking(by_date_and_batch), *checks.daily(by_date)],
        jobs=[job, jobs.daily_reports(), retention.retention],
        schedules=[
            jobs.nightly_refresh_schedule(job, policy.refresh),
            retention.schedule(policy.refresh.hour_utc),
        ],
        sensors=[
            sensors.late_results_sensor(policy.refresh.batches),
            dg.AutomationConditionSensorDefinition(
                "daily_reports_sensor",
                target=dg.AssetSelection.assets(*jobs.DAILY_ASSETS),
                default_status=dg.DefaultSensorStatus.RUNNING,
                description="Reports a day when all of its batches are done.",
            ),
            alerts.alerts_sensor,
            alerts.failed_run_sensor,
        ],
        resources={
            "pipeline": Pipeline(),
            "refresh_options": RefreshOptions.configure_at_launch(),
        },
        executor=executors.chosen(policy.refresh.executor),
    )
