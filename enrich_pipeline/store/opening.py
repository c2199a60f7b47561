"""Opening: every planned row gets its enrichment, or the answer that came since it was planned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from sqlalchemy import Connection, text

from enrich_pipeline.domain.enrichment import Field
from enrich_pipeline.store import work
from enrich_pipeline.store.rows import as_json


@dataclass(frozen=True, slots=True)
class Opened:
    """What the first stage of a run did, in (person, field)."""

    opened: int
    reused: int
    blocked: int


def open_enrichments(
    conn: Connection,
    day: date,
    batch: int,
    waterfalls: Mapping[Field, Sequence[str]],
    run_id: str,
) -> Opened:
    """Gives every waiting plan row its enrichment, or the answer that came since it was planned.

    Rows of persons who must not be enriched are closed as blocked. A row whose (person, field) was
    closed by somebody else after it was planned is answered by that and costs nothing.
    """
    scope = {"day": day, "batch": batch, "run_id": run_id}
    # Rows of many persons are changed at once: two who do that wait here, not for each other.
    work.lock_waiting(conn, day, batch)
    # Each row is looked up by person. On a first night the planner knows of empty tables only, and
    # would read through what other batches have filled them with meanwhile, once for every row.
    conn.execute(text("SET LOCAL enable_seqscan = off"))
    blocked = conn.execute(
        text("""
            WITH closed AS (
                UPDATE enrichment.plan_rows AS r
                SET state = 'blocked', closed_at = clock_timestamp()
                FROM enrichment.person_inputs AS i
                WHERE r.partition_date = :day AND r.batch = :batch AND r.state = 'waiting'
                  AND i.person_id = r.person_id AND i.is_blocked
                RETURNING r.person_id, r.field, coalesce(i.blocked_reason, 'suppressed') AS reason
            ), expired AS (
                UPDATE enrichment.enrichments AS e
                SET state = 'expired', next_provider = NULL, wait_reason = NULL,
                    closed_at = clock_timestamp()
                WHERE e.state = 'open' AND (
                    (e.person_id, e.field) IN (SELECT person_id, field FROM closed)
                    -- Of rows closed before: it was in flight when its person was blocked.
                    OR (e.partition_date = :day AND e.batch = :batch AND EXISTS (
                        SELECT 1 FROM enrichment.person_inputs AS i
                        WHERE i.person_id = e.person_id AND i.is_blocked)))
            )
            INSERT INTO enrichment.skips (partition_date, person_id, field, provider, reason)
            SELECT DISTINCT :day, person_id, field, '*', reason FROM closed
            ON CONFLICT (partition_date, person_id, field, provider) DO NOTHING
        """),
        scope,
    ).rowcount
    reused = conn.execute(
        text("""
            WITH answered AS (
                SELECT r.person_id, r.field, min(r.planned_at) AS planned_at
                FROM enrichment.plan_rows AS r
                WHERE r.partition_date = :day AND r.batch = :batch AND r.state = 'waiting'
                GROUP BY r.person_id, r.field
            ), closed AS (
                SELECT a.person_id, a.field, latest.*
                FROM answered AS a
                CROSS JOIN LATERAL (
                    SELECT e.enrichment_id, e.result, e.position
                    FROM enrichment.enrichments AS e
                    WHERE e.field = a.field AND e.person_id = ANY(ARRAY(
                        SELECT a.person_id
                        UNION ALL
                        SELECT p.person_id FROM enrichment.persons AS p
                        WHERE p.merged_into = a.person_id))
                      AND e.closed_at >= a.planned_at AND e.state = 'finished'
                      AND (e.partition_date <> :day OR e.person_id <> a.person_id)
                    ORDER BY e.closed_at DESC LIMIT 1) AS latest
                WHERE NOT EXISTS (
                    SELECT 1 FROM enrichment.enrichments AS live
                    WHERE (live.person_id, live.field) = (a.person_id, a.field)
                      AND live.state IN ('open', 'pending', 'in_doubt'))
            ), noted AS (
                INSERT INTO enrichment.attempts (enrichment_id, person_id, field, provider, try,
                    position, line_id, outcome, responded_at, partition_date, batch, run_id)
                SELECT c.enrichment_id, c.person_id, c.field, won.provider, 1, won.position,
                       won.line_id, 'reused', clock_timestamp(), :day, :batch, :run_id
                FROM closed AS c
                JOIN LATERAL (
                    SELECT t.provider, t.position, t.line_id FROM enrichment.attempts AS t
                    WHERE t.enrichment_id = c.enrichment_id AND t.outcome IN ('found', 'reused')
                    ORDER BY t.attempt_id DESC LIMIT 1) AS won ON true
                ON CONFLICT (partition_date, person_id, field) WHERE outcome = 'reused' DO NOTHING
            )
            UPDATE enrichment.plan_rows AS r
            SET state = CASE WHEN c.result = 'found' THEN 'reused' ELSE 'done' END,
                closed_at = clock_timestamp()
            FROM closed AS c
            WHERE r.partition_date = :day AND r.batch = :batch AND r.state = 'waiting'
              AND (r.person_id, r.field) = (c.person_id, c.field)
        """),
        scope,
    ).rowcount
    # Opened while the nights had another number of batches: it is this batch that comes by.
    conn.execute(
        text("""
            UPDATE enrichment.enrichments AS e SET batch = :batch
            FROM enrichment.plan_rows AS r
            WHERE r.partition_date = :day AND r.batch = :batch AND r.state = 'waiting'
              AND (e.person_id, e.field) = (r.person_id, r.field)
              AND e.state IN ('open', 'pending', 'in_doubt') AND e.batch <> :batch
        """),
        scope,
    )
    opened = conn.execute(
        text("""
            WITH asked AS (
                SELECT r.person_id, r.field,
                       min(min(r.rank)) OVER (PARTITION BY r.person_id) AS rank,
                       min(r.planned_at) AS planned_at
                FROM enrichment.plan_rows AS r
                WHERE r.partition_date = :day AND r.batch = :batch AND r.state = 'waiting'
                GROUP BY r.person_id, r.field
            ), waterfalls AS (
                SELECT w.field, array(SELECT jsonb_array_elements_text(w.providers)) AS providers
                FROM jsonb_to_recordset(cast(:waterfalls AS jsonb))
                    AS w(field text, providers jsonb)
            )
            INSERT INTO enrichment.enrichments (person_id, field, cycle, waterfall, next_provider,
                partition_date, batch, rank)
            SELECT a.person_id, a.field, 1 + coalesce(
                       (SELECT max(e.cycle) FROM enrichment.enrichments AS e
                        WHERE (e.person_id, e.field) = (a.person_id, a.field)), 0),
                   w.providers, w.providers[1], :day, :batch, a.rank
            FROM asked AS a
            JOIN waterfalls AS w ON w.field = a.field AND cardinality(w.providers) > 0
            LEFT JOIN LATERAL (
                -- A person merged into this one finishes under its own calls and answers for both.
                SELECT e.state, e.closed_at FROM enrichment.enrichments AS e
                WHERE e.field = a.field AND e.person_id = ANY(ARRAY(
                    SELECT a.person_id
                    UNION ALL
                    SELECT p.person_id FROM enrichment.persons AS p
                    WHERE p.merged_into = a.person_id))
                ORDER BY e.state IN ('open', 'pending', 'in_doubt') DESC, e.closed_at DESC
                LIMIT 1) AS latest ON true
            WHERE latest.state IS NULL
               OR (latest.state NOT IN ('open', 'pending', 'in_doubt')
                   AND latest.closed_at < a.planned_at)
            ON CONFLICT DO NOTHING
        """),
        scope
        | {
            "waterfalls": as_json(
                {"field": field, "providers": list(order)} for field, order in waterfalls.items()
            )
        },
    ).rowcount
    return Opened(opened=opened, reused=reused, blocked=blocked)
