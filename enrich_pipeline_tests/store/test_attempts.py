"""Attempts are the largest table of a night's own: no step of a call may read all of them."""

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from enrich_pipeline.domain.enrichment import Field
from enrich_pipeline.store import answers, opening, work

_WATERFALLS = {Field.PHONE: ("prospeo",)}


@pytest.mark.parametrize(
    "step",
    [
        lambda conn: answers.attempts_of(conn, 1),
        lambda conn: work.to_next(conn, [1]),
        lambda conn: opening.open_enrichments(conn, date(2026, 9, 20), 0, _WATERFALLS, "run"),
    ],
    ids=["settling", "moving on", "opening"],
)
def test_attempts_are_found_by_index(engine: Engine, step: Callable[[Connection], object]) -> None:
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
    assert any("attempts" in line for line in plans)
    assert [line for line in plans if "Seq Scan on attempts" in line] == []
