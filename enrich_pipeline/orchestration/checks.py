"""Blocking checks on the credit ledger: they read the books and fail the run if these are wrong.

Accounts and budgets are added up whole, calls are looked at that moved in the last two days or are
still under way: a run costs the same after years. `enrich invariants` looks at all of them.
"""

from collections.abc import Callable, Iterator
from typing import Final

import dagster as dg
from sqlalchemy import Connection

from enrich_pipeline.orchestration import partitions
from enrich_pipeline.orchestration.resources import Pipeline, guarded
from enrich_pipeline.settings import Settings
from enrich_pipeline.store import invariants, nights

_LEDGER: Final = "credit_ledger"
_SHOWN = 20
_DAYS = 2

Look = Callable[[Connection, Settings], list[str]]
"""Reads the books; what is wrong in them, in words."""


def _unbalanced(connection: Connection, _: Settings) -> list[str]:
    return [f"{rule}: {detail}" for rule, detail in invariants.violations(connection, _DAYS)]


def _paid_twice(connection: Connection, settings: Settings) -> list[str]:
    return invariants.paid_twice(connection, settings.policy.reuse.found_days, _DAYS)


def _exceeded(connection: Connection, _: Settings) -> list[str]:
    return invariants.budgets_exceeded(connection)


_LOOKS: Final[dict[str, tuple[Look, str]]] = {
    "ledger_balances": (
        _unbalanced,
        "Every account, call and charge line adds up, and nothing is half done.",
    ),
    "nothing_paid_twice": (
        _paid_twice,
        "No provider charged one product for one person twice inside its reuse window, other than "
        "by a re-send that its policy allows.",
    ),
    "budgets_held": (
        _exceeded,
        "What was spent, held and is in doubt fits the budgets of its days; a charge beyond its "
        "hold is an alert instead.",
    ),
}


def blocking(
    partitions_def: dg.MultiPartitionsDefinition,
) -> list[dg.AssetChecksDefinition]:
    """The three checks that every partition's run ends with."""
    return [
        _check(name, look, description, partitions_def)
        for name, (look, description) in _LOOKS.items()
    ]


def _check(
    name: str, look: Look, description: str, partitions_def: dg.MultiPartitionsDefinition
) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=_LEDGER,
        name=name,
        blocking=True,
        partitions_def=partitions_def,
        description=description,
    )
    def _ledger_check(pipeline: Pipeline) -> dg.AssetCheckResult:
        with guarded(name), pipeline.engine.connect() as connection:
            return _result(look(connection, pipeline.settings))

    return _ledger_check


def of_a_dry_run(pipeline: Pipeline, partition: str) -> Iterator[dg.AssetCheckEvaluation]:
    """The same three, looked at where a run ends before them because it makes nothing.

    Left out they would stand on the asset as checks that did not pass.
    """
    with pipeline.engine.connect() as connection:
        for name, (look, _) in _LOOKS.items():
            result = _result(look(connection, pipeline.settings))
            yield dg.AssetCheckEvaluation(
                asset_key=dg.AssetKey(_LEDGER),
                check_name=name,
                passed=result.passed,
                metadata=result.metadata,
                blocking=True,
                partition=partition,
                description="Dry run: of the books as they are, to which it added nothing.",
            )


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
