"""The page of the tables and dbt's sources say what the database says, and leave nothing out."""

from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from enrich_pipeline.reports import table_docs
from enrich_pipeline.reports.tables import DECLARED
from enrich_pipeline.store import catalog

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", [table_docs.SOURCES, table_docs.PAGE], ids=str)
def test_the_files_are_those_that_the_migrations_give(engine: Engine, path: Path) -> None:
    with engine.connect() as conn:
        expected = table_docs.files(conn)[path]
    is_same = (ROOT / path).read_text(encoding="utf-8") == expected
    assert is_same, f"{path} is out of date: run `make docs`"


def test_a_changed_comment_changes_both_files(engine: Engine) -> None:
    with engine.begin() as conn:
        comment = "comment on column analytics.dim_contacts.phone is 'Where it rings'"
        conn.execute(text(comment))
        written = table_docs.files(conn)
    assert all("Where it rings" in written[path] for path in written)


def test_every_table_has_a_key_and_what_is_declared_exists(engine: Engine) -> None:
    with engine.connect() as conn:
        columns = {
            each.table.name: {column.name for column in each.table.columns}
            for each in table_docs.described(conn)
        }
        assert [each.table.name for each in table_docs.described(conn) if not each.key] == []
    assert set(DECLARED) - set(columns) == set()
    for table, declared in DECLARED.items():
        named = {
            *declared.key, *declared.never_null, *declared.unique, *declared.words, *declared.refers
        }  # fmt: skip
        assert named <= columns[table], table
        for reference in declared.refers.values():
            assert reference.column in columns[reference.table]


@pytest.mark.parametrize("schema", ["analytics", "analytics_masked"])
def test_every_table_and_column_says_what_it_is(engine: Engine, schema: str) -> None:
    with engine.connect() as conn:
        assert catalog.comment(conn, schema)
        tables = catalog.tables(conn, schema)
        functions = catalog.functions(conn, schema)
    assert tables
    assert all(functions.values())
    assert "contacts_as_of(moment timestamp with time zone)" in functions
    assert [table.name for table in tables if not table.comment] == []
    assert [
        f"{table.name}.{column.name}"
        for table in tables
        for column in table.columns
        if not column.comment
    ] == []
