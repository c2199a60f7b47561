"""What the planner knows of tables that have just grown."""

from sqlalchemy import Connection, text

_FROM = 1_000
"""New rows from which plans that do not know of them go wrong."""


def analyze(conn: Connection, new_rows: int, *tables: str) -> None:
    """Has PostgreSQL look at tables (with their schema) that got `new_rows`, if that is many.

    Autovacuum comes a minute later, and sees nothing of a transaction under way. Resolving the
    first 5,000 contacts took 6 s with the statistics of empty tables, 0.2 s with these.
    """
    if new_rows >= _FROM:
        conn.execute(text(f"analyze {', '.join(tables)}"))
