"""The default source in PostgreSQL: `crm.contacts` and the raw rows behind it.

Rows come in by COPY and are merged by statements whose number does not depend on theirs. The mirror
of whatever source is `store/mirror.py`; what the values mean is `domain/contact.py`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

import psycopg
from psycopg import sql
from sqlalchemy import Connection, text

from enrich_pipeline.domain.contact import COLUMNS, Contact
from enrich_pipeline.domain.normalize import linkedin_url
from enrich_pipeline.store import locks

OLDER: Final = "older_than_stored"
REPEATED: Final = "repeated_contact_id"

_FETCH: Final = 2_000
_VALUES: Final = COLUMNS[1:]
# A date vouches for the values that it came with, not for later ones that came without a date.
_VOUCHED: Final = {
    "email_verified_at": ("email",),
    "phone_verified_at": ("phone",),
    "personal_email_verified_at": ("personal_email",),
    "profile_verified_at": ("job_title", "company_name", "company_domain"),
}


def driver(conn: Connection) -> psycopg.Connection[tuple[Any, ...]]:
    """Return psycopg's own connection: COPY and server-side cursors in the same transaction."""
    return cast("psycopg.Connection[tuple[Any, ...]]", conn.connection.driver_connection)


@dataclass(frozen=True, slots=True)
class StagedRow:
    """One row of a file, normalized. `empty` are the flags that it leaves as they are stored."""

    line: int
    contact: Contact
    empty: frozenset[str]
    content: str
    problems: str


@dataclass(frozen=True, slots=True)
class StagedReject:
    """One staged row that must not be loaded: `repeated_contact_id` or `older_than_stored`."""

    line: int
    contact_id: str
    reason: str
    content: str


@dataclass(frozen=True, slots=True)
class UpsertResult:
    """Contacts by what the load did to them."""

    inserted: int
    updated: int
    unchanged: int


def stage_rows(conn: Connection, rows: Iterable[StagedRow]) -> None:
    """Copy rows into the temporary table `load_stage`, and keep other loads out until the end."""
    locks.hold(conn, locks.LOAD)
    conn.execute(text("create temp table load_stage (like crm.contacts) on commit drop"))
    conn.execute(
        text("""
            alter table load_stage add line bigint, add content text, add problems text,
                                   add reject text
        """)
    )
    columns = (*COLUMNS, "line", "content", "problems")
    with driver(conn).cursor() as cursor, cursor.copy(copy_into("load_stage", columns)) as copy:
        for row in rows:
            copy.write_row((*_crm_values(row), row.line, row.content, row.problems))
    conn.execute(
        text("""
            update load_stage as s set reject = :repeated
            from (
                select line, row_number() over (
                    partition by contact_id order by updated_at desc nulls last, line desc) as place
                from load_stage
            ) as r
            where r.line = s.line and r.place > 1
        """),
        {"repeated": REPEATED},
    )
    conn.execute(
        text("""
            update load_stage as s set reject = :older
            from crm.contacts as c
            where c.contact_id = s.contact_id and s.updated_at < c.updated_at and s.reject is null
        """),
        {"older": OLDER},
    )


def staged_rejects(conn: Connection) -> Iterator[StagedReject]:
    """Yield the staged rows that must not be loaded, by line."""
    with driver(conn).cursor(name="staged_rejects") as cursor:
        cursor.itersize = _FETCH
        cursor.execute(
            "select line, contact_id, reject, content from load_stage"
            " where reject is not null order by line"
        )
        for line, contact_id, reason, content in cursor:
            yield StagedReject(line, contact_id, reason, content)


def upsert_staged(conn: Connection, source: str, now: datetime) -> UpsertResult:
    """Merge the staged rows into `crm.contacts`, and keep each as the contact's latest raw row.

    An absent value leaves the stored one. A verification date stays with the value that it was
    stated for: a new value without a date is an unverified one.
    """
    merged = ", ".join(f"{_merged(column)} as {column}" for column in _VALUES)
    counts = conn.execute(
        text(f"""
            with merged as (
                select n.contact_id, {merged}
                from load_stage as n left join crm.contacts as o using (contact_id)
                where n.reject is null
            ), written as (
                insert into crm.contacts as o (contact_id, {", ".join(_VALUES)})
                select contact_id, {", ".join(_VALUES)} from merged order by contact_id
                on conflict (contact_id) do update
                set {", ".join(f"{c} = excluded.{c}" for c in _VALUES)}
                where ({", ".join(f"o.{c}" for c in _VALUES)})
                      is distinct from ({", ".join(f"excluded.{c}" for c in _VALUES)})
                returning (xmax = 0) as is_new
            )
            select (select count(*) from merged) as loaded,
                   count(*) filter (where is_new) as inserted,
                   count(*) filter (where not is_new) as updated
            from written
        """)  # noqa: S608  (names of our own columns)
    ).one()
    conn.execute(
        text("""
            insert into crm.contact_rows as o
                (contact_id, source, line, content, problems, loaded_at)
            select contact_id, :source, line, cast(content as jsonb), cast(problems as jsonb), :now
            from load_stage where reject is null order by contact_id
            on conflict (contact_id) do update
            set source = excluded.source, line = excluded.line, content = excluded.content,
                problems = excluded.problems, loaded_at = excluded.loaded_at
            where o.content <> excluded.content or o.problems <> excluded.problems
        """),
        {"source": source, "now": now},
    )
    return UpsertResult(
        inserted=counts.inserted,
        updated=counts.updated,
        unchanged=counts.loaded - counts.inserted - counts.updated,
    )


def _crm_values(row: StagedRow) -> list[object]:
    contact = row.contact
    values: list[object] = []
    for column in COLUMNS:
        if column in row.empty:
            values.append(None)
        elif column == "linkedin_url":
            slug = contact.linkedin_slug
            values.append(None if slug is None else linkedin_url(slug))
        else:
            values.append(getattr(contact, column))
    return values


def _merged(column: str) -> str:
    """Return the SQL of the stored value `o.column` after the row `n` came in."""
    kept = f"coalesce(n.{column}, o.{column})"
    vouched = _VOUCHED.get(column)
    if vouched is None:
        return kept
    changed = " or ".join(f"n.{v} <> coalesce(o.{v}, '')" for v in vouched)
    return f"case when {changed} then n.{column} else {kept} end"


def copy_into(table: str, columns: Sequence[str]) -> sql.Composed:
    """Return the COPY statement that fills these columns of a table."""
    return sql.SQL("copy {} ({}) from stdin").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
