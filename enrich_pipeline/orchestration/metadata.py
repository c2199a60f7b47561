"""What the catalog shows of an asset: its table, columns and figures. Counts and ids only."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import dagster as dg
from sqlalchemy import Connection

from enrich_pipeline.domain.policy import MICRO
from enrich_pipeline.store import catalog

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


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
    """The day's table of providers and fields, and its totals."""
    if not rows:
        return {"attempts": 0, "found": 0, "spend_usd": 0.0}
    return {
        "attempts": sum(row["attempts"] for row in rows),
        "found": sum(row["found"] for row in rows),
        "reused": sum(row["reused"] for row in rows),
        "spend_usd": float(sum(row["spend_usd"] for row in rows)),
        "by_provider": dg.MetadataValue.table(
            [dg.TableRecord({name: _plain(value) for name, value in row.items()}) for row in rows],
            schema=dg.TableSchema([dg.TableColumn(name) for name in rows[0]]),
        ),
    }


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    return float(value) if isinstance(value, Decimal | float) else str(value)
