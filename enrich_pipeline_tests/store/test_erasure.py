"""Rules of an erasure's statements: what they cost does not grow with the tables."""

from sqlalchemy import Engine

from enrich_pipeline.store import erasure
from enrich_pipeline.store.tombstones import Identifier

from ..bench import warehouse
from ..support.plans import explained

SMALL = frozenset(
    {"secrets", "suppressions", "person_splits", "suspected_duplicates", "plan_nights", "erasures"}
)
"""Tables that stay small, however many persons there are."""
FEW = frozenset({"inbox_strangers"})
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


def test_an_erasure_never_reads_a_table_that_grows_as_a_whole(engine: Engine) -> None:
    warehouse.fill(engine, contacts=2_000, observations=20_000)
    with engine.begin() as conn:
        for statement in MORE:
            conn.exec_driver_sql(statement)
    for identifier in BY:
        with engine.connect() as conn, explained(conn, SMALL, FEW) as whole:
            persons = erasure.find(conn, [identifier])
            receipt = erasure.erase(conn, persons, [identifier], warehouse.NOW).receipt
        assert (receipt.persons, receipt.contacts) == (1, 2), identifier
        assert receipt.rows["enrichment.observations"] >= 9, identifier
        assert not whole, "\n".join(whole)
