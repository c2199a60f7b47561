"""Replies, kept verbatim before anybody reads them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from enrich_pipeline.store.rows import as_json
from enrich_pipeline.store.statement import text


def store(conn: Connection, call_id: int, settlement: str, responses: str, digest: bytes) -> None:
    """Keeps a reply verbatim, before anybody reads it. `responses` is JSON."""
    conn.execute(
        text("""
            WITH kept AS (
                INSERT INTO enrichment.replies (call_id, settlement, responses, body_sha256)
                VALUES (:call_id, :settlement, cast(:responses AS jsonb), :digest)
                ON CONFLICT (call_id, settlement) DO NOTHING
            )
            UPDATE enrichment.calls SET
                state = CASE state WHEN 'sending' THEN 'responded' ELSE state END,
                responded_at = coalesce(responded_at, clock_timestamp())
            WHERE call_id = :call_id
        """),
        {
            "call_id": call_id,
            "settlement": settlement,
            "responses": responses,
            "digest": digest,
        },
    )


def encode(responses: Sequence[tuple[int, Mapping[str, str], bytes, bool]]) -> str:
    """Responses as JSON that keeps every byte."""
    return json.dumps(
        [
            {"status": status, "headers": dict(headers), "body": body.hex(), "truncated": truncated}
            for status, headers, body, truncated in responses
        ]
    )


@dataclass(frozen=True, slots=True)
class StoredReply:
    """A kept reply; `responses` as `store` got it."""

    call_id: int
    settlement: str
    responses: list[dict[str, Any]]


def calls_with_unread(conn: Connection, run_id: str | None) -> list[int]:
    """Calls with a kept reply that nobody applied: their process died, or slept past its lease.

    Those of one run, or of all.
    """
    rows = conn.execute(
        text("""
            SELECT DISTINCT call_id
            FROM enrichment.replies AS r JOIN enrichment.calls AS c USING (call_id)
            WHERE r.applied_at IS NULL AND (cast(:run_id AS text) IS NULL OR c.run_id = :run_id)
            ORDER BY call_id
        """),
        {"run_id": run_id},
    )
    return [int(r.call_id) for r in rows]


def unread(conn: Connection, call_ids: Sequence[int]) -> list[StoredReply]:
    """Replies to these calls that were kept and not yet applied, oldest first."""
    rows = conn.execute(
        text("""
            SELECT call_id, settlement, responses FROM enrichment.replies
            WHERE call_id = ANY(cast(:ids AS bigint[])) AND applied_at IS NULL ORDER BY reply_id
        """),
        {"ids": list(call_ids)},
    )
    return [StoredReply(int(r.call_id), r.settlement, r.responses) for r in rows]


def mark_read(conn: Connection, read: Mapping[tuple[int, str], Sequence[str]]) -> None:
    """Notes that kept replies were applied: (call, settlement) -> what was odd about it.

    The reply itself goes where somebody whom it may be about was erased.
    """
    conn.execute(
        text("""
            UPDATE enrichment.replies AS r SET applied_at = clock_timestamp(),
                anomalies = a.anomalies,
                responses = CASE WHEN c.erased_at IS NULL THEN r.responses END
            FROM jsonb_to_recordset(cast(:rows AS jsonb))
                AS a(call_id bigint, settlement text, anomalies text[]), enrichment.calls AS c
            WHERE r.call_id = a.call_id AND r.settlement = a.settlement AND c.call_id = r.call_id
        """),
        {
            "rows": as_json(
                {"call_id": call_id, "settlement": settlement, "anomalies": list(anomalies)}
                for (call_id, settlement), anomalies in read.items()
            )
        },
    )
