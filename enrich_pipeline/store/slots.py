"""How many calls each run may have under way at a provider: all of them share its concurrency."""

from zlib import crc32

from sqlalchemy import Connection

from enrich_pipeline.store import locks
from enrich_pipeline.store.statement import text

LEASE_SECONDS = 5.0
"""A run that was not heard of for so long has no calls under way any more; a dead one neither."""


def share(conn: Connection, provider: str, run_key: int, wanted: int, limit: int) -> int:
    """Takes up to `wanted` of the provider's `limit` slots, and keeps them for `LEASE_SECONDS`.

    Call it again to keep them. What is free is given to whoever asks; while another run has less
    than it wants, nobody keeps more than an equal share. Returns 0 while all are taken: the others
    shrink when they next ask.
    """
    locks.hold(conn, locks.SLOTS, crc32(provider.encode()) >> 1)
    conn.execute(
        text("""
            DELETE FROM enrichment.provider_slots
            WHERE provider = :provider AND run_key <> :run_key AND (
                lease_until < clock_timestamp() OR NOT EXISTS (
                    SELECT 1 FROM pg_locks AS l
                    WHERE l.locktype = 'advisory' AND l.classid = :drain
                      AND l.objid = cast(cast(run_key AS bigint) & 4294967295 AS oid)
                      AND l.granted AND l.database = (
                          SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())))
        """),
        {"provider": provider, "run_key": run_key, "drain": locks.DRAIN},
    )
    others = conn.execute(
        text("""
            WITH others AS (
                SELECT slots, wanted, count(*) OVER () AS runs FROM enrichment.provider_slots
                WHERE provider = :provider AND run_key <> :run_key
            )
            SELECT count(*) AS runs, coalesce(sum(slots), 0) AS taken,
                   coalesce(bool_or(slots < least(wanted, greatest(1, :limit / (runs + 1)))),
                            false) AS starved
            FROM others
        """),
        {"provider": provider, "run_key": run_key, "limit": limit},
    ).one()
    slots = max(0, min(wanted, limit - int(others.taken)))
    if others.starved:
        slots = min(slots, max(1, limit // (int(others.runs) + 1)))
    conn.execute(
        text("""
            INSERT INTO enrichment.provider_slots (provider, run_key, slots, wanted, lease_until)
            VALUES (:provider, :run_key, :slots, :wanted,
                    clock_timestamp() + make_interval(secs => :lease))
            ON CONFLICT (provider, run_key) DO UPDATE SET slots = excluded.slots,
                wanted = excluded.wanted, lease_until = excluded.lease_until
        """),
        {
            "provider": provider,
            "run_key": run_key,
            "slots": slots,
            "wanted": wanted,
            "lease": LEASE_SECONDS,
        },
    )
    return slots


def give_up(conn: Connection, provider: str, run_key: int) -> None:
    """Frees the slots of a run whose stage is over."""
    conn.execute(
        text("DELETE FROM enrichment.provider_slots WHERE provider = :provider AND run_key = :run"),
        {"provider": provider, "run": run_key},
    )
