"""How rows travel into a statement: as one JSON parameter, whatever their number."""

from collections.abc import Iterable

from pydantic_core import to_json


def as_json(rows: Iterable[object]) -> str:
    """Rows for `jsonb_to_recordset(cast(:rows as jsonb))`: mappings, or dataclasses by field."""
    return to_json(list(rows)).decode()
