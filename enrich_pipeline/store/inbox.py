"""The webhook inbox: deliveries as they came, kept before anybody reads them."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from sqlalchemy import Connection

from enrich_pipeline.store.statement import text

MAX_STRANGERS = 1_000
"""Deliveries under tokens of no call that are kept: bounds what guessing can make us store."""
MAX_PER_CALL = 2_000
"""Different deliveries kept per call: many times what any provider sends for its largest one."""
UNKNOWN = "unknown_token"

Key = tuple[str, bytes, bytes]
"""What makes a delivery itself: provider, hash of its token, hash of its body."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One delivery as it came. The token itself is never kept."""

    provider: str
    token_hash: bytes
    body: bytes

    @property
    def key(self) -> Key:
        return self.provider, self.token_hash, hashlib.sha256(self.body).digest()


def put_all(conn: Connection, arrivals: Sequence[Arrival]) -> Counter[Key]:
    """Keeps new deliveries; returns those that were there before, with how often they came now.

    A call's token is stored before its request leaves, so whose token is unknown is a stranger: set
    aside at once, without effect for ever. Waits for no lock on a row, whatever is being applied.
    """
    came = Counter(arrival.key for arrival in arrivals)
    bodies = {arrival.key: arrival.body for arrival in arrivals}
    rows = conn.execute(
        text("""
            WITH arrived AS (
                SELECT * FROM unnest(
                    cast(:providers AS text[]), cast(:tokens AS bytea[]),
                    cast(:digests AS bytea[]), cast(:bodies AS bytea[])
                ) AS a(provider, token_hash, body_sha256, body)
            ), told AS (
                -- LIMIT keeps these look-ups in the indexes: as EXISTS they were hashed, by reading
                -- the whole inbox for every commit.
                SELECT a.*, c.call_id IS NOT NULL AS is_known,
                    i.delivery_id IS NOT NULL AS is_repeated
                FROM arrived AS a
                LEFT JOIN LATERAL (
                    SELECT k.call_id FROM enrichment.calls AS k
                    WHERE k.token_hash = a.token_hash AND k.provider = a.provider LIMIT 1
                ) AS c ON true
                LEFT JOIN LATERAL (
                    SELECT k.delivery_id FROM enrichment.inbox AS k
                    WHERE k.provider = a.provider AND k.token_hash = a.token_hash
                      AND k.body_sha256 = a.body_sha256 LIMIT 1
                ) AS i ON true
            ), fresh AS (
                SELECT t.*, row_number() OVER (
                    PARTITION BY t.is_known, CASE WHEN t.is_known THEN t.token_hash END) AS place
                FROM told AS t WHERE NOT t.is_repeated
            ), stored AS (
                INSERT INTO enrichment.inbox
                    (provider, token_hash, body, body_sha256, state, reason, applied_at)
                SELECT f.provider, f.token_hash, f.body, f.body_sha256,
                    CASE WHEN f.is_known THEN 'new' ELSE 'quarantined' END,
                    CASE WHEN NOT f.is_known THEN :unknown END,
                    CASE WHEN NOT f.is_known THEN clock_timestamp() END
                FROM fresh AS f
                WHERE f.place <= CASE WHEN f.is_known
                    THEN :per_call - (
                        SELECT count(*) FROM enrichment.inbox AS i
                        WHERE i.provider = f.provider AND i.token_hash = f.token_hash)
                    ELSE :strangers - (
                        SELECT count(*) FROM enrichment.inbox AS i WHERE i.reason = 'unknown_token')
                    END
                -- Two receivers may be told the same in another order, and wait for each other.
                ORDER BY f.provider, f.token_hash, f.body_sha256
                ON CONFLICT DO NOTHING
            )
            SELECT t.provider, t.token_hash, t.body_sha256 FROM told AS t WHERE t.is_repeated
        """),
        {
            "providers": [provider for provider, _, _ in came],
            "tokens": [token_hash for _, token_hash, _ in came],
            "digests": [digest for _, _, digest in came],
            "bodies": [bodies[key] for key in came],
            "unknown": UNKNOWN,
            "per_call": MAX_PER_CALL,
            "strangers": MAX_STRANGERS,
        },
    )
    repeated = {(r.provider, bytes(r.token_hash), bytes(r.body_sha256)) for r in rows}
    return Counter({key: n - (key not in repeated) for key, n in came.items()}) + Counter()


def count_repetitions(conn: Connection, repetitions: Mapping[Key, int]) -> None:
    """Notes how often known deliveries came again; waits where one of them is being applied.

    Locks them in the order of their numbers, as `mark` does: both are about several at a time.
    """
    keys = list(repetitions)
    conn.execute(
        text("""
            WITH again AS MATERIALIZED (
                SELECT i.delivery_id, r.times
                FROM unnest(
                    cast(:providers AS text[]), cast(:tokens AS bytea[]),
                    cast(:digests AS bytea[]), cast(:times AS integer[])
                ) AS r(provider, token_hash, body_sha256, times)
                JOIN enrichment.inbox AS i USING (provider, token_hash, body_sha256)
                ORDER BY i.delivery_id FOR NO KEY UPDATE OF i
            )
            UPDATE enrichment.inbox AS i SET deliveries = i.deliveries + a.times
            FROM again AS a WHERE i.delivery_id = a.delivery_id
        """),
        {
            "providers": [provider for provider, _, _ in keys],
            "tokens": [token_hash for _, token_hash, _ in keys],
            "digests": [digest for _, _, digest in keys],
            "times": [repetitions[key] for key in keys],
        },
    )


def expect_probe(conn: Connection, nonce: str) -> None:
    """Announces a probe of the receiver: only announced ones leave a trace. Forgets old ones."""
    conn.execute(
        text("DELETE FROM enrichment.receiver_probes WHERE sent_at < now() - interval '1 hour'")
    )
    conn.execute(
        text("INSERT INTO enrichment.receiver_probes (nonce) VALUES (:nonce)"), {"nonce": nonce}
    )


def note_probe(conn: Connection, nonce: str) -> None:
    """Notes that an announced probe arrived."""
    conn.execute(
        text("""
            UPDATE enrichment.receiver_probes SET received_at = clock_timestamp()
            WHERE nonce = :nonce AND received_at IS NULL
        """),
        {"nonce": nonce},
    )


def has_probe(conn: Connection, nonce: str) -> bool:
    """Whether a probe has arrived."""
    return bool(
        conn.execute(
            text("""
                SELECT EXISTS (
                    SELECT 1 FROM enrichment.receiver_probes
                    WHERE nonce = :nonce AND received_at IS NOT NULL)
            """),
            {"nonce": nonce},
        ).scalar_one()
    )


@dataclass(frozen=True, slots=True)
class Delivery:
    """One new delivery."""

    delivery_id: int
    call_id: int
    body: bytes


def calls_with_news(
    conn: Connection,
    *,
    provider: str | None = None,
    day: date | None = None,
    batch: int | None = None,
) -> list[tuple[int, str]]:
    """(call_id, provider) of the calls to which new deliveries belong."""
    rows = conn.execute(
        text("""
            SELECT DISTINCT c.call_id, c.provider
            FROM enrichment.inbox AS i
            JOIN enrichment.calls AS c ON c.token_hash = i.token_hash AND c.provider = i.provider
            WHERE i.state = 'new'
              AND (cast(:provider AS text) IS NULL OR c.provider = :provider)
              AND (cast(:day AS date) IS NULL OR c.partition_date = :day)
              AND (cast(:batch AS smallint) IS NULL OR c.batch = :batch)
            ORDER BY c.call_id
        """),
        {"provider": provider, "day": day, "batch": batch},
    )
    return [(int(r.call_id), r.provider) for r in rows]


def news_of(conn: Connection, call_ids: Sequence[int]) -> list[Delivery]:
    """New deliveries of these calls, oldest first.

    Whoever applies them holds the locks of the calls; the rows stay free for the receiver.
    """
    rows = conn.execute(
        text("""
            SELECT i.delivery_id, c.call_id, i.body FROM enrichment.inbox AS i
            JOIN enrichment.calls AS c ON c.token_hash = i.token_hash AND c.provider = i.provider
            WHERE c.call_id = ANY(cast(:ids AS bigint[])) AND i.state = 'new'
            ORDER BY i.delivery_id
        """),
        {"ids": list(call_ids)},
    )
    return [Delivery(int(r.delivery_id), int(r.call_id), bytes(r.body or b"")) for r in rows]


def mark(conn: Connection, states: dict[int, tuple[str, str | None]]) -> None:
    """Notes what became of deliveries: delivery -> (state, reason).

    A body goes where somebody whom it may be about was erased; its hash still tells a repetition.
    The deliveries are locked in the order of their numbers: the receiver counts repetitions.
    """
    if not states:
        return
    conn.execute(
        text("""
            WITH said AS MATERIALIZED (
                SELECT i.delivery_id, s.state, s.reason
                FROM unnest(
                    cast(:ids AS bigint[]), cast(:states AS text[]), cast(:reasons AS text[])
                ) AS s(delivery_id, state, reason)
                JOIN enrichment.inbox AS i USING (delivery_id)
                ORDER BY i.delivery_id FOR NO KEY UPDATE OF i
            )
            UPDATE enrichment.inbox AS i SET state = s.state, reason = s.reason,
                applied_at = clock_timestamp(),
                body = CASE WHEN NOT EXISTS (
                    SELECT 1 FROM enrichment.calls AS c
                    WHERE c.token_hash = i.token_hash AND c.erased_at IS NOT NULL) THEN i.body END
            FROM said AS s WHERE i.delivery_id = s.delivery_id
        """),
        {
            "ids": list(states),
            "states": [state for state, _ in states.values()],
            "reasons": [reason for _, reason in states.values()],
        },
    )
