"""How rows travel into a statement: as one JSON parameter, whatever their number."""

import json
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any


def as_json(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows for `jsonb_to_recordset(cast(:rows as jsonb))`."""
    return json.dumps(list(rows), default=_encode, ensure_ascii=False)


def _encode(value: object) -> object:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, frozenset | set | tuple):
        return sorted(value)
    raise TypeError(f"no JSON form for {type(value).__name__}")
