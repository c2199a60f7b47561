"""The mirror in PostgreSQL: contacts of whatever relation is the source, as we understand them.

Rows are read in chunks and come in by COPY; what is merged is merged at once. Who is who is
`store/persons.py`; what the values mean is `domain/contact.py`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, TypeVar

from psycopg import sql
from psycopg.rows import dict_row
from sqlalchemy import Connection, text

from enrich_pipeline.domain.contact import COLUMNS, Contact
from enrich_pipeline.domain.person import Identifier
from enrich_pipeline.store import locks, statistics
from enrich_pipeline.store.contacts import copy_into, driver

_FETCH: Final = 2_000

_Id = TypeVar("_Id", str, int)

LOCKED_FIELDS: Final = "locked_fields"
WEIGHT: Final = "weight"

# Part of every row's hash: a higher number makes the next sync read every row anew, as it must when
# normalization understands values differently.
_READING: Final = 2

_IN_FUTURE: Final = "timestamp_in_future"

_MIRROR_COLUMNS: Final = (
    *(name if name != "linkedin_url" else "linkedin_slug" for name in COLUMNS),
    "weight", "problems", "is_role_mailbox", "name_at_company", "source_key", "source_hash",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """A relation that holds contacts, checked: our column to its column, for those that it has.

    `has_unique_key`: an index guarantees one row per contact_id; a view can give no such promise.
    """

    relation: sql.Composable
    columns: tuple[tuple[str, str], ...]
    has_unique_key: bool

    @property
    def rows(self) -> sql.Composable:
        """What to select from: one row per contact_id, the one updated last."""
        if self.has_unique_key:
            return self.relation
        updated = dict(self.columns).get("updated_at")
        newest = (
            sql.SQL("r.{} desc nulls last, ").format(sql.Identifier(updated))
            if updated
            else sql.SQL("")
        )
        return sql.SQL(
            "(select distinct on ({key}) r.* from {relation} as r order by {key}, {newest}{hash})"
        ).format(key=self.key, relation=self.relation, newest=newest, hash=self.hash)

    @property
    def key(self) -> sql.Composed:
        """The relation's contact_id as text: how a row is found again."""
        column = dict(self.columns)["contact_id"]
        return sql.SQL("cast(r.{} as text)").format(sql.Identifier(column))

    @property
    def hash(self) -> sql.Composed:
        columns = sql.SQL(", ").join(
            sql.SQL("r.{}").format(sql.Identifier(theirs)) for _, theirs in self.columns
        )
        return sql.SQL("md5({} || cast(row({}) as text))").format(
            sql.Literal(f"{_READING}:"), columns
        )

    @property
    def ripe(self) -> sql.Composable:
        """Whether a moment of the row may have come that lay in the future when it was read.

        By its ISO date, and a day early: the moment may be text with any zone. Dates that are years
        ahead have nothing read again and again.
        """
        moments = [
            sql.SQL(
                "c.problems @> {problem} and left(btrim(to_jsonb(r.{theirs}) #>> '{{}}'), 10)"
                " <= to_char(now() + interval '1 day', 'YYYY-MM-DD')"
            ).format(
                problem=sql.Literal(f'[{{"column": "{ours}", "code": "{_IN_FUTURE}"}}]'),
                theirs=sql.Identifier(theirs),
            )
            for ours, theirs in self.columns
            if ours.endswith("_at")
        ]
        if not moments:
            return sql.SQL("false")
        return sql.SQL("c.problems <> '[]' and ({})").format(sql.SQL(" or ").join(moments))


@dataclass(frozen=True, slots=True)
class MirrorRow:
    """One contact of the source, normalized, with the keys that it may be joined by."""

    contact: Contact
    identifiers: frozenset[Identifier]
    is_role_mailbox: bool
    name_at_company: str | None
    weight: Decimal | None
    locked_fields: tuple[str, ...]
    problems: str
    source_key: str
    source_hash: str


def relation_columns(conn: Connection, relation: sql.Composable) -> dict[str, str] | None:
    """Return column to type category ('N': a number) of a relation; None when it cannot be read."""
    name = relation.as_string(driver(conn))
    found = conn.execute(
        text("""
            select a.attname, t.typcategory
            from pg_attribute as a join pg_type as t on t.oid = a.atttypid
            where a.attrelid = to_regclass(:name) and a.attnum > 0 and not a.attisdropped
              and has_table_privilege(to_regclass(:name), 'select')
        """),
        {"name": name},
    ).all()
    return {row.attname: row.typcategory for row in found} or None


def has_unique_key(conn: Connection, relation: sql.Composable, column: str) -> bool:
    """Whether an index guarantees that no two rows of a relation have one value in the column."""
    return bool(
        conn.execute(
            text("""
                select exists (
                    select from pg_index as i
                    join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
                    where i.indrelid = to_regclass(:name) and a.attname = :column
                      and i.indisunique and i.indisvalid and i.indnkeyatts = 1
                      and i.indpred is null)
            """),
            {"name": relation.as_string(driver(conn)), "column": column},
        ).scalar_one()
    )


def repeated_rows(conn: Connection, source: Source) -> int:
    """Return how many rows of the source are left aside because another has their contact_id."""
    if source.has_unique_key:
        return 0
    query = sql.SQL("select count({key}) - count(distinct {key}) from {relation} as r").format(
        key=source.key, relation=source.relation
    )
    row = driver(conn).execute(query).fetchone()
    return int(row[0]) if row is not None else 0


def source_is_empty(conn: Connection, source: Source) -> bool:
    query = sql.SQL("select not exists (select from {} as r)").format(source.relation)
    row = driver(conn).execute(query).fetchone()
    return row is not None and bool(row[0])


def live_contacts(conn: Connection) -> int:
    """Return how many contacts the source held when it was last read."""
    return int(
        conn.execute(
            text("select count(*) from enrichment.contacts where removed_at is null")
        ).scalar_one()
    )


def begin_mirror(conn: Connection) -> None:
    """Create the temporary tables of one sync, which other syncs wait for."""
    locks.hold(conn, locks.PERSONS)
    conn.execute(text("create temp table sync_stage (like enrichment.contacts) on commit drop"))
    conn.execute(
        text("""
            alter table sync_stage add ordinal bigint generated always as identity,
                add locked_fields text[], alter seen_at drop not null
        """)
    )
    conn.execute(
        text("""
            create temp table sync_identifiers (contact_id text, kind text, value text)
            on commit drop
        """)
    )
    conn.execute(
        text("create temp table sync_changed (contact_id text primary key) on commit drop")
    )
    conn.execute(
        text("create temp table sync_persons (person_id bigint primary key) on commit drop")
    )


def changed_rows(conn: Connection, source: Source) -> Iterator[list[dict[str, Any]]]:
    """Yield the source's rows that changed since they were read, or whose time has come, in chunks.

    Keys are our column names, `source_key` and `source_hash`. Other statements may run between
    chunks.
    """
    fetched = sql.SQL(", ").join(
        sql.SQL("r.{} as {}").format(sql.Identifier(theirs), sql.Identifier(ours))
        for ours, theirs in source.columns
    )
    query = sql.SQL(
        "select {fetched}, {key} as source_key, {hash} as source_hash from {relation} as r"
        " left join enrichment.contacts as c on c.source_key = {key}"
        " where c.source_hash is distinct from {hash} or c.removed_at is not null or ({ripe})"
    ).format(
        fetched=fetched, key=source.key, hash=source.hash, ripe=source.ripe, relation=source.rows
    )
    with driver(conn).cursor(name="changed_rows", row_factory=dict_row) as cursor:
        cursor.execute(query)
        while rows := cursor.fetchmany(_FETCH):
            yield rows


def stage_mirror(conn: Connection, rows: Sequence[MirrorRow]) -> None:
    """Copy normalized rows into `sync_stage` and their identifiers into `sync_identifiers`."""
    columns = (*_MIRROR_COLUMNS, LOCKED_FIELDS)
    with driver(conn).cursor() as cursor:
        with cursor.copy(copy_into("sync_stage", columns)) as copy:
            for row in rows:
                copy.write_row(_mirror_values(row))
        with cursor.copy(copy_into("sync_identifiers", ("contact_id", "kind", "value"))) as copy:
            for row in rows:
                for identifier in sorted(row.identifiers):
                    copy.write_row((row.contact.contact_id, identifier.kind, identifier.value))


@dataclass(frozen=True, slots=True)
class MirrorResult:
    """Contacts by what the sync did to them; `repeated` rows of the source were left aside."""

    added: int
    updated: int
    removed: int
    repeated: int


def apply_mirror(conn: Connection, source: Source, now: datetime) -> MirrorResult:
    """Merge the staged rows into the mirror, mark what left the source, and list what changed.

    Of several rows with one contact_id the one that is mirrored already stays; among new ones the
    newest `updated_at` wins. The changed contacts are in the temporary table `sync_changed`.
    """
    removed = driver(conn).execute(
        sql.SQL(
            "with gone as (update enrichment.contacts as c set removed_at = %s"
            " where c.removed_at is null and not exists"
            " (select from {relation} as r where {key} = c.source_key) returning contact_id)"
            " insert into sync_changed select contact_id from gone"
        ).format(relation=source.relation, key=source.key),
        (now,),
    )
    repeated = conn.execute(
        text("""
            delete from sync_stage as s using (
                select ordinal, row_number() over (
                    partition by n.contact_id
                    order by (c.source_key = n.source_key) desc nulls last,
                             n.updated_at desc nulls last, n.source_key, n.source_hash) as place,
                    c.removed_at is null and c.source_key <> n.source_key as is_taken
                from sync_stage as n left join enrichment.contacts as c using (contact_id)
            ) as r
            where r.ordinal = s.ordinal and (r.place > 1 or r.is_taken)
        """)
    )
    names = ", ".join(_MIRROR_COLUMNS)
    counts = conn.execute(
        text(f"""
            with written as (
                insert into enrichment.contacts as o ({names}, seen_at)
                select {names}, now() from sync_stage order by contact_id
                on conflict (contact_id) do update
                set {", ".join(f"{c} = excluded.{c}" for c in _MIRROR_COLUMNS[1:])},
                    seen_at = excluded.seen_at, removed_at = null
                returning contact_id, (xmax = 0) as is_new
            ), listed as (
                insert into sync_changed select contact_id from written on conflict do nothing
            )
            select count(*) filter (where is_new) as added,
                   count(*) filter (where not is_new) as updated
            from written
        """)  # noqa: S608  (names of our own columns)
    ).one()
    _replace_details(conn, now, has_locks=any(ours == LOCKED_FIELDS for ours, _ in source.columns))
    changed = counts.added + counts.updated
    statistics.analyze(conn, changed, "enrichment.contacts", "enrichment.contact_identifiers")
    return MirrorResult(
        added=counts.added,
        updated=counts.updated,
        removed=removed.rowcount,
        repeated=repeated.rowcount,
    )


# Carriers who lost a wrong one among them may now be one human. One carrier per identifier stands
# for all that are left: with it, resolution looks at everybody who shares it. More names than one
# human goes by stay contested whoever left, as at a shared mailbox: nobody of them is looked at.
_LOST_IDENTIFIERS: Final = text("""
    with lost as (
        select distinct i.kind, i.value
        from sync_stage as s join enrichment.contact_identifiers as i using (contact_id)
        where not exists (
            select from sync_identifiers as n join sync_stage using (contact_id)
            where (n.kind, n.value) = (i.kind, i.value))
    )
    insert into sync_changed
    select min(c.contact_id)
    from lost
    join enrichment.contact_identifiers as i using (kind, value)
    join enrichment.contacts as c using (contact_id)
    where not exists (select from sync_changed as known where known.contact_id = c.contact_id)
    group by lost.kind, lost.value
    having count(distinct (c.first_name, c.last_name, c.full_name)) <= :names
    on conflict do nothing
""")
_NAMES_OF_ONE_HUMAN: Final = 30


def _replace_details(conn: Connection, now: datetime, *, has_locks: bool) -> None:
    conn.execute(_LOST_IDENTIFIERS, {"names": _NAMES_OF_ONE_HUMAN})
    conn.execute(
        text("""
            delete from enrichment.contact_identifiers as i using sync_stage as s
            where i.contact_id = s.contact_id
        """)
    )
    conn.execute(
        text("""
            insert into enrichment.contact_identifiers (kind, value, contact_id)
            select distinct i.kind, i.value, i.contact_id
            from sync_identifiers as i join sync_stage as s using (contact_id)
            order by 1, 2, 3
        """)
    )
    if not has_locks:
        return
    conn.execute(
        text("""
            delete from enrichment.value_locks as l using sync_stage as s
            where l.contact_id = s.contact_id and l.reason = 'source'
        """)
    )
    conn.execute(
        text("""
            insert into enrichment.value_locks (contact_id, field, reason, locked_at)
            select contact_id, field, 'source', :now from sync_stage, unnest(locked_fields) as field
            on conflict do nothing
        """),
        {"now": now},
    )


def changed_contacts(conn: Connection, chunk: int) -> Iterator[list[str]]:
    """Yield the ids of the contacts that the sync changed, sorted, in chunks."""
    return _listed(conn, "sync_changed", "contact_id", "", chunk)


def touched_persons(conn: Connection, chunk: int) -> Iterator[list[int]]:
    """Yield the persons of whom something else may be known now, sorted, in chunks."""
    return _listed(conn, "sync_persons", "person_id", 0, chunk)


def _listed(
    conn: Connection, table: str, column: str, after: _Id, chunk: int
) -> Iterator[list[_Id]]:
    page = text(
        f"select {column} from {table} where {column} > :after order by 1 limit :chunk"  # noqa: S608
    )
    while ids := list(conn.execute(page, {"after": after, "chunk": chunk}).scalars()):
        yield ids
        after = ids[-1]


def add_changed(conn: Connection, contact_ids: Sequence[str]) -> None:
    """List further contacts as changed: those whose person changed."""
    conn.execute(
        text("""
            insert into sync_changed select unnest(cast(:ids as text[])) on conflict do nothing
        """),
        {"ids": list(contact_ids)},
    )


def add_touched(conn: Connection, person_ids: Sequence[int]) -> None:
    """List persons whose contacts changed."""
    conn.execute(
        text("""
            insert into sync_persons select unnest(cast(:ids as bigint[])) on conflict do nothing
        """),
        {"ids": list(person_ids)},
    )


def _mirror_values(row: MirrorRow) -> list[object]:
    contact = row.contact
    values: list[object] = [getattr(contact, column) for column in _MIRROR_COLUMNS[: len(COLUMNS)]]
    values += [
        row.weight, row.problems, row.is_role_mailbox, row.name_at_company, row.source_key,
        row.source_hash, list(row.locked_fields),
    ]  # fmt: skip
    return values
