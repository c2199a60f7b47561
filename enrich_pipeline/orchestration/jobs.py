"""The nightly job, its schedule, the job of the daily reports, and the names of all jobs."""

from typing import Any

import dagster as dg

from enrich_pipeline.domain.policy import RefreshPolicy

NAME = "nightly_refresh"
DAILY_NAME = "daily_reports"
RETENTION_NAME = "retention"
ASSETS = ("stale_contacts", "enrichment_attempts", "enriched_contacts", "credit_ledger")
DAILY_ASSETS = ("provider_daily", "refresh_daily", "refresh_report")


def nightly_refresh() -> Any:
    """One run per (date, batch): plan, waterfall, publish, checks.

    Dagster exports no name for the type.
    """
    return dg.define_asset_job(
        NAME,
        selection=dg.AssetSelection.assets(*ASSETS),
        description=(
            "Takes the stale contacts of one date and batch as far as they go now. Safe to run "
            "again at any time: what was bought is not bought again."
        ),
    )


def nightly_refresh_schedule(job: Any, refresh: RefreshPolicy) -> Any:
    """Asks for today's partitions of all batches at the configured hour.

    It spends money, so it is off until somebody turns it on.
    """
    return dg.build_schedule_from_partitioned_job(
        job,
        name="nightly_refresh_schedule",
        hour_of_day=refresh.hour_utc,
        description=f"Every night at {refresh.hour_utc:02d}:00 UTC, one run per batch.",
    )


def daily_reports() -> Any:
    """One run per date, after its batches: what `enrich refresh` ends with."""
    return dg.define_asset_job(
        DAILY_NAME,
        selection=dg.AssetSelection.assets(*DAILY_ASSETS),
        description="Reports one date and checks the report against the ledger.",
    )
