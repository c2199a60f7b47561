"""Meeting others at a lock."""

import time

from sqlalchemy import Engine, text

_WAITING = text(
    "select count(*) from pg_stat_activity "
    "where datname = current_database() and wait_event_type = 'Lock'"
)


def until_somebody_waits(engine: Engine) -> None:
    """Returns as soon as a session of this database waits for a lock."""
    deadline = time.monotonic() + 30
    with engine.connect() as conn:
        while not conn.execute(_WAITING).scalar_one():
            assert time.monotonic() < deadline
            # What the statistics say stays the same within a transaction.
            conn.rollback()
            time.sleep(0.01)
