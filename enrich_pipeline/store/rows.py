"""How rows travel into a statement: as one JSON parameter, whatever their number."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic_core import to_json


def as_json(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows for `jsonb_to_recordset(cast(:rows as jsonb))`."""
    return to_json(list(rows)).decode()
