"""What a reply means for other calls to its provider: a pause, or a breaker that opens."""

from sqlalchemy import Connection

from enrich_pipeline.providers.protocol import Disposition, Reply
from enrich_pipeline.store import breakers, calls, rate_limits

FAILURES_TO_OPEN = 5
"""How many failures in a row open a breaker."""

PAUSE_SECONDS = 300.0
"""How long a breaker stays open after repeated failures."""

CREDITS_PAUSE_SECONDS = 1800.0
"""How long a product is left alone after its provider ran out of credits or refused the account."""

RATE_LIMITED = "rate_limited"
LONGEST_WAIT_SECONDS = 60.0
"""A provider that wants to be left alone for longer is left to a later drain."""


def after_refusal(conn: Connection, stored: calls.StoredCall, reply: Reply) -> None:
    """What a refusal means for other calls to this provider."""
    products = sorted({p for item in stored.items for p in item.products})
    match reply.disposition:
        case Disposition.THROTTLED:
            pause = min(reply.retry_after or 1.0, 3600.0)
            if pause <= LONGEST_WAIT_SECONDS:
                rate_limits.block(conn, stored.provider, pause)
            else:
                everything = [breakers.ALL_PRODUCTS]
                breakers.trip(conn, stored.provider, everything, RATE_LIMITED, pause)
        case Disposition.TRANSIENT:
            count_failure(conn, stored, reply.reason or "transient")
        case Disposition.NO_CREDITS:
            breakers.trip(conn, stored.provider, products, "no_credits", CREDITS_PAUSE_SECONDS)
        case Disposition.REFUSED:
            reason = reply.reason or "refused"
            breakers.trip(conn, stored.provider, products, reason, CREDITS_PAUSE_SECONDS)
        case Disposition.UNAUTHORIZED:
            breakers.trip(
                conn,
                stored.provider,
                [breakers.ALL_PRODUCTS],
                "unauthorized",
                CREDITS_PAUSE_SECONDS,
            )
        case _:
            pass


def count_failure(conn: Connection, stored: calls.StoredCall, reason: str) -> None:
    """Notes one of the failures that open a breaker together."""
    breakers.count_failure(
        conn,
        stored.provider,
        reason,
        threshold=FAILURES_TO_OPEN,
        pause_seconds=PAUSE_SECONDS,
    )
