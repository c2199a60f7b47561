"""Bringing the mirror of contacts up to date with the source relation, whatever its columns.

Only rows that differ from what was read before are fetched. Statements are in `store/mirror.py`,
persons in `store/persons.py`; files are `intake/file.py`'s.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from psycopg import sql
from sqlalchemy import Connection, Engine

from enrich_pipeline.domain.contact import (
    COLUMNS,
    BadRow,
    Contact,
    Problem,
    normalize_contact,
)
from enrich_pipeline.domain.enrichment import Field
from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.domain.names import name_key
from enrich_pipeline.domain.normalize import is_role_mailbox
from enrich_pipeline.domain.person import keys_of
from enrich_pipeline.domain.policy import Policy
from enrich_pipeline.intake.rejects import as_json
from enrich_pipeline.store import merge, mirror, persons, tombstones
from enrich_pipeline.store.contacts import REPEATED
from enrich_pipeline.store.mirror import LOCKED_FIELDS, WEIGHT, MirrorRow, Source
from enrich_pipeline.store.statistics import planned_anew
from enrich_pipeline.store.tombstones import Identifier, Tombstones

CHUNK: Final = 5_000
"""Contacts per statement while persons are resolved and merged."""

MAPPABLE: Final = (*COLUMNS, LOCKED_FIELDS)
"""What `source.columns` may map: the contract's columns, and the fields whose values are locked."""


@dataclass(frozen=True, slots=True)
class SyncSummary:
    """What a sync found; contacts unless said otherwise.

    `rejected` counts rows of the source by the reason why they name no contact, `values_left_out`
    values by column and reason code. `persons` and `suspected_duplicates` are totals; `joined`
    counts contacts that this sync brought into a person that other contacts share.
    """

    added: int
    updated: int
    removed: int
    rejected: dict[str, int]
    values_left_out: dict[str, int]
    persons: int
    joined: int
    suspected_duplicates: int


def sync_source(
    engine: Engine,
    policy: Policy,
    now: datetime,
    on_progress: Callable[[int], None] | None = None,
) -> SyncSummary:
    """Mirror the source's changed contacts, resolve their persons and merge their current state.

    One transaction; a second sync waits for the first. `on_progress` receives the number of changed
    rows read so far.

    Raises:
        ConfigurationError: the relation or a mapped column does not exist, or the relation is empty
            although contacts are known: that is taken for a fault, nothing is removed.
    """
    with engine.begin() as conn:
        return sync(conn, policy, now, on_progress)


def sync(
    conn: Connection,
    policy: Policy,
    now: datetime,
    on_progress: Callable[[int], None] | None = None,
) -> SyncSummary:
    """Do what `sync_source` says within the caller's transaction, once in it."""
    rejected: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    read = 0
    source = find_source(conn, policy)
    mirror.begin_mirror(conn)
    _refuse_sudden_emptiness(conn, policy, source)
    erased = tombstones.read(conn)
    for rows in mirror.changed_rows(conn, source):
        mirror.stage_mirror(conn, list(_normalized(rows, now, rejected, left_out, erased)))
        read += len(rows)
        if on_progress is not None:
            on_progress(read)
    result = mirror.apply_mirror(conn, source, now)
    repeated = result.repeated + mirror.repeated_rows(conn, source)
    if repeated:
        rejected[REPEATED] += repeated
    with planned_anew(conn):
        joined = _resolve_changed(conn, policy, now)
    totals = persons.totals(conn)
    return SyncSummary(
        added=result.added,
        updated=result.updated,
        removed=result.removed,
        rejected=dict(sorted(rejected.items())),
        values_left_out=dict(sorted(left_out.items())),
        persons=totals.persons,
        joined=joined,
        suspected_duplicates=totals.suspected_duplicates,
    )


def find_source(conn: Connection, policy: Policy) -> Source:
    """Return the configured relation with the columns that it has.

    Raises:
        ConfigurationError: naming the setting that does not fit.
    """
    relation = sql.SQL(".").join(map(sql.Identifier, policy.source.relation.split(".")))
    found = mirror.relation_columns(conn, relation)
    if found is None:
        raise ConfigurationError(
            f"source.relation: {policy.source.relation} does not exist or cannot be read"
        )
    for ours, theirs in policy.source.columns.items():
        if ours not in MAPPABLE:
            raise ConfigurationError(
                f"source.columns.{ours}: there is no such column; known are {', '.join(MAPPABLE)}"
            )
        if theirs not in found:
            raise ConfigurationError(
                f"source.columns.{ours}: {policy.source.relation} has no column {theirs}"
            )
    columns = {ours: policy.source.columns.get(ours, ours) for ours in COLUMNS}
    if LOCKED_FIELDS in policy.source.columns:
        columns[LOCKED_FIELDS] = policy.source.columns[LOCKED_FIELDS]
    if columns["contact_id"] not in found:
        raise ConfigurationError(
            f"source.columns.contact_id: {policy.source.relation} has no column contact_id; "
            "say which column names the contact"
        )
    weight = policy.refresh.weight_column
    if weight is not None:
        if found.get(weight) != "N":
            raise ConfigurationError(
                f"refresh.weight_column: {policy.source.relation} has no numeric column {weight}"
            )
        columns[WEIGHT] = weight
    return Source(
        relation=relation,
        columns=tuple((ours, theirs) for ours, theirs in columns.items() if theirs in found),
        has_unique_key=mirror.has_unique_key(conn, relation, columns["contact_id"]),
    )


def _refuse_sudden_emptiness(conn: Connection, policy: Policy, source: Source) -> None:
    if not mirror.source_is_empty(conn, source):
        return
    known = mirror.live_contacts(conn)
    if known:
        raise ConfigurationError(
            f"source.relation: {policy.source.relation} is empty although {known} contacts are "
            "known from it; nothing was changed. Fill it again, or name another relation"
        )


def identifiers_of(contact: Contact) -> set[Identifier]:
    """By what a contact is recognized as somebody who was erased."""
    found: set[Identifier] = {(i.kind.value, i.value) for i in keys_of(contact).identifiers}
    found |= {("email", address) for address in (contact.email, contact.personal_email) if address}
    return found | {("contact", contact.contact_id)}


def _normalized(
    rows: list[dict[str, Any]],
    now: datetime,
    rejected: Counter[str],
    left_out: Counter[str],
    erased: Tombstones,
) -> Iterator[MirrorRow]:
    for row in rows:
        try:
            contact, problems = normalize_contact(row, now)
        except BadRow as error:
            rejected[error.reason] += 1
            continue
        if erased.recognize(identifiers_of(contact)):
            rejected[tombstones.ERASED] += 1
            continue
        weight, locked, more = _extras(row)
        problems += more
        left_out.update(f"{p.column}: {p.code}" for p in problems)
        yield MirrorRow(
            contact=contact,
            identifiers=keys_of(contact).identifiers,
            is_role_mailbox=contact.email is not None and is_role_mailbox(contact.email),
            name_at_company=_name_at_company(contact),
            weight=weight,
            locked_fields=locked,
            problems=as_json([{"column": p.column, "code": p.code} for p in problems]),
            source_key=row["source_key"],
            source_hash=row["source_hash"],
        )


def _name_at_company(contact: Contact) -> str | None:
    keys = keys_of(contact)
    name = name_key(keys.name)
    if name is None or keys.company is None:
        return None
    return f"{name}@{keys.company}"


def _extras(
    row: Mapping[str, Any],
) -> tuple[Decimal | None, tuple[str, ...], tuple[Problem, ...]]:
    problems = []
    weight = None
    if row.get(WEIGHT) is not None:
        try:
            weight = Decimal(str(row[WEIGHT]))
        except InvalidOperation:
            weight = None
        if weight is None or not weight.is_finite():
            weight = None
            problems.append(Problem(WEIGHT, "invalid_number"))
    named = row.get(LOCKED_FIELDS) or ()
    words = named.split(",") if isinstance(named, str) else named
    fields = {str(word).strip().lower() for word in words} - {""}
    known = tuple(sorted(fields & set(Field)))
    if len(known) < len(fields):
        problems.append(Problem(LOCKED_FIELDS, "unknown_field"))
    return weight, known, tuple(problems)


def _resolve_changed(conn: Connection, policy: Policy, now: datetime) -> int:
    resolving = persons.Resolving(conn)
    joined = 0
    for ids in mirror.changed_contacts(conn, CHUNK):
        joined += _note(conn, resolving.join(ids))
    joined += _note(conn, resolving.merge())
    # Only now: settlements too lock persons first, and what is known of them after that.
    for person_ids in mirror.touched_persons(conn, CHUNK):
        persons.refresh_inputs(conn, person_ids)
    for ids in mirror.changed_contacts(conn, CHUNK):
        merge.remerge(conn, policy, ids, now)
    return joined


def _note(conn: Connection, resolved: persons.ResolveSummary) -> int:
    mirror.add_changed(conn, resolved.contact_ids)
    mirror.add_touched(conn, resolved.person_ids)
    return resolved.joined
