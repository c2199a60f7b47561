"""What the catalog shows of an asset: its table, columns and figures. Counts and ids only."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import dagster as dg
from sqlalchemy import Connection

from enrich_pipeline.domain.policy import MICRO
from enrich_pipeline.store import catalog
from enrich_pipeline.store.progress import PartitionFigures
from enrich_pipeline.store.publish import PublishSummary
from enrich_pipeline.waterfall.engine import StageSummary
from enrich_pipeline.waterfall.planning import NightPrice, NightSummary
from enrich_pipeline.waterfall.pricing import Range

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ATTEMPT_FIGURES = ("calls", "attempts", "found", "not_found", "reused", "pending", "in_doubt")


def of_table(table: str) -> dict[str, Any]:
    """Definition metadata of the asset that stands for `table`."""
    return {"dagster/table_name": f"enrich.{table}", "dagster/storage_kind": "postgres"}


def schema_of(connection: Connection, table: str) -> dict[str, Any]:
    """The columns of `table` as the database documents them."""
    columns = [
        dg.TableColumn(
            each.name,
            each.kind,
            each.comment or None,
            constraints=dg.TableColumnConstraints(nullable=each.is_nullable),
        )
        for each in catalog.columns(connection, table)
    ]
    return {"dagster/column_schema": dg.TableSchema(columns=columns)}


def of_summary(summary: "DataclassInstance") -> dict[str, Any]:
    """The figures of a summary: numbers stay numbers so that they plot over partitions."""
    return of_row(asdict(summary))


def of_row(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures by name; mappings are flattened, what is absent is left out.

    Amounts in micro-credits appear once more in credits, for people who read plots.
    """
    shown: dict[str, Any] = {}
    for name, value in figures.items():
        if isinstance(value, Mapping):
            shown |= of_row({f"{name}_{key}": each for key, each in value.items()})
        elif value is not None:
            shown[name] = _plain(value)
            if name.endswith("_micro"):
                shown[name.removesuffix("_micro")] = float(Decimal(value) / MICRO)
    return shown


def of_provider_day(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The day's totals, which plot over dates, and its table of providers and fields."""
    attempts, found = (sum(row[name] for row in rows) for name in ("attempts", "found"))
    figures: dict[str, Any] = {
        "attempts": attempts,
        "found": found,
        "reused": sum(row["reused"] for row in rows),
        "spend_usd": float(sum(row["spend_usd"] for row in rows)),
    }
    if attempts:
        figures["match_rate"] = found / attempts
    if rows:
        figures["by_provider"] = _table(
            ("provider", "field", "asked", "found", "verified", "reused", "credits", "USD"),
            [
                (
                    *(row["provider"], row["field"], row["attempts"], row["found"]),
                    *(row["verified"], row["reused"]),
                    *(_decimal(row["spend_micro_credits"]), f"{row['spend_usd']:,.2f}"),
                )
                for row in rows
            ],
        )
    return figures


def of_refresh_day(row: Mapping[str, Any]) -> dict[str, Any]:
    """The night's figures; coverage also as a table, since before and after are read together."""
    figures = of_row({name: value for name, value in row.items() if name != "date"})
    fields = [name.removesuffix("_coverage_before") for name in row if name.endswith("_before")]
    if fields:
        shares = [
            (field, *(_share(row[f"{field}_coverage_{when}"]) for when in ("before", "after")))
            for field in fields
        ]
        figures["coverage"] = _table(("field", "before", "after"), shares)
    return figures


def of_partition(figures: PartitionFigures) -> dict[str, dict[str, Any]]:
    """What each asset of the waterfall shows of a partition, by asset.

    Of the partition as it stands, not of the run: a second run changes nothing in a plot.
    """
    return {
        "enrichment_attempts": of_row({name: getattr(figures, name) for name in ATTEMPT_FIGURES}),
        "enriched_contacts": {
            "contacts": figures.contacts,
            "planned_fields": figures.planned,
            "open_fields": figures.waiting,
        },
        "credit_ledger": {
            "spend_usd": figures.spent_usd_micro / MICRO,
            "held_usd": figures.held_usd_micro / MICRO,
            "in_doubt_usd": figures.in_doubt_usd_micro / MICRO,
            "entries": figures.entries,
            "by_provider": _table(
                ("provider", "credits spent"),
                [(name, _decimal(spent)) for name, spent in figures.spent_micro.items()],
            ),
        },
    }


def of_plan(planned: NightSummary) -> dict[str, Any]:
    """The night's plan in figures, of all batches together."""
    return of_row(
        {
            "contacts_stale": planned.contacts_stale,
            "contacts": planned.contacts,
            "persons": planned.persons,
            "contacts_added": planned.added,
            "planned": planned.fields,
            "because": planned.reasons,
            "cannot_be_bought": planned.blocked,
        }
    )


def of_merge(summary: PublishSummary) -> dict[str, Any]:
    """What this run made of the contacts."""
    return {
        "contacts_merged_now": summary.contacts,
        "contacts_changed_now": summary.contacts_changed,
    }


def plan_line(planned: NightSummary) -> str:
    """The night's plan, as a line of the run's log."""
    return (
        f"Night of {planned.day}: {planned.contacts_stale:,} contacts are stale; planned are "
        f"{planned.contacts:,} contacts of {planned.persons:,} persons, in all batches"
    )


def reuse_line(summary: StageSummary) -> str:
    """What a run begins with, as a line of its log."""
    return (
        f"{summary.persons:,} (person, field) are open; {summary.reused:,} more were answered by "
        "what was bought before, at no cost"
    )


def publish_line(summary: PublishSummary) -> str:
    """What a run ends with, as a line of its log."""
    return (
        f"{summary.contacts:,} contacts merged, {summary.contacts_changed:,} of them changed; "
        f"{summary.waiting:,} planned (contact, field) are still open"
    )


def stage_line(provider: str, summary: StageSummary) -> str:
    """What one turn of a provider did, as a line of the run's log."""
    if not summary.persons and not summary.calls and not summary.reused:
        said = [f"{provider}: nobody was to be asked"]
    else:
        said = [
            f"{provider}: {summary.persons:,} persons asked in {summary.calls:,} calls",
            f"{summary.found:,} answers found, {summary.not_found:,} not found",
            f"{_decimal(summary.spent_micro)} credits spent",
        ]
    for name, counts in (("skipped", summary.skipped), ("waiting", summary.waiting)):
        if counts:
            told = ", ".join(f"{why} {number:,}" for why, number in sorted(counts.items()))
            said.append(f"{name}: {told}")
    said += [f"{summary.pending:,} pending"] if summary.pending else []
    said += [f"{summary.in_doubt:,} in doubt"] if summary.in_doubt else []
    said += ["sending is paused (`enrich resume`)"] if summary.paused else []
    said += [f"breaker {summary.breaker}"] if summary.breaker != "closed" else []
    return "; ".join(said)


def price_lines(price: NightPrice) -> list[str]:
    """The price of a partition as lines of the run's log."""
    return [
        f"Dry run: {price.persons:,} persons have open fields; at least / expected / at most:",
        *(
            f"{each.provider}: {_range(each.persons, _count)} persons, "
            f"{_range(each.calls, _count)} calls, {_range(each.credits_micro, _credits)} credits, "
            f"${_range(each.usd_micro, _usd)}"
            for each in price.providers
        ),
        f"In all ${_range(price.usd_micro, _usd)}; a night may spend "
        f"${_usd(price.night_budget_usd_micro)}. Nothing was asked, nothing is kept.",
    ]


def of_price(price: NightPrice) -> dict[str, Any]:
    """What a dry run found out: at least, expected and at most, in all and by provider."""
    return {
        "contacts": price.contacts,
        "persons": price.persons,
        "usd_at_least": price.usd_micro.least / MICRO,
        "usd_expected": price.usd_micro.expected / MICRO,
        "usd_at_most": price.usd_micro.most / MICRO,
        "night_budget_usd": price.night_budget_usd_micro / MICRO,
        "at least / expected / at most": _table(
            ("provider", "persons", "calls", "credits", "USD"),
            [
                (
                    each.provider,
                    _range(each.persons, _count),
                    _range(each.calls, _count),
                    _range(each.credits_micro, _credits),
                    _range(each.usd_micro, _usd),
                )
                for each in price.providers
            ],
        ),
    }


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table(
        [dg.TableRecord(dict(zip(columns, map(_plain, row), strict=True))) for row in rows],
        schema=dg.TableSchema([dg.TableColumn(name) for name in columns]),
    )


def _range(figures: Range, shown: Callable[[int], str]) -> str:
    return " / ".join(shown(n) for n in (figures.least, figures.expected, figures.most))


def _count(number: int) -> str:
    return f"{number:,}"


def _credits(micro: int) -> str:
    return f"{micro / MICRO:,.0f}"


def _usd(micro: int) -> str:
    return f"{micro / MICRO:,.2f}"


def _share(value: Decimal | None) -> str:
    return "still open" if value is None else f"{value:.1%}"


def _decimal(micro: int) -> str:
    """Micro-credits in credits, exactly."""
    shown = f"{Decimal(micro) / MICRO:,f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    return float(value) if isinstance(value, Decimal | float) else str(value)
