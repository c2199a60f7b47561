"""Who was erased: recognized by keyed hashes, so that no load brings the person back.

What else follows from being on the list of suppressions is `store/person_inputs.py`; how a person
gets onto it is `store/decisions.py` and `store/erasure.py`.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import Connection, text

from enrich_pipeline.store.rows import as_json

ERASED = "erased"
"""Why a row was not loaded."""

Identifier = tuple[str, str]
"""(kind, value), kinds as in `enrichment.suppressions`; normalized."""


@dataclass(frozen=True, slots=True)
class Tombstones:
    """The hashes of those who were erased, as of when they were read."""

    hashes: frozenset[str]
    secret: bytes = field(repr=False)

    def recognize(self, identifiers: Iterable[Identifier]) -> bool:
        """Whether one of the identifiers is that of somebody who was erased."""
        if not self.hashes:
            return False
        return any(_hash(self.secret, *identifier) in self.hashes for identifier in identifiers)


def read(conn: Connection) -> Tombstones:
    """All of them: some ten bytes each, asked for every row of a load."""
    hashes = conn.execute(
        text("select hash from enrichment.suppressions where is_erased")
    ).scalars()
    secret = conn.execute(
        text("select value from enrichment.secrets where name = 'identity'")
    ).scalar_one()
    return Tombstones(frozenset(hashes), bytes(secret))


def put(conn: Connection, identifiers: Iterable[Identifier]) -> int:
    """Keep whoever carries one of these out for ever; returns how many hashes are new."""
    return conn.execute(
        text("""
            insert into enrichment.suppressions as old (hash, reason, is_erased)
            select distinct enrichment.identity_hash(kind, value), 'erased', true
            from jsonb_to_recordset(cast(:identifiers as jsonb)) as i(kind text, value text)
            on conflict (hash) do update set reason = excluded.reason, is_erased = true
            where not old.is_erased
        """),
        {"identifiers": as_json({"kind": kind, "value": value} for kind, value in identifiers)},
    ).rowcount


def _hash(secret: bytes, kind: str, value: str) -> str:
    """What `enrichment.identity_hash` says."""
    digest = hashlib.sha256(secret + f"{kind}:{value}".encode())
    return f"{kind}:{digest.hexdigest()[:24]}"
