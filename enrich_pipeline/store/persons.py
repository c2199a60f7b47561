"""Persons in PostgreSQL: who is who.

Which contacts are one human is decided by `domain/person.py`; here its decision is made lasting:
persons live on, contacts are joined and parted by dated rows, and what was bought follows a merge.
What may be sent of a person is `store/person_inputs.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from enrich_pipeline.domain import person as domain
from enrich_pipeline.domain.normalize import NameParts
from enrich_pipeline.domain.person import Assignment, ContactKeys, Identifier, IdentifierKind
from enrich_pipeline.store import locks, person_merges, statistics
from enrich_pipeline.store.person_inputs import refresh_inputs
from enrich_pipeline.store.rows import as_json
from enrich_pipeline.store.statement import text

__all__ = [
    "ResolveSummary",
    "Resolving",
    "Totals",
    "refresh_inputs",
    "resolve",
    "split",
    "totals",
]

_GROWING = ("enrichment.contacts", "enrichment.persons", "enrichment.person_identifiers")

_Move = tuple[str, int, str]
"""A contact, its person from now on, and why."""


@dataclass(frozen=True, slots=True)
class ResolveSummary:
    """What a resolution changed.

    `joined` counts contacts brought into a person that other contacts share. `contact_ids` are the
    contacts whose person changed, `person_ids` every person whose inputs have to be made anew.
    """

    new_persons: int
    joined: int
    merged: int
    contact_ids: tuple[str, ...]
    person_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Totals:
    """How many persons have a contact now, and how many pairs of contacts look like one human."""

    persons: int
    suspected_duplicates: int


@dataclass(frozen=True, slots=True)
class _Neighbourhood:
    """Contacts that could be joined, directly or over others, with the person each has now."""

    contacts: tuple[ContactKeys, ...]
    persons: dict[str, int]


class Resolving:
    """One resolution, over any number of chunks of contacts, within the caller's transaction.

    Contacts are joined chunk by chunk; persons that turn out to be one are merged at the end, all
    at once: merging locks them against whoever buys for them, and locks are taken in one order.
    """

    def __init__(self, conn: Connection) -> None:
        """Wait for other resolutions; the caller's transaction keeps the lock."""
        locks.hold(conn, locks.PERSONS)
        self._conn = conn
        self._merges: dict[int, int] = {}
        self._moves: list[_Move] = []
        self._judged: set[str] = set()
        """Contacts of neighbourhoods in which persons are to be merged."""
        self._new = self._new_when_analyzed = 0

    def join(self, contact_ids: Sequence[str]) -> ResolveSummary:
        """Give every one of the contacts, and all that they are tied to, its person.

        A pure function of the stored contacts, whatever the order in which they came: the
        neighbourhood that is judged is complete.
        """
        conn = self._conn
        around = _neighbourhood(conn, [c for c in contact_ids if c not in self._judged])
        resolution = domain.resolve(around.contacts, around.persons, _splits(conn, around))
        assignments = _with_new_persons(conn, domain.assign(resolution.groups, around.persons))
        merging = [(a, person_id) for a, person_id in assignments if a.merged_person_ids]
        staying = [(a, person_id) for a, person_id in assignments if not a.merged_person_ids]
        if merging:
            self._merges |= {old: person for a, person in merging for old in a.merged_person_ids}
            self._moves += _moves(merging, around.persons)
            self._judged |= {c.contact_id for c in around.contacts}
        moves = _moves(staying, around.persons)
        _write_moves(conn, moves)
        _write_identifiers(conn, around, assignments)
        _list_suspects(conn, [c.contact_id for c in around.contacts])
        fresh = sum(1 for a, _ in assignments if a.person_id is None)
        self._analyze(fresh)
        touched = {*around.persons.values(), *(person_id for _, person_id in assignments)}
        return _summary(moves, touched, new_persons=fresh, joined=max(len(moves) - fresh, 0))

    def _analyze(self, fresh: int) -> None:
        """Has the planner look again when the new persons have doubled; nobody else sees them."""
        self._new += fresh
        if self._new > 2 * self._new_when_analyzed:
            statistics.analyze(self._conn, self._new, *_GROWING)
            self._new_when_analyzed = self._new

    def merge(self) -> ResolveSummary:
        """Merge the persons that were found to be one human, and move their contacts."""
        moves, merges = self._moves, self._merges
        if merges:
            person_merges.lock(self._conn, merges)
            _write_moves(self._conn, moves)
            person_merges.merge(self._conn, merges)
            _list_suspects(self._conn, sorted(self._judged))
        return _summary(moves, set(merges.values()), joined=len(moves), merged=len(merges))


def resolve(conn: Connection, contact_ids: Sequence[str]) -> ResolveSummary:
    """Resolve one chunk of contacts, merges included."""
    resolving = Resolving(conn)
    joined, merged = resolving.join(contact_ids), resolving.merge()
    return ResolveSummary(
        new_persons=joined.new_persons,
        joined=joined.joined + merged.joined,
        merged=merged.merged,
        contact_ids=tuple(sorted({*joined.contact_ids, *merged.contact_ids})),
        person_ids=tuple(sorted({*joined.person_ids, *merged.person_ids})),
    )


def _summary(
    moves: Sequence[_Move],
    person_ids: set[int],
    *,
    joined: int,
    new_persons: int = 0,
    merged: int = 0,
) -> ResolveSummary:
    return ResolveSummary(
        new_persons=new_persons,
        joined=joined,
        merged=merged,
        contact_ids=tuple(sorted(contact_id for contact_id, _, _ in moves)),
        person_ids=tuple(sorted(person_ids)),
    )


def split(conn: Connection, contact_ids: Sequence[str], now: datetime) -> ResolveSummary:
    """Part the contacts from all others of their persons, for good; they stay together themselves.

    What was bought stays with the person that keeps most contacts: whose it was cannot be known.
    """
    locks.hold(conn, locks.PERSONS)
    conn.execute(
        text("""
            insert into enrichment.person_splits (contact_ids, other_contact_ids, created_at)
            select cast(:ids as text[]), array_agg(distinct other.contact_id), :now
            from enrichment.contacts as c
            join enrichment.contacts as other using (person_id)
            where c.contact_id = any(cast(:ids as text[]))
              and other.contact_id <> all(cast(:ids as text[]))
            having count(*) > 0
        """),
        {"ids": sorted(contact_ids), "now": now},
    )
    summary = resolve(conn, sorted(contact_ids))
    refresh_inputs(conn, summary.person_ids)
    return summary


def totals(conn: Connection) -> Totals:
    row = conn.execute(
        text("""
            select (select count(distinct person_id) from enrichment.contacts
                    where removed_at is null) as persons,
                   (select count(*) from enrichment.suspected_duplicates) as suspected
        """)
    ).one()
    return Totals(row.persons, row.suspected)


def _neighbourhood(conn: Connection, contact_ids: Sequence[str]) -> _Neighbourhood:
    rows = conn.execute(
        text("""
            with recursive reached(contact_id) as (
                select unnest(cast(:ids as text[]))
                union
                select n.contact_id
                from reached as r
                cross join lateral (
                    select other.contact_id
                    from enrichment.contact_identifiers as mine
                    join enrichment.contact_identifiers as other using (kind, value)
                    where mine.contact_id = r.contact_id
                    union all
                    select other.contact_id
                    from enrichment.contacts as mine
                    join enrichment.contacts as other using (person_id)
                    where mine.contact_id = r.contact_id
                ) as n
            )
            select c.contact_id, c.person_id, c.first_name, c.last_name, c.full_name,
                   i.kinds, i.values
            from reached join enrichment.contacts as c using (contact_id)
            left join lateral (
                select array_agg(kind order by kind, value) as kinds,
                       array_agg(value order by kind, value) as values
                from enrichment.contact_identifiers as i where i.contact_id = c.contact_id
            ) as i on true
        """),
        {"ids": list(contact_ids)},
    )
    contacts = []
    persons: dict[str, int] = {}
    for contact_id, person_id, first, last, full, kinds, values in rows:
        identifiers = frozenset(
            Identifier(IdentifierKind(kind), value)
            for kind, value in zip(kinds or (), values or (), strict=True)
        )
        contacts.append(ContactKeys(contact_id, NameParts(first, last, full), identifiers))
        if person_id is not None:
            persons[contact_id] = person_id
    return _Neighbourhood(tuple(contacts), persons)


def _splits(conn: Connection, around: _Neighbourhood) -> set[frozenset[str]]:
    rows = conn.execute(
        text("""
            select contact_ids, other_contact_ids from enrichment.person_splits
            where contact_ids && cast(:ids as text[])
              and other_contact_ids && cast(:ids as text[])
        """),
        {"ids": [c.contact_id for c in around.contacts]},
    )
    return {frozenset((one, other)) for ones, others in rows for one in ones for other in others}


def _with_new_persons(
    conn: Connection, assignments: Sequence[Assignment]
) -> list[tuple[Assignment, int]]:
    missing = sum(1 for a in assignments if a.person_id is None)
    fresh = iter(
        sorted(
            conn.execute(
                text("""
                    insert into enrichment.persons (created_at)
                    select now() from generate_series(1, :missing) returning person_id
                """),
                {"missing": missing},
            ).scalars()
        )
    )
    return [(a, next(fresh) if a.person_id is None else a.person_id) for a in assignments]


def _moves(assignments: Sequence[tuple[Assignment, int]], persons: dict[str, int]) -> list[_Move]:
    return [
        (contact_id, person_id, assignment.group.reason.value)
        for assignment, person_id in assignments
        for contact_id in assignment.group.contact_ids
        if persons.get(contact_id) != person_id
    ]


def _write_moves(conn: Connection, moves: Sequence[_Move]) -> None:
    if not moves:
        return
    rows = as_json({"contact_id": c, "person_id": p, "reason": r} for c, p, r in moves)
    conn.execute(
        text("""
            with moved as (
                select * from jsonb_to_recordset(cast(:rows as jsonb))
                as r(contact_id text, person_id bigint)
            )
            update enrichment.contacts as c set person_id = m.person_id
            from moved as m where m.contact_id = c.contact_id
        """),
        {"rows": rows},
    )
    conn.execute(
        text("""
            update enrichment.contact_persons as p set valid_to = clock_timestamp()
            from jsonb_to_recordset(cast(:rows as jsonb)) as r(contact_id text)
            where p.contact_id = r.contact_id and p.valid_to is null
        """),
        {"rows": rows},
    )
    conn.execute(
        text("""
            insert into enrichment.contact_persons (contact_id, person_id, valid_from, reason)
            select contact_id, person_id, clock_timestamp(), reason
            from jsonb_to_recordset(cast(:rows as jsonb))
            as r(contact_id text, person_id bigint, reason text)
        """),
        {"rows": rows},
    )


def _write_identifiers(
    conn: Connection, around: _Neighbourhood, assignments: Sequence[tuple[Assignment, int]]
) -> None:
    """Point identifiers that one person alone carries to it, and the contested ones to nobody."""
    owned = {i: person_id for a, person_id in assignments for i in a.group.identifiers}
    carried = {i for contact in around.contacts for i in contact.identifiers}
    persons = sorted({*around.persons.values(), *(person_id for _, person_id in assignments)})
    conn.execute(
        text("""
            -- By person and by identifier, each with its index: one condition read the whole table.
            with concerned as (
                select kind, value from enrichment.person_identifiers
                where person_id = any(cast(:persons as bigint[]))
                union
                select kind, value from jsonb_to_recordset(cast(:carried as jsonb))
                as r(kind text, value text)
            )
            delete from enrichment.person_identifiers as i using concerned as c
            where (i.kind, i.value) = (c.kind, c.value)
              and not exists (
                  select from jsonb_to_recordset(cast(:owned as jsonb))
                  as o(kind text, value text, person_id bigint)
                  where (o.kind, o.value, o.person_id) = (i.kind, i.value, i.person_id))
        """),
        {
            "persons": persons,
            "carried": as_json({"kind": i.kind.value, "value": i.value} for i in sorted(carried)),
            "owned": _owned_json(owned),
        },
    )
    conn.execute(
        text("""
            insert into enrichment.person_identifiers (kind, value, hash, person_id)
            select kind, value, enrichment.identity_hash(kind, value), person_id
            from jsonb_to_recordset(cast(:owned as jsonb))
            as r(kind text, value text, person_id bigint)
            on conflict (kind, value) do update set person_id = excluded.person_id
            where person_identifiers.person_id <> excluded.person_id
        """),
        {"owned": _owned_json(owned)},
    )


def _owned_json(owned: dict[Identifier, int]) -> str:
    return as_json(
        {"kind": i.kind.value, "value": i.value, "person_id": person_id}
        for i, person_id in sorted(owned.items())
    )


def _list_suspects(conn: Connection, contact_ids: Sequence[str]) -> None:
    """List pairs of contacts of different persons that share a name at a company or an identifier.

    Of many namesakes each is listed against the first, not each against each.
    """
    conn.execute(
        text("""
            with gone as (
                delete from enrichment.suspected_duplicates
                where contact_id = any(cast(:ids as text[]))
                   or other_contact_id = any(cast(:ids as text[]))
            ), mine as (
                select c.contact_id, c.name_at_company from enrichment.contacts as c
                where c.contact_id = any(cast(:ids as text[]))
            ), keys(reason, kind, value) as (
                select distinct 'same_name_and_company', '', name_at_company from mine
                where name_at_company is not null
                union
                select 'contested_identifier', i.kind, i.value
                from mine join enrichment.contact_identifiers as i using (contact_id)
            ), holders as (
                select k.reason, k.kind, k.value, c.contact_id, c.person_id
                from keys as k join enrichment.contacts as c on c.name_at_company = k.value
                where k.reason = 'same_name_and_company'
                union all
                select k.reason, k.kind, k.value, c.contact_id, c.person_id
                from keys as k join enrichment.contact_identifiers as i using (kind, value)
                join enrichment.contacts as c on c.contact_id = i.contact_id
                where k.reason = 'contested_identifier'
            ), firsts as (
                select distinct on (reason, kind, value) reason, kind, value, contact_id, person_id
                from holders order by reason, kind, value, contact_id
            )
            insert into enrichment.suspected_duplicates (contact_id, other_contact_id, reason)
            select distinct on (f.contact_id, h.contact_id) f.contact_id, h.contact_id, h.reason
            from firsts as f join holders as h using (reason, kind, value)
            where h.person_id <> f.person_id and not exists (
                select from enrichment.person_splits as s
                where (f.contact_id = any(s.contact_ids)
                       and h.contact_id = any(s.other_contact_ids))
                   or (h.contact_id = any(s.contact_ids)
                       and f.contact_id = any(s.other_contact_ids)))
            order by f.contact_id, h.contact_id, h.reason
            on conflict (contact_id, other_contact_id) do update set reason = excluded.reason
        """),
        {"ids": list(contact_ids)},
    )
