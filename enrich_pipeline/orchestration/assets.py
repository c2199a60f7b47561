"""The assets. Their bodies call the pipeline and report its figures; what happens is not here.

No data passes between ops: all state is in PostgreSQL, and every op drains what it finds there, so
that a retry, a re-execution or a second run of the same partition is harmless. For that reason
also nothing here has a retry policy: a new run is the retry.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from enrich_pipeline.domain import chain
from enrich_pipeline.domain.enrichment import Field
from enrich_pipeline.domain.policy import Policy
from enrich_pipeline.orchestration import checks, metadata, partitions
from enrich_pipeline.orchestration.interrupts import finishing
from enrich_pipeline.orchestration.resources import (
    Pipeline,
    RefreshOptions,
    guarded,
    now,
    partition,
)
from enrich_pipeline.providers import registry
from enrich_pipeline.store import marts, nights
from enrich_pipeline.store import publish as publishing
from enrich_pipeline.store.progress import partition_figures
from enrich_pipeline.waterfall.planning import NightPrice

OWNERS = ["team:data-engineering"]
OUTS = {
    "enrichment_attempts": "analytics.fct_enrichment_attempts",
    "enriched_contacts": "analytics.dim_contacts",
    "credit_ledger": "analytics.fct_credit_ledger",
}
"""What the graph makes, and the tables behind it."""


def stale_contacts(partitions_def: dg.MultiPartitionsDefinition) -> dg.AssetsDefinition:
    """The night's plan, as an asset."""

    @dg.asset(
        name="stale_contacts",
        partitions_def=partitions_def,
        group_name="selection",
        kinds={"postgres"},
        owners=OWNERS,
        # A dry run says what it found out and makes nothing: what follows is skipped.
        output_required=False,
        metadata=metadata.of_table("enrichment.plan_rows"),
        description=(
            "What the night is to refresh: one row per date, contact and field, most valuable "
            "first. Written once per date for all batches; while the date is today, newly "
            "eligible contacts are added under the same cap. The figures are of the whole night."
        ),
    )
    def _stale_contacts(
        context: dg.AssetExecutionContext, pipeline: Pipeline, refresh_options: RefreshOptions
    ) -> Iterator[dg.MaterializeResult]:
        with guarded("stale_contacts"):
            day, batch = partitions.parse(context.partition_key)
            if refresh_options.dry_run:
                _tell_price(context, pipeline, pipeline.price(refresh_options, day, batch))
                return
            planned = pipeline.plan(refresh_options, day)
            context.log.info(metadata.plan_line(planned))
            with pipeline.engine.connect() as connection:
                schema = metadata.schema_of(connection, "enrichment.plan_rows")
            yield dg.MaterializeResult(metadata={**metadata.of_plan(planned), **schema})

    return _stale_contacts


def _tell_price(
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
    pipeline: Pipeline,
    price: NightPrice,
) -> None:
    """Into the log, and onto the asset's page as an observation: nothing was made."""
    for line in metadata.price_lines(price):
        context.log.info(line)
    context.log_event(
        dg.AssetObservation(
            "stale_contacts",
            description="Dry run: what the open fields of this partition would cost.",
            partition=context.partition_key,
            metadata=metadata.of_price(price),
        )
    )
    for evaluation in checks.of_a_dry_run(pipeline, context.partition_key):
        # Taken, though its annotation does not say so.
        context.log_event(evaluation)  # type: ignore[arg-type]


def waterfall(policy: Policy, partitions_def: dg.MultiPartitionsDefinition) -> dg.AssetsDefinition:
    """The graph of ops, one per turn of a provider, in the order of the configured waterfalls."""
    orders = {field.value: policy.waterfall(field) for field in Field}
    turns = chain.op_chain(orders, registry.DEFAULT_ORDER)
    ops = [
        _try_op(name, provider, turns[place:])
        for place, (name, provider) in enumerate(
            zip(chain.op_names(turns), turns, strict=True), start=1
        )
    ]

    @dg.graph_multi_asset(
        name="waterfall",
        partitions_def=partitions_def,
        group_name="enrichment",
        ins={"stale": dg.AssetIn(key="stale_contacts", dagster_type=dg.Nothing)},
        outs={
            "enrichment_attempts": dg.AssetOut(
                dagster_type=dg.Nothing,
                is_required=False,
                kinds={"postgres"},
                owners=OWNERS,
                metadata=metadata.of_table(OUTS["enrichment_attempts"]),
                description=(
                    "One row per attempt to have one field of one person answered by one "
                    "provider, with its outcome and cost; reused answers are rows at cost 0."
                ),
            ),
            "enriched_contacts": dg.AssetOut(
                dagster_type=dg.Nothing,
                is_required=False,
                kinds={"postgres"},
                owners=OWNERS,
                metadata=metadata.of_table(OUTS["enriched_contacts"]),
                description=(
                    "One row per contact: the best that is known now, with source, status and "
                    "time of every value. A partition holds the contacts of its night's plan."
                ),
            ),
            "credit_ledger": dg.AssetOut(
                dagster_type=dg.Nothing,
                is_required=False,
                kinds={"postgres"},
                owners=OWNERS,
                metadata=metadata.of_table(OUTS["credit_ledger"]),
                description=(
                    "Append-only, one row per ledger entry: what was held, posted, released or "
                    "is in doubt, in millionths of the provider's credit."
                ),
            ),
        },
    )
    def _waterfall(stale: Any) -> Any:
        done = _reuse_enrichments(start=stale)
        for op in ops:
            done = op(after=done)
        attempts, contacts, ledger = _publish(after=done)
        return {
            "enrichment_attempts": attempts,
            "enriched_contacts": contacts,
            "credit_ledger": ledger,
        }

    return _waterfall


@dg.op(
    name="reuse_enrichments",
    ins={"start": dg.In(dg.Nothing)},
    out=dg.Out(dg.Nothing, is_required=False),
    description="Makes sure that the night has its plan, then serves what is already known.",
)
def _reuse_enrichments(
    context: dg.OpExecutionContext, pipeline: Pipeline, refresh_options: RefreshOptions
) -> Iterator[dg.Output]:
    with guarded("reuse_enrichments"):
        day_and_batch = partitions.parse(context.partition_key)
        if refresh_options.dry_run:
            _tell_price(context, pipeline, pipeline.price(refresh_options, *day_and_batch))
            return
        # Materializing the graph's assets alone does not run stale_contacts.
        pipeline.plan(refresh_options, day_and_batch[0])
        engine = pipeline.waterfall(refresh_options)
        with finishing(engine):
            swept = engine.sweep()
            summary = engine.reuse(partition(day_and_batch))
        context.log.info(metadata.reuse_line(summary))
        yield dg.Output(
            None,
            metadata=metadata.of_summary(summary)
            | {f"swept_{name}": value for name, value in metadata.of_summary(swept).items()},
        )


def _try_op(name: str, provider: str, later: Sequence[str]) -> dg.OpDefinition:
    @dg.op(
        name=name,
        ins={"after": dg.In(dg.Nothing)},
        out=dg.Out(dg.Nothing),
        pool=f"provider/{provider}",
        tags={"enrich/provider": provider},
        description=(
            f"Takes everybody whose next provider is {provider} as far as it goes now; whoever it "
            "has answered goes on to the ops that follow, which find little left to do."
        ),
    )
    def _try(
        context: dg.OpExecutionContext, pipeline: Pipeline, refresh_options: RefreshOptions
    ) -> None:
        with guarded(name):
            only = refresh_options.only_providers
            if only and provider not in only:
                context.log.info("%s is left out by refresh_options.only_providers", provider)
                return
            engine = pipeline.waterfall(refresh_options)
            with finishing(engine):
                summary = engine.attempt(
                    partition(partitions.parse(context.partition_key)),
                    provider,
                    later=[each for each in later if not only or each in only],
                )
                context.log.info(metadata.stage_line(provider, summary))
                context.add_output_metadata(metadata.of_summary(summary))

    return _try


@dg.op(
    name="publish",
    ins={"after": dg.In(dg.Nothing)},
    out={name: dg.Out(dg.Nothing, is_required=False) for name in OUTS},
    description="Merges what was learned into the contacts and brings the daily marts up to date.",
)
def _publish(context: dg.OpExecutionContext, pipeline: Pipeline) -> Any:
    with guarded("publish"):
        day, batch = partitions.parse(context.partition_key)
        summary = publishing.publish(pipeline.engine, pipeline.settings.policy, day, batch, now())
        context.log.info(metadata.publish_line(summary))
        with pipeline.engine.connect() as connection:
            shown = metadata.of_partition(partition_figures(connection, day, batch))
            for name, table in OUTS.items():
                figures = shown[name] | metadata.schema_of(connection, table)
                if name == "enriched_contacts":
                    figures |= metadata.of_merge(summary)
                yield dg.Output(None, name, metadata=figures)


def daily(policy: Policy) -> list[dg.AssetsDefinition]:
    """The two daily marts: written by `publish`, here brought up to date and reported."""
    partitions_def = partitions.by_date(policy.refresh)

    @dg.asset(
        name="provider_daily",
        deps=["enrichment_attempts", "credit_ledger"],
        partitions_def=partitions_def,
        group_name="reports",
        kinds={"postgres"},
        owners=OWNERS,
        automation_condition=when_the_whole_day_is_done(),
        freshness_policy=by_the_deadline(policy),
        metadata=metadata.of_table("analytics.mart_provider_daily"),
        description="One row per date, provider and field: asked, found, reused, spent.",
    )
    def provider_daily(
        context: dg.AssetExecutionContext, pipeline: Pipeline
    ) -> dg.MaterializeResult:
        with guarded("provider_daily"), pipeline.engine.begin() as connection:
            day = partitions.parse_day(context.partition_key)
            marts.refresh(connection, [day])
            return dg.MaterializeResult(
                metadata=metadata.of_provider_day(nights.provider_day(connection, day))
                | metadata.schema_of(connection, "analytics.mart_provider_daily")
            )

    @dg.asset(
        name="refresh_daily",
        deps=["stale_contacts", "enriched_contacts"],
        partitions_def=partitions_def,
        group_name="reports",
        kinds={"postgres"},
        owners=OWNERS,
        automation_condition=when_the_whole_day_is_done(),
        freshness_policy=by_the_deadline(policy),
        metadata=metadata.of_table("analytics.mart_refresh_daily"),
        description="One row per date: how stale the contacts were, what the night made of them.",
    )
    def refresh_daily(
        context: dg.AssetExecutionContext, pipeline: Pipeline
    ) -> dg.MaterializeResult:
        with guarded("refresh_daily"), pipeline.engine.begin() as connection:
            day = partitions.parse_day(context.partition_key)
            marts.refresh(connection, [day])
            return dg.MaterializeResult(
                metadata=metadata.of_refresh_day(nights.refresh_day(connection, day) or {})
                | metadata.schema_of(connection, "analytics.mart_refresh_daily")
            )

    return [provider_daily, refresh_daily]


def by_the_deadline(policy: Policy) -> dg.FreshnessPolicy | None:
    """Fresh is what was reported between the night's hour and alerts.deadline, every day."""
    deadline, allowed = policy.alerts.deadline, policy.night_hours
    if deadline is None or allowed is None:
        return None
    return dg.FreshnessPolicy.cron(f"{deadline.minute} {deadline.hour} * * *", allowed)


def when_the_whole_day_is_done() -> dg.AutomationCondition:
    """Once its batches are done, unless one of them has a red blocking check; past days too."""
    eager = dg.AutomationCondition.eager()
    failed = dg.AutomationCondition.any_checks_match(
        dg.AutomationCondition.check_failed(), blocking_only=True
    )
    return eager.without(
        dg.AutomationCondition.in_latest_time_window()
    ) & ~dg.AutomationCondition.any_deps_match(failed)
