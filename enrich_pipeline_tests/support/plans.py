"""Which tables PostgreSQL has to read as a whole: what grows with them grows for ever."""

import re
from collections.abc import Iterator, Set
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, event, text

_READS = re.compile(r"(\s*--.*\n)*\s*(select|with|update|delete)\b", re.IGNORECASE)


@contextmanager
def explained(
    conn: Connection, small: Set[str], few: Set[str] = frozenset()
) -> Iterator[list[str]]:
    """Where a statement inside the block reads a whole table.

    Other than the `small` ones, and by the indexes that hold `few` rows and are all read.
    """
    whole: list[str] = []

    def explain(_: Any, cursor: Any, statement: str, parameters: Any, *__: Any) -> None:
        if not _READS.match(statement):
            return
        cursor.execute(f"explain (format json) {statement}", parameters)
        for node in _nodes(cursor.fetchone()[0][0]["Plan"]):
            kind, table = node["Node Type"], node.get("Relation Name")
            if table is None or table in small or kind in ("ModifyTable", "Bitmap Heap Scan"):
                continue
            if "Index Cond" not in node and node.get("Index Name") not in few:
                whole.append(f"{kind} of {table}: {' '.join(statement.split())[:90]}")

    # The planner would rather read all of tables so small: what counts is whether it has to.
    for way in ("seqscan", "hashjoin", "mergejoin"):
        conn.execute(text(f"set local enable_{way} = off"))
    event.listen(conn, "before_cursor_execute", explain)
    yield whole
    event.remove(conn, "before_cursor_execute", explain)


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)
