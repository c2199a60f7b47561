"""Blocking checks on the credit ledger: they read the books and fail the run if these are wrong."""

import dagster as dg

from enrich_pipeline.orchestration import partitions
from enrich_pipeline.orchestration.resources import Pipeline, guarded
from enrich_pipeline.store import invariants, nights

_SHOWN = 20


def blocking(
    partitions_def: dg.MultiPartitionsDefinition,
) -> list[dg.AssetChecksDefinition]:
    """The three checks that every partition's run ends with."""

    @dg.asset_check(
        asset="credit_ledger",
        name="ledger_balances",
        blocking=True,
        partitions_def=partitions_def,
        description="Every account, call and charge line adds up, and nothing is half done.",
    )
    def ledger_balances(pipeline: Pipeline) -> dg.AssetCheckResult:
        with guarded("ledger_balances"), pipeline.engine.connect() as connection:
            return _result(
                [f"{rule}: {detail}" for rule, detail in invariants.violations(connection)]
            )

    @dg.asset_check(
        asset="credit_ledger",
        name="nothing_paid_twice",
        blocking=True,
        partitions_def=partitions_def,
        description=(
            "No provider charged one product for one person twice inside its reuse window, "
            "other than by a re-send that its policy allows."
        ),
    )
    def nothing_paid_twice(pipeline: Pipeline) -> dg.AssetCheckResult:
        with guarded("nothing_paid_twice"), pipeline.engine.connect() as connection:
            days = pipeline.settings.policy.reuse.found_days
            return _result(invariants.paid_twice(connection, days))

    @dg.asset_check(
        asset="credit_ledger",
        name="budgets_held",
        blocking=True,
        partitions_def=partitions_def,
        description="What was spent, held and is in doubt fits the budgets of its days.",
    )
    def budgets_held(pipeline: Pipeline) -> dg.AssetCheckResult:
        with guarded("budgets_held"), pipeline.engine.connect() as connection:
            return _result(invariants.budgets_exceeded(connection))

    return [ledger_balances, nothing_paid_twice, budgets_held]


def daily(partitions_def: dg.DailyPartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    """What a day's reports must agree with."""

    @dg.asset_check(
        asset="provider_daily",
        name="spend_equals_ledger",
        blocking=True,
        partitions_def=partitions_def,
        description="What the mart says was spent is what the ledger posted, to the micro-credit.",
    )
    def spend_equals_ledger(
        context: dg.AssetCheckExecutionContext, pipeline: Pipeline
    ) -> dg.AssetCheckResult:
        with guarded("spend_equals_ledger"), pipeline.engine.connect() as connection:
            day = partitions.parse_day(context.partition_key)
            return _result(
                [
                    f"{provider}: mart {shown}, ledger {posted} micro-credits"
                    for provider, shown, posted in nights.spend_differences(connection, day)
                ]
            )

    return [spend_equals_ledger]


def _result(problems: list[str]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=not problems,
        metadata={
            "violations": len(problems),
            **({"first": dg.MetadataValue.text("\n".join(problems[:_SHOWN]))} if problems else {}),
        },
    )
