"""Circuit breakers of providers and their products, shared by every process."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from enrich_pipeline.store.statement import text

ALL_PRODUCTS = "*"


@dataclass(frozen=True, slots=True)
class Breaker:
    """An open circuit breaker. `may_probe`: its pause is over and one call may find out."""

    product: str
    reason: str
    retry_at: datetime
    may_probe: bool


def open_breakers(conn: Connection, provider: str) -> dict[str, Breaker]:
    """Open breakers of a provider by product (`*`: all of it)."""
    rows = conn.execute(
        text("""
            SELECT product, reason, retry_at, retry_at <= clock_timestamp() AS may_probe
            FROM enrichment.provider_states WHERE provider = :provider AND opened_at IS NOT NULL
        """),
        {"provider": provider},
    )
    return {r.product: Breaker(r.product, r.reason, r.retry_at, bool(r.may_probe)) for r in rows}


@dataclass(frozen=True, slots=True)
class BreakerState:
    """A provider's breaker as operators see it; one that never failed has no row.

    `state`: closed; open: nothing is sent before `retry_at`; probing: the next call finds out.
    """

    provider: str
    product: str
    state: str
    failures: int
    reason: str | None
    opened_at: datetime | None
    retry_at: datetime | None


def breaker_states(conn: Connection) -> list[BreakerState]:
    """All breakers that ever counted a failure, by provider and product."""
    rows = conn.execute(
        text("""
            SELECT provider, product, failures, reason, opened_at, retry_at,
                   CASE WHEN opened_at IS NULL THEN 'closed'
                        WHEN retry_at <= clock_timestamp() THEN 'probing' ELSE 'open' END AS state
            FROM enrichment.provider_states ORDER BY provider, product
        """)
    )
    return [
        BreakerState(
            r.provider, r.product, r.state, int(r.failures), r.reason, r.opened_at, r.retry_at
        )
        for r in rows
    ]


def may_pass(
    conn: Connection, provider: str, products: Collection[str], probe_seconds: float
) -> bool:
    """Whether a call may be sent now. Where a breaker's pause is over, one caller is the probe."""
    rows = conn.execute(
        text("""
            SELECT retry_at <= clock_timestamp() AS may_probe FROM enrichment.provider_states
            WHERE provider = :provider AND product = ANY(cast(:products AS text[]))
              AND opened_at IS NOT NULL
            ORDER BY product FOR NO KEY UPDATE
        """),
        {"provider": provider, "products": [ALL_PRODUCTS, *products]},
    ).all()
    if not rows:
        return True
    if not all(r.may_probe for r in rows):
        return False
    conn.execute(
        text("""
            UPDATE enrichment.provider_states
            SET retry_at = clock_timestamp() + make_interval(secs => :pause)
            WHERE provider = :provider AND product = ANY(cast(:products AS text[]))
              AND opened_at IS NOT NULL
        """),
        {
            "provider": provider,
            "products": [ALL_PRODUCTS, *products],
            "pause": probe_seconds,
        },
    )
    return True


def trip(
    conn: Connection, provider: str, products: Sequence[str], reason: str, pause_seconds: float
) -> None:
    """Opens breakers: nothing is bought there until the pause is over and a probe succeeds."""
    conn.execute(
        text("""
            INSERT INTO enrichment.provider_states AS s
                (provider, product, failures, reason, opened_at, retry_at)
            SELECT :provider, p, 1, :reason, clock_timestamp(),
                   clock_timestamp() + make_interval(secs => :pause)
            FROM unnest(cast(:products AS text[])) AS p ORDER BY p
            ON CONFLICT (provider, product) DO UPDATE SET failures = s.failures + 1,
                reason = excluded.reason, opened_at = coalesce(s.opened_at, excluded.opened_at),
                retry_at = excluded.retry_at
        """),
        {
            "provider": provider,
            "products": list(products),
            "reason": reason,
            "pause": pause_seconds,
        },
    )


def count_failure(
    conn: Connection, provider: str, reason: str, *, threshold: int, pause_seconds: float
) -> None:
    """Counts a failure of the whole provider; the `threshold`-th in a row opens its breaker."""
    conn.execute(
        text("""
            INSERT INTO enrichment.provider_states AS s (provider, product, failures, reason)
            VALUES (:provider, '*', 1, :reason)
            ON CONFLICT (provider, product) DO UPDATE SET failures = s.failures + 1,
                reason = excluded.reason,
                opened_at = CASE WHEN s.failures + 1 >= :threshold
                    THEN coalesce(s.opened_at, clock_timestamp()) ELSE s.opened_at END,
                retry_at = CASE WHEN s.failures + 1 >= :threshold
                    THEN clock_timestamp() + make_interval(secs => :pause) ELSE s.retry_at END
        """),
        {
            "provider": provider,
            "reason": reason,
            "threshold": threshold,
            "pause": pause_seconds,
        },
    )


def succeeded(
    conn: Connection, provider: str, calls: Iterable[tuple[Collection[str], datetime | None]]
) -> None:
    """Calls (their products, when they were armed) went through: older breakers close.

    Failures are counted anew. What was sent before a breaker opened proves nothing about now,
    however late its answer comes.
    """
    newest: dict[str, datetime | None] = {}
    for products, armed_at in calls:
        for product in (ALL_PRODUCTS, *products):
            before = newest.get(product)
            newest[product] = max(filter(None, (before, armed_at)), default=None)
    conn.execute(
        text("""
            WITH over AS (
                SELECT s.product FROM enrichment.provider_states AS s
                JOIN unnest(cast(:products AS text[]), cast(:armed AS timestamptz[]))
                    AS w(product, armed_at) USING (product)
                WHERE s.provider = :provider AND (s.failures > 0 OR s.opened_at IS NOT NULL)
                  AND (s.opened_at IS NULL OR s.opened_at < w.armed_at)
                ORDER BY s.product FOR NO KEY UPDATE OF s
            )
            UPDATE enrichment.provider_states AS s SET failures = 0, reason = NULL,
                opened_at = NULL, retry_at = NULL
            FROM over WHERE s.provider = :provider AND s.product = over.product
        """),
        {"provider": provider, "products": list(newest), "armed": list(newest.values())},
    )
