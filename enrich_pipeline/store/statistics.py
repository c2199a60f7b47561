"""What the planner knows: of tables that have just grown, of the values that a statement has."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text

from enrich_pipeline.store.contacts import driver

_FROM = 1_000
"""New rows from which plans that do not know of them go wrong."""


def analyze(conn: Connection, new_rows: int, *tables: str) -> None:
    """Has PostgreSQL look at tables (with their schema) that got `new_rows`, if that is many.

    Autovacuum comes a minute later, and sees nothing of a transaction under way. Resolving the
    first 5,000 contacts took 6 s with the statistics of empty tables, 0.2 s with these.
    """
    if new_rows >= _FROM:
        conn.execute(text(f"analyze {', '.join(tables)}"))


@contextmanager
def planned_anew(conn: Connection) -> Iterator[None]:
    """Have every statement of the block planned for the values that it is sent with.

    For lists of thousands: a plan that is made once for all lists takes each for ten, and loops.
    The server's `plan_cache_mode` would plan what is checked or called for each row anew as well:
    it made resolving persons twice as slow.
    """
    own = driver(conn)
    threshold, own.prepare_threshold = own.prepare_threshold, None
    try:
        yield
    finally:
        own.prepare_threshold = threshold
