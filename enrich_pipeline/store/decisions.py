"""What people decide about single contacts: values that stay, persons never to be enriched.

Each decision is a row; what follows from it for persons and contacts is worked out by the modules
that own those (`person_inputs`, `merge`), which the caller asks to.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, text

from enrich_pipeline.store.carriers import CARRIERS
from enrich_pipeline.store.rows import as_json


def known_contacts(conn: Connection, contact_ids: Sequence[str]) -> frozenset[str]:
    """Those of the ids that are contacts."""
    rows = conn.execute(
        text("""
            select contact_id from enrichment.contacts
            where contact_id = any(cast(:ids as text[]))
        """),
        {"ids": list(contact_ids)},
    )
    return frozenset(row.contact_id for row in rows)


def lock_value(conn: Connection, contact_id: str, field: str, reason: str) -> bool:
    """Keep the CRM's own value of a contact's field; False when it was locked already."""
    return (
        conn.execute(
            text("""
                insert into enrichment.value_locks (contact_id, field, reason)
                values (:contact_id, :field, :reason)
                on conflict (contact_id, field) do nothing
            """),
            {"contact_id": contact_id, "field": field, "reason": reason},
        ).rowcount
        == 1
    )


def unlock_value(conn: Connection, contact_id: str, field: str) -> bool:
    """Let a contact's field be enriched again; False when it was not locked."""
    return (
        conn.execute(
            text("""
                delete from enrichment.value_locks
                where contact_id = :contact_id and field = :field
            """),
            {"contact_id": contact_id, "field": field},
        ).rowcount
        == 1
    )


def suppress(conn: Connection, identifiers: Sequence[tuple[str, str]], reason: str) -> int:
    """Never enrich whoever carries one of these (kind, value); how many are new on the list.

    Kept as keyed hashes, so that the list itself tells nobody who is on it.
    """
    return conn.execute(
        text("""
            insert into enrichment.suppressions (hash, reason)
            select distinct enrichment.identity_hash(kind, value), :reason
            from jsonb_to_recordset(cast(:identifiers as jsonb)) as i(kind text, value text)
            on conflict (hash) do nothing
        """),
        {"identifiers": _json(identifiers), "reason": reason},
    ).rowcount


def any_suppressed(conn: Connection) -> bool:
    """Whether anybody is on the list at all."""
    return bool(
        conn.execute(text("select exists (select from enrichment.suppressions)")).scalar_one()
    )


def contacts_of(conn: Connection, identifiers: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Every contact of the persons who carry one of these (kind, value), with its person."""
    rows = conn.execute(
        text(f"""
            with {CARRIERS}
            select contact_id, person_id
            from survivors join enrichment.contacts using (person_id)
            order by contact_id
        """),  # noqa: S608  (a fragment of our own)
        {"identifiers": _json(identifiers)},
    )
    return {row.contact_id: int(row.person_id) for row in rows}


def _json(identifiers: Sequence[tuple[str, str]]) -> str:
    return as_json({"kind": kind, "value": value} for kind, value in identifiers)
