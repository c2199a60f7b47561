"""Attempts and observations are the largest tables: no step of a call may read all of them."""

import re
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from enrich_pipeline.domain.enrichment import Field
from enrich_pipeline.store import answers, opening, person_inputs, work

_WATERFALLS = {Field.PHONE: ("prospeo",)}


@pytest.mark.parametrize(
    ("table", "step"),
    [
        ("attempts", lambda conn: answers.attempts_of(conn, [1])),
        ("attempts", lambda conn: work.to_next(conn, [1])),
        (
            "attempts",
            lambda conn: opening.open_enrichments(conn, date(2026, 9, 20), 0, _WATERFALLS, "run"),
        ),
        ("observations", lambda conn: answers.remember_own_knowledge(conn, [1])),
        ("observations", lambda conn: person_inputs.refresh_inputs(conn, [1])),
    ],
    ids=["settling", "moving on", "opening", "remembering", "what is known"],
)
def test_rows_are_found_by_index(
    engine: Engine, table: str, step: Callable[[Connection], object]
) -> None:
    executed: list[tuple[str, Any]] = []

    def note(conn: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if not statement.startswith("SET LOCAL"):
            executed.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    with engine.connect() as conn:
        step(conn)
        event.remove(engine, "before_cursor_execute", note)
        # Then only where no index serves is a table read as a whole.
        conn.exec_driver_sql("set local enable_seqscan = off")
        plans = [
            line
            for statement, parameters in executed
            for (line,) in conn.exec_driver_sql(f"explain {statement}", parameters)
        ]
    assert any(table in line for line in plans)
    assert [line for line in plans if f"Seq Scan on {table}" in line] == []
    # Nor all of an index: below each of its scans stands what it looks for.
    scans = [n for n, line in enumerate(plans) if re.search(rf"Index.* on {table}\b", line)]
    assert scans
    assert [plans[n] for n in scans if "Index Cond" not in plans[n + 1]] == []
