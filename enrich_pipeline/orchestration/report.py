"""The asset behind the morning page; what stands on the page is not here."""

from collections.abc import Iterator

import dagster as dg

from enrich_pipeline.domain.policy import Policy
from enrich_pipeline.orchestration import assets, partitions
from enrich_pipeline.orchestration.resources import Pipeline, guarded, now
from enrich_pipeline.reports.morning import file
from enrich_pipeline.store import plan


def refresh_report(policy: Policy) -> dg.AssetsDefinition:
    """One page per date, after the marts that it shows."""

    @dg.asset(
        name="refresh_report",
        deps=["provider_daily", "refresh_daily"],
        partitions_def=partitions.by_date(policy.refresh),
        group_name="reports",
        kinds={"html"},
        owners=assets.OWNERS,
        output_required=False,
        automation_condition=assets.when_the_whole_day_is_done(),
        description=(
            "One page per date, to be read in the morning: what was stale, found and paid, what "
            "is open, what needs a person. One file, reports/<date>.html in ENRICH_HOME, with ids "
            "of contacts and names of companies and no other value of a person."
        ),
    )
    def _refresh_report(
        context: dg.AssetExecutionContext, pipeline: Pipeline
    ) -> Iterator[dg.MaterializeResult]:
        with guarded("refresh_report"):
            day = partitions.parse_day(context.partition_key)
            with pipeline.engine.connect() as connection:
                night = plan.night(connection, day)
            if night is None:
                # A dry run plans nothing that stays.
                context.log.info("there was no night of %s: no page", day)
                return
            # What draws takes half a second to import: that is for runs that draw.
            from enrich_pipeline.reports.morning import page

            settings = pipeline.settings
            report = page.read(pipeline.engine, settings.policy, day, now())
            path = file.path_of(settings.home, day)
            size = file.write(path, page.render(report))
        figures = report.figures
        yield dg.MaterializeResult(
            metadata={
                "path": dg.MetadataValue.path(str(path.resolve())),
                "bytes": size,
                "contacts_refreshed": figures.night.refreshed,
                "fields_filled": figures.night.filled,
                "found": figures.found,
                "verified": figures.verified,
                "spend_usd": float(figures.night.spend_usd),
                "job_changes": figures.job_changes,
                "open_values": figures.night.open_values,
                "needs_a_person": len(report.tasks),
            }
        )

    return _refresh_report
