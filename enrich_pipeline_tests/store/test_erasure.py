"""Rules of an erasure's statements: what they cost does not grow with the tables."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, event, text

from enrich_pipeline.store import erasure
from enrich_pipeline.store.tombstones import Identifier

from ..bench import warehouse

SMALL = frozenset(
    {"secrets", "suppressions", "person_splits", "suspected_duplicates", "plan_nights", "erasures"}
)
"""Tables that stay small, however many persons there are."""
FEW = ("inbox_strangers",)
"""Indexes of rows that are few, and are all read."""
MORE = (
    "insert into enrichment.contact_identifiers select 'email', contact_id, contact_id "
    "from enrichment.contacts",
    "insert into enrichment.inbox (provider, token_hash, body, body_sha256, state) "
    "select 'pronto', sha256(n::text::bytea), '', '', 'applied' from generate_series(1, 2000) as n",
    "analyze enrichment.contact_identifiers, enrichment.inbox",
)
BY: tuple[Identifier, ...] = (
    ("contact", "c132"),
    ("email", "p131@company6.example"),
    ("phone", "+491000000131"),
    ("linkedin", "p131"),
)


@contextmanager
def explained(conn: Connection) -> Iterator[list[str]]:
    """Where a statement inside the block reads a whole table, other than those of SMALL."""
    whole: list[str] = []

    def explain(_: Any, cursor: Any, statement: str, parameters: Any, *__: Any) -> None:
        if not statement.lstrip().lower().startswith(("select", "with", "update", "delete")):
            return
        cursor.execute(f"explain (format json) {statement}", parameters)
        for node in _nodes(cursor.fetchone()[0][0]["Plan"]):
            kind, table = node["Node Type"], node.get("Relation Name")
            if table in (None, *SMALL) or kind in ("ModifyTable", "Bitmap Heap Scan"):
                continue
            if "Index Cond" not in node and node.get("Index Name") not in FEW:
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


def test_an_erasure_never_reads_a_table_that_grows_as_a_whole(engine: Engine) -> None:
    warehouse.fill(engine, contacts=2_000, observations=20_000)
    with engine.begin() as conn:
        for statement in MORE:
            conn.exec_driver_sql(statement)
    for identifier in BY:
        with engine.connect() as conn, explained(conn) as whole:
            persons = erasure.find(conn, [identifier])
            receipt = erasure.erase(conn, persons, [identifier], warehouse.NOW).receipt
        assert (receipt.persons, receipt.contacts) == (1, 2), identifier
        assert receipt.rows["enrichment.observations"] >= 9, identifier
        assert not whole, "\n".join(whole)
