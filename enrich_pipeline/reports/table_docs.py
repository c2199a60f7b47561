"""The tables of schema `analytics` as dbt's sources and as a page to read, from one description.

What is written follows from the migrated database's comments and from `reports/tables.py`; the
files are kept in the repository. `make docs` writes them anew.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from sqlalchemy import Connection

from enrich_pipeline.reports.tables import DECLARED, SCHEMA, Declared
from enrich_pipeline.store import catalog, connection, embedded, migrate
from enrich_pipeline.store.catalog import Column, Table

SOURCES: Final = Path("dbt/models/sources.yml")
PAGE: Final = Path("docs/tables.md")
FRESH_HOURS: Final = 36
"""A night that is later than this is worth a warning, twice as late an error."""

_GENERATED: Final = "Written by `make docs` from the comments in the database: change them there."
_SEEN: Final = {
    "key": "a keyed hash",
    "keys": "keyed hashes",
    "initial": "the first letter",
    "email": "the domain",
    "phone": "the calling code",
    "place": "what follows the last comma",
    "hidden": "whether there is one",
    "by_field": "what it sees of that column of `dim_contacts`",
}


@dataclass(frozen=True, slots=True)
class Described:
    """A table, what the database says of it and what is declared of it."""

    table: Table
    declared: Declared

    @property
    def key(self) -> tuple[str, ...]:
        return self.table.key or self.declared.key

    def is_never_null(self, column: Column) -> bool:
        always = {*self.key, *self.declared.never_null}
        return not column.is_nullable or column.name in always


def described(database: Connection) -> list[Described]:
    return [
        Described(table, DECLARED.get(table.name, Declared()))
        for table in catalog.tables(database, SCHEMA)
    ]


def files(database: Connection) -> dict[Path, str]:
    """Path in the repository and text of every file that is written."""
    tables = described(database)
    about = catalog.comment(database, SCHEMA)
    return {
        SOURCES: sources(about, tables),
        PAGE: page(about, tables, catalog.functions(database, SCHEMA), catalog.masks(database)),
    }


# ---- dbt ------------------------------------------------------------------------------------


def sources(about: str, tables: list[Described]) -> str:
    """dbt's description of the tables, with the tests that hold what is promised of them."""
    source = {
        "name": "enrich",
        "description": f"{about}.",
        "schema": "{{ var('enrich_schema') }}",
        "tables": [_source_table(each) for each in tables],
    }
    text = yaml.safe_dump(
        {"version": 2, "sources": [source]}, sort_keys=False, width=1_000, allow_unicode=True
    )
    return f"# {_GENERATED}\n{text}"


def _source_table(each: Described) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": each.table.name, "description": f"{each.table.comment}."}
    if each.declared.loaded_at:
        shown["config"] = {
            "loaded_at_field": each.declared.loaded_at,
            "freshness": {
                "warn_after": {"count": FRESH_HOURS, "period": "hour"},
                "error_after": {"count": 2 * FRESH_HOURS, "period": "hour"},
            },
        }
    if len(each.key) > 1:
        shown["data_tests"] = [{"unique_together": {"arguments": {"columns": list(each.key)}}}]
    shown["columns"] = [_source_column(each, column) for column in each.table.columns]
    return shown


def _source_column(each: Described, column: Column) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": column.name,
        "description": f"{column.comment}.",
        "data_type": column.kind,
    }
    tests: list[Any] = []
    if each.key == (column.name,) or column.name in each.declared.unique:
        tests.append("unique")
    if each.is_never_null(column):
        tests.append("not_null")
    if words := each.declared.words.get(column.name):
        tests.append({"accepted_values": {"arguments": {"values": list(words)}}})
    if refers := each.declared.refers.get(column.name):
        to = {"to": f"source('enrich', '{refers.table}')", "field": refers.column}
        where = {"config": {"where": refers.where}} if refers.where else {}
        tests.append({"relationships": {"arguments": to, **where}})
    if tests:
        shown["data_tests"] = tests
    return shown


# ---- the page -------------------------------------------------------------------------------


def page(
    about: str,
    tables: list[Described],
    functions: Mapping[str, str],
    masks: Mapping[str, str],
) -> str:
    """A page in Markdown: a list of the tables, then one section for each."""
    lines = [
        "# Tables",
        "",
        f"<!-- {_GENERATED} -->",
        "",
        f"{about}.",
        "",
        f"The role `bi_reader` reads schema `{SCHEMA}`. The role `bi_masked` reads the same tables"
        f" and columns in schema `{SCHEMA}_masked`, with the values of persons masked: the last"
        " column below says what it sees where that differs.",
        "",
        "| table or function | what it holds |",
        "|---|---|",
        *(f"| [`{t.table.name}`](#{t.table.name}) | {_cell(t.table.comment)} |" for t in tables),
        *(f"| `{call}` | {_cell(said)} |" for call, said in functions.items()),
    ]
    for each in tables:
        lines += ["", *_section(each, masks)]
    return "\n".join(lines) + "\n"


def _section(each: Described, masks: Mapping[str, str]) -> list[str]:
    facts = [f"Key: {', '.join(f'`{name}`' for name in each.key)}."]
    if each.declared.loaded_at:
        facts.append(
            f"Written every night: `{each.declared.loaded_at}` is at most {FRESH_HOURS} hours old."
        )
    rows = [_row(each, column, masks) for column in each.table.columns]
    return [
        f"## {each.table.name}",
        "",
        f"{each.table.comment}.",
        "",
        " ".join(facts),
        "",
        "| column | type | may be null | meaning | `bi_masked` sees |",
        "|---|---|---|---|---|",
        *rows,
    ]


def _row(each: Described, column: Column, masks: Mapping[str, str]) -> str:
    null = "" if each.is_never_null(column) else "yes"
    meaning = _cell(_meaning(each.declared, column))
    seen = _SEEN.get(masks.get(column.name, "plain"), "")
    return f"| `{column.name}` | {column.kind} | {null} | {meaning} | {seen} |"


def _meaning(declared: Declared, column: Column) -> str:
    """The comment, with what it leaves out of the words that occur and of where the value leads."""
    said = f"{column.comment}."
    words = declared.words.get(column.name, ())
    if not all(word in column.comment for word in words):
        said += f" One of: {', '.join(words)}."
    if refers := declared.refers.get(column.name):
        only = f" where `{refers.where}`" if refers.where else ""
        said += f" Refers to `{refers.table}.{refers.column}`{only}."
    return said


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> None:
    """Write the files into the working directory, from a database made for that."""
    with tempfile.TemporaryDirectory(prefix="enrich-docs-") as folder:
        home = Path(folder)
        try:
            engine = connection.create_engine(embedded.start(home))
            migrate.upgrade(engine)
            with engine.connect() as database:
                written = files(database)
            engine.dispose()
        finally:
            embedded.stop(home)
    for path, text in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
