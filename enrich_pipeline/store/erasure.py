"""Erasing a person: no value is left anywhere, and nothing brings one back.

Everything in one transaction; the ids that the ledger's lines need stay, as do amounts and counts.
A call that is still open keeps, of the person, the provider's own id until it closes: without it a
late answer could not be told from the others' and its cost would be lost. Files are
`store/personal_files.py`, who may come back `store/tombstones.py`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, text

from enrich_pipeline.domain import normalize
from enrich_pipeline.domain.errors import EnrichError
from enrich_pipeline.store import locks, tombstones
from enrich_pipeline.store.carriers import CARRIERS
from enrich_pipeline.store.erasure_statements import STATEMENTS
from enrich_pipeline.store.rows import as_json
from enrich_pipeline.store.tombstones import Identifier

_MOST_TRIES: Final = 20
_CLEARS_STATISTICS: Final = 180000
"""Since when PostgreSQL can be told to forget a column's statistics."""


@dataclass(frozen=True, slots=True)
class Person:
    """One human: the survivor of all merges, with every contact, those of the past included."""

    person_id: int
    contact_ids: tuple[str, ...]
    source_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an erasure did, without anything that says of whom. `rows`: by table."""

    erasure_id: int
    request_hash: str
    erased_at: datetime
    persons: int
    contacts: int
    rows: dict[str, int]
    open_calls: int


@dataclass(frozen=True, slots=True)
class Erased:
    """The receipt, and what is still to be sought in files; kept nowhere."""

    receipt: Receipt
    contact_ids: frozenset[str]
    values: frozenset[str]


def find(conn: Connection, identifiers: Sequence[Identifier]) -> list[Person]:
    """The persons who carry one of these: (contact, id), (email | linkedin | phone, value).

    Not by what a provider said of somebody else.
    """
    rows = conn.execute(text(_FIND), {"identifiers": _json(identifiers)})
    return [Person(int(r.person_id), tuple(r.contacts), tuple(r.source_keys)) for r in rows]


def was_erased(conn: Connection, identifiers: Sequence[Identifier]) -> bool:
    """Whether somebody was erased who carried one of these."""
    return tombstones.read(conn).recognize(identifiers)


def erase(
    conn: Connection,
    persons: Sequence[Person],
    identifiers: Sequence[Identifier],
    now: datetime,
) -> Erased:
    """Erase these persons, and everybody merged into them, with all of their contacts.

    Waits for loads, syncs and whatever settles a call of theirs. In a night under way nothing more
    is bought for them; what was sent is paid when its answer comes, which is then thrown away.
    """
    locks.hold(conn, locks.LOAD)
    locks.hold(conn, locks.PERSONS)
    roots = [person.person_id for person in persons]
    members = list(conn.execute(text(_MEMBERS), {"roots": roots}).scalars())
    calls = _lock(conn, members)
    contacts = list(
        conn.execute(
            text(
                "select contact_id from enrichment.contacts where person_id = any(:ids) order by 1"
            ),
            {"ids": members},
        ).scalars()
    )
    scope: dict[str, Any] = {"persons": members, "contacts": contacts, "calls": calls, "now": now}
    carried = _carried(conn, scope)
    own = {*identifiers, *carried}
    values = frozenset(
        {value for kind, value in own if kind != "contact"}
        | set(conn.execute(text(_VALUES), scope).scalars())
    )
    tombstones.put(conn, [i for i in _screened(own) if i not in _of_others(conn, own, members)])
    scope["values"] = sorted(values)
    counts: dict[str, int] = {}
    for table, statement in STATEMENTS:
        changed = conn.execute(text(statement), scope).rowcount
        counts[table] = counts.get(table, 0) + max(changed, 0)
    receipt = _write_receipt(conn, persons, contacts, identifiers, counts, now, calls)
    return Erased(receipt, frozenset(contacts), values)


def pending_files(conn: Connection) -> datetime | None:
    """The time of the last erasure whose files were not cleaned because it was cut off."""
    last: datetime | None = conn.execute(
        text("select max(erased_at) from enrichment.erasures where files_done_at is null")
    ).scalar_one()
    return last


def note_files_done(conn: Connection) -> None:
    conn.execute(
        text("""
            update enrichment.erasures set files_done_at = clock_timestamp()
            where files_done_at is null
        """)
    )


def vacuumable(conn: Connection) -> tuple[list[str], list[str]]:
    """The tables that an erasure touched: those that this role may vacuum, and the others."""
    rows = conn.execute(
        text("""
            select c.oid::regclass::text as name,
                pg_has_role(c.relowner, 'usage')
                or case when current_setting('server_version_num')::integer >= 170000
                    then has_table_privilege(c.oid, 'maintain') else false end as is_ours
            from unnest(cast(:tables as text[])) as t(name)
            join pg_class as c on c.oid = t.name::regclass
            order by 1
        """),
        {"tables": sorted({table for table, _ in STATEMENTS})},
    ).all()
    return [r.name for r in rows if r.is_ours], [r.name for r in rows if not r.is_ours]


def vacuum(conn: Connection, tables: Sequence[str]) -> None:
    """Take dead rows out of reach, and their values out of the planner's statistics.

    Outside any transaction: the connection must be in autocommit. Of a table that has become empty
    PostgreSQL keeps the old statistics, and cannot be told otherwise before version 18.
    """
    conn.execute(text(f"vacuum (analyze) {', '.join(tables)}"))
    version = conn.execute(text("show server_version_num")).scalar_one()
    if int(version) >= _CLEARS_STATISTICS:
        conn.execute(text(_CLEAR_OF_EMPTY), {"tables": list(tables)})


# ------------------------------------------------------------------------------- steps


def _lock(conn: Connection, members: Sequence[int]) -> list[int]:
    """Lock the persons' calls, then the persons, in everybody's order; returns the calls.

    A claim needs the persons' rows: with these locked and no call new, none can appear any more.
    """
    for _ in range(_MOST_TRIES):
        step = conn.begin_nested()
        calls = list(conn.execute(text(_LOCK_CALLS), {"persons": list(members)}).scalars())
        conn.execute(text(_LOCK_PERSONS), {"persons": list(members)})
        found = conn.execute(text(_CALLS), {"persons": list(members)}).scalars()
        if set(found) == set(calls):
            step.commit()
            return calls
        step.rollback()
    raise EnrichError("the person is being enriched at this moment: `enrich pause`, then again")


def _carried(conn: Connection, scope: dict[str, Any]) -> set[Identifier]:
    rows = conn.execute(text(_IDENTIFIERS), scope)
    return {(row.kind, row.value) for row in rows if row.value}


def _screened(identifiers: set[Identifier]) -> set[Identifier]:
    """What names one human: a role mailbox or a telephone may be many people's."""
    kept: set[Identifier] = set()
    for kind, value in identifiers:
        if kind == "email":
            if not normalize.is_role_mailbox(value):
                kept |= {(kind, value), (kind, normalize.mailbox(value))}
        elif kind != "phone":
            kept.add((kind, value))
    return kept


def _of_others(
    conn: Connection, identifiers: set[Identifier], members: Sequence[int]
) -> set[Identifier]:
    """Those that contacts of other persons carry too: these persons stay."""
    screened = _screened(identifiers)
    rows = conn.execute(
        text(_CONTESTED), {"identifiers": _json(sorted(screened)), "persons": list(members)}
    )
    return {(row.kind, row.value) for row in rows}


def _write_receipt(
    conn: Connection,
    persons: Sequence[Person],
    contacts: Sequence[str],
    identifiers: Sequence[Identifier],
    counts: dict[str, int],
    now: datetime,
    calls: Sequence[int],
) -> Receipt:
    row = conn.execute(
        text("""
            insert into enrichment.erasures
                (request_hash, erased_at, persons, contacts, rows_changed, open_calls)
            select enrichment.identity_hash('request', :request), :now, :persons, :contacts,
                cast(:counts as jsonb),
                (select count(*) from enrichment.calls
                 where call_id = any(cast(:calls as bigint[])) and items is not null)
            returning erasure_id, request_hash, open_calls
        """),
        {
            "request": _json(sorted(identifiers)),
            "now": now,
            "persons": len(persons),
            "contacts": len(contacts),
            "counts": json.dumps(counts),
            "calls": list(calls),
        },
    ).one()
    return Receipt(
        erasure_id=row.erasure_id,
        request_hash=row.request_hash,
        erased_at=now,
        persons=len(persons),
        contacts=len(contacts),
        rows=counts,
        open_calls=row.open_calls,
    )


def _json(identifiers: Sequence[Identifier]) -> str:
    return as_json({"kind": kind, "value": value} for kind, value in identifiers)


# ------------------------------------------------------------------------------- statements

_FIND: Final = f"""
    with {CARRIERS}
    select s.person_id, array_agg(c.contact_id order by c.contact_id) as contacts,
        array_agg(c.source_key order by c.contact_id) as source_keys
    from survivors as s
    join enrichment.persons as p on s.person_id in (p.person_id, p.merged_into)
    join enrichment.contacts as c on c.person_id = p.person_id
    group by s.person_id
    order by s.person_id
"""  # noqa: S608  (a fragment of our own)

_MEMBERS: Final = """
    select person_id from enrichment.persons
    where person_id = any(cast(:roots as bigint[])) or merged_into = any(cast(:roots as bigint[]))
    order by person_id
"""

_CALLS: Final = """
    select distinct call_id from enrichment.charge_lines
    where person_id = any(cast(:persons as bigint[]))
"""

_LOCK_CALLS: Final = """
    select call_id from enrichment.calls
    where call_id in (
        select call_id from enrichment.charge_lines
        where person_id = any(cast(:persons as bigint[])))
    order by call_id for no key update
"""

_LOCK_PERSONS: Final = """
    select person_id from enrichment.persons where person_id = any(cast(:persons as bigint[]))
    order by person_id for no key update
"""

# What could bring the person back, or tell who it is.
_IDENTIFIERS: Final = """
    select 'contact' as kind, contact_id as value from enrichment.contacts
    where contact_id = any(cast(:contacts as text[]))
    union select 'email', address
    from enrichment.contacts, unnest(array[email, personal_email]) as address
    where contact_id = any(cast(:contacts as text[]))
    union select 'linkedin', linkedin_slug from enrichment.contacts
    where contact_id = any(cast(:contacts as text[]))
    union select 'phone', phone from enrichment.contacts
    where contact_id = any(cast(:contacts as text[]))
    union select kind, value from enrichment.contact_identifiers
    where contact_id = any(cast(:contacts as text[]))
    union select provider, external_id from enrichment.provider_identities
    where person_id = any(cast(:persons as bigint[]))
    union select
        case attribute when 'phone' then 'phone' when 'linkedin_url' then 'linkedin'
            else 'email' end,
        regexp_replace(value, '^https://www\\.linkedin\\.com/in/', '')
    from enrichment.observations
    where person_id = any(cast(:persons as bigint[]))
      and attribute in ('work_email', 'personal_email', 'phone', 'linkedin_url')
      and rejected_reason is distinct from 'other_person' and value is not null
"""

_VALUES: Final = """
    select full_name from enrichment.contacts
    where contact_id = any(cast(:contacts as text[])) and full_name is not null
    union select concat_ws(' ', first_name, last_name) from enrichment.contacts
    where contact_id = any(cast(:contacts as text[]))
      and first_name is not null and last_name is not null
    union select value from enrichment.observations
    where person_id = any(cast(:persons as bigint[])) and value is not null
      and attribute in ('work_email', 'personal_email', 'phone', 'linkedin_url')
"""

_CLEAR_OF_EMPTY: Final = """
    select pg_clear_attribute_stats(s.schemaname, s.tablename, s.attname, s.inherited)
    from unnest(cast(:tables as text[])) as t(name)
    join pg_class as c on c.oid = t.name::regclass and c.reltuples = 0
    join pg_namespace as n on n.oid = c.relnamespace
    join pg_stats as s on (s.schemaname, s.tablename) = (n.nspname, c.relname)
"""

_CONTESTED: Final = """
    with own as (
        select kind, value
        from jsonb_to_recordset(cast(:identifiers as jsonb)) as i(kind text, value text)
    )
    select o.kind, o.value from own as o join enrichment.contact_identifiers using (kind, value)
    join enrichment.contacts as c using (contact_id)
    where c.person_id <> all(cast(:persons as bigint[])) and c.removed_at is null
    union
    select o.kind, o.value from own as o join enrichment.contacts as c on c.email = o.value
    where o.kind = 'email'
      and c.person_id <> all(cast(:persons as bigint[])) and c.removed_at is null
    union
    select o.kind, o.value from own as o join enrichment.contacts as c on c.personal_email = o.value
    where o.kind = 'email'
      and c.person_id <> all(cast(:persons as bigint[])) and c.removed_at is null
"""
