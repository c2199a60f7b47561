"""The advisory locks of the package: one number per subject, so that no two modules share one."""

from typing import Final

from sqlalchemy import Connection

from enrich_pipeline.store.statement import text

PLAN: Final = 1
PERSONS: Final = 2
MIGRATE: Final = 3
RUN: Final = 4
LOAD: Final = 5
DRAIN: Final = 6
"""Held by every process that makes calls for as long as it lives; keyed by its run."""
MARTS: Final = 7
SENDING: Final = 8
"""Shared by whoever arms a call, held by whoever waits for all of these."""
ALERTS: Final = 9
"""Held by the one process that sends alerts now."""
SLOTS: Final = 10
"""Taken for a moment by whoever shares out the slots of a provider; keyed by the provider."""


def hold(conn: Connection, lock: int, key: int = 0) -> None:
    """Wait for the lock and keep it until the transaction ends."""
    conn.execute(text("select pg_advisory_xact_lock(:class, :key)"), {"class": lock, "key": key})


def share(conn: Connection, lock: int, key: int = 0) -> None:
    """Wait while another process holds the lock, and keep it from being held; sharers do not wait.

    Who holds the lock already in this transaction does not wait for itself.
    """
    conn.execute(
        text("select pg_advisory_xact_lock_shared(:class, :key)"), {"class": lock, "key": key}
    )
