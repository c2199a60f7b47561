"""What a settlement leaves behind: line results, observations, attempts, moved enrichments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from enrich_pipeline.domain.posting import LineChange
from enrich_pipeline.providers.protocol import Item, Verdict
from enrich_pipeline.store.calls import StoredLine
from enrich_pipeline.store.person_inputs import KNOWN_BY
from enrich_pipeline.store.rows import as_json
from enrich_pipeline.store.statement import text
from enrich_pipeline.store.work import expire_unwanted, known_persons


@dataclass(frozen=True, slots=True)
class LineResult:
    """The new state of a charge line and what was said about it."""

    change: LineChange
    verdict: str | None
    reason: str | None
    cost_source: str | None


@dataclass(frozen=True, slots=True)
class Observed:
    """One reported value, ready to be stored: about whom, and which attempt it answered."""

    person_id: int
    call_id: int
    line_id: int
    attempt_id: int | None
    attribute: str
    value: str
    status: str
    confidence: str | None
    observed_at: datetime
    rejected_reason: str | None


def write_lines(conn: Connection, results: Sequence[LineResult]) -> None:
    """Moves charge lines out of `held`, `in_doubt` or `written_off`, each at most once."""
    if not results:
        return
    moved = conn.execute(
        text("""
            UPDATE enrichment.charge_lines AS l SET state = r.after, cost_micro = r.cost_micro,
                cost_usd_micro = r.cost_usd_micro, cost_source = r.cost_source,
                verdict = coalesce(r.verdict, l.verdict), reason = r.reason,
                answered_at = CASE WHEN r.verdict IS NULL THEN l.answered_at
                    ELSE clock_timestamp() END,
                settled_at = CASE WHEN r.after IN ('posted', 'released', 'written_off')
                    THEN clock_timestamp() END
            FROM jsonb_to_recordset(cast(:rows AS jsonb)) AS r(line_id bigint, before text,
                after text, cost_micro bigint, cost_usd_micro bigint, cost_source text,
                verdict text, reason text)
            WHERE l.line_id = r.line_id AND l.state = r.before
        """),
        {
            "rows": as_json(
                {
                    "line_id": r.change.line_id,
                    "before": r.change.before,
                    "after": r.change.after,
                    "cost_micro": r.change.cost_micro,
                    "cost_usd_micro": r.change.cost_usd_micro,
                    "cost_source": r.cost_source,
                    "verdict": r.verdict,
                    "reason": r.reason,
                }
                for r in results
            )
        },
    ).rowcount
    if moved != len(results):
        raise RuntimeError(f"{len(results) - moved} of {len(results)} charge lines had moved")


def write_observations(conn: Connection, provider: str, observed: Sequence[Observed]) -> None:
    """Stores reported values once per (line, attribute, value)."""
    if not observed:
        return
    conn.execute(
        text("""
            INSERT INTO enrichment.observations (person_id, attribute, value, status, confidence,
                provider, call_id, line_id, attempt_id, observed_at, rejected_reason)
            SELECT o.person_id, o.attribute, o.value, o.status, o.confidence, :provider, o.call_id,
                o.line_id, o.attempt_id, o.observed_at, o.rejected_reason
            FROM jsonb_to_recordset(cast(:rows AS jsonb)) AS o(person_id bigint, call_id bigint,
                line_id bigint, attempt_id bigint, attribute text, value text, status text,
                confidence text, observed_at timestamptz, rejected_reason text)
            ON CONFLICT (line_id, attribute, md5(value)) DO NOTHING
        """),
        {"provider": provider, "rows": as_json(observed)},
    )


class StoredAttempt(NamedTuple):
    """An attempt and where its enrichment stands."""

    attempt_id: int
    enrichment_id: int
    line_id: int
    field: str
    outcome: str
    enrichment_state: str
    is_current: bool


def attempts_of(conn: Connection, call_ids: Sequence[int]) -> list[StoredAttempt]:
    """The calls' attempts; `is_current` where the enrichment still waits for this very attempt."""
    rows = conn.execute(
        text("""
            SELECT a.attempt_id, a.enrichment_id, a.line_id, a.field, a.outcome, e.state,
                   (e.position = a.position AND e.state IN ('pending', 'in_doubt')
                    AND a.try = (SELECT max(b.try) FROM enrichment.attempts AS b
                                 WHERE b.enrichment_id = a.enrichment_id
                                   AND b.provider = a.provider
                                   AND b.outcome <> 'reused')) IS TRUE AS is_current
            FROM enrichment.attempts AS a
            JOIN enrichment.enrichments AS e USING (enrichment_id)
            WHERE a.call_id = ANY(cast(:ids AS bigint[])) ORDER BY a.attempt_id
        """),
        {"ids": list(call_ids)},
    )
    return [StoredAttempt._make(row) for row in rows.all()]


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """How an attempt ended; its cost is part of its line's cost."""

    attempt_id: int
    outcome: str
    reason: str | None = None
    is_verified: bool = False
    cost_micro: int = 0
    cost_usd_micro: int = 0


def write_attempts(conn: Connection, results: Sequence[AttemptResult]) -> None:
    """Writes outcomes and costs of attempts."""
    if not results:
        return
    conn.execute(
        text("""
            UPDATE enrichment.attempts AS a SET outcome = r.outcome, reason = r.reason,
                is_verified = r.is_verified, cost_micro = r.cost_micro,
                cost_usd_micro = r.cost_usd_micro, requested_at = c.armed_at,
                responded_at = CASE WHEN r.outcome IN ('in_doubt', 'written_off')
                    THEN a.responded_at ELSE clock_timestamp() END
            FROM jsonb_to_recordset(cast(:rows AS jsonb)) AS r(attempt_id bigint, outcome text,
                reason text, is_verified boolean, cost_micro bigint, cost_usd_micro bigint),
                enrichment.calls AS c
            WHERE a.attempt_id = r.attempt_id AND c.call_id = a.call_id
        """),
        {
            "rows": as_json(
                {
                    "attempt_id": r.attempt_id,
                    "outcome": r.outcome,
                    "reason": r.reason,
                    "is_verified": r.is_verified,
                    "cost_micro": r.cost_micro,
                    "cost_usd_micro": r.cost_usd_micro,
                }
                for r in results
            )
        },
    )


def note_requested(conn: Connection, call_ids: Sequence[int]) -> None:
    """Copies the time of arming to the attempts of accepted calls."""
    if not call_ids:
        return
    conn.execute(
        text("""
            UPDATE enrichment.attempts AS a SET requested_at = c.armed_at
            FROM enrichment.calls AS c
            WHERE c.call_id = a.call_id AND a.call_id = ANY(cast(:ids AS bigint[]))
              AND a.requested_at IS NULL
        """),
        {"ids": list(call_ids)},
    )


def finish_found(conn: Connection, enrichment_ids: Sequence[int]) -> None:
    """Closes enrichments that got an accepted answer."""
    if not enrichment_ids:
        return
    conn.execute(
        text(f"""
            UPDATE enrichment.enrichments AS e SET state = 'finished', result = 'found',
                next_provider = NULL, wait_reason = NULL, closed_at = clock_timestamp(),
                closed_identity = ({KNOWN_BY})
            WHERE enrichment_id = ANY(cast(:ids AS bigint[]))
              AND state IN ('open', 'pending', 'in_doubt')
        """),  # noqa: S608  (a fragment of our own)
        {"ids": sorted(enrichment_ids)},
    )


def booked_micro(conn: Connection, call_id: int) -> int:
    """What the lines of a call have cost so far, in micro-credits."""
    return int(
        conn.execute(
            text("""
                SELECT coalesce(sum(cost_micro), 0) FROM enrichment.charge_lines
                WHERE call_id = :call_id
            """),
            {"call_id": call_id},
        ).scalar_one()
    )


def reopen(conn: Connection, enrichment_ids: Sequence[int], reason: str) -> None:
    """Puts enrichments back to where they stood: nothing was bought."""
    if not enrichment_ids:
        return
    conn.execute(
        text("""
            UPDATE enrichment.enrichments SET state = 'open', wait_reason = :reason
            WHERE enrichment_id = ANY(cast(:ids AS bigint[])) AND state IN ('pending', 'in_doubt')
        """),
        {"ids": sorted(enrichment_ids), "reason": reason},
    )
    expire_unwanted(conn, enrichment_ids)


def doubt(conn: Connection, enrichment_ids: Sequence[int]) -> None:
    """Marks enrichments whose purchase is in doubt."""
    conn.execute(
        text("""
            UPDATE enrichment.enrichments SET state = 'in_doubt'
            WHERE enrichment_id = ANY(cast(:ids AS bigint[])) AND state = 'pending'
        """),
        {"ids": sorted(enrichment_ids)},
    )


def write_external_ids(conn: Connection, ids: Mapping[tuple[int, str], str]) -> None:
    """Keeps by which id the provider will speak of an item: (call, item key) -> id."""
    if not ids:
        return
    conn.execute(
        text("""
            UPDATE enrichment.charge_lines AS l SET external_id = i.external_id
            FROM unnest(cast(:calls AS bigint[]), cast(:keys AS text[]), cast(:ids AS text[]))
                AS i(call_id, item_key, external_id)
            WHERE l.call_id = i.call_id AND l.item_key = i.item_key
        """),
        {
            "calls": [call_id for call_id, _ in ids],
            "keys": [key for _, key in ids],
            "ids": list(ids.values()),
        },
    )


def paid_before(
    conn: Connection, provider: str, call_id: int, ids: dict[str, str]
) -> set[tuple[str, str]]:
    """(item key, product) of this call that another call paid for (item key -> provider's id)."""
    rows = conn.execute(
        text("""
            SELECT DISTINCT i.item_key, l.product
            FROM unnest(cast(:keys AS text[]), cast(:ids AS text[])) AS i(item_key, external_id)
            JOIN enrichment.charge_lines AS l USING (external_id)
            WHERE l.provider = :provider AND l.call_id <> :call_id AND l.cost_micro > 0
        """),
        {
            "provider": provider,
            "call_id": call_id,
            "keys": list(ids),
            "ids": list(ids.values()),
        },
    )
    return {(r.item_key, r.product) for r in rows}


def write_provider_ids(conn: Connection, provider: str, ids: dict[int, str]) -> None:
    """Keeps the ids by which a provider knows persons (person -> id)."""
    if not ids:
        return
    conn.execute(
        text("""
            INSERT INTO enrichment.provider_identities (person_id, provider, external_id)
            SELECT coalesce(p.merged_into, p.person_id), :provider, max(i.external_id)
            FROM unnest(cast(:persons AS bigint[]), cast(:ids AS text[]))
                AS i(person_id, external_id)
            JOIN enrichment.persons AS p USING (person_id)
            WHERE p.erased_at IS NULL
            GROUP BY 1
            ORDER BY 1
            ON CONFLICT (person_id, provider) DO UPDATE
                SET external_id = excluded.external_id, seen_at = now()
                WHERE provider_identities.external_id <> excluded.external_id
        """),
        {"provider": provider, "persons": list(ids), "ids": list(ids.values())},
    )


def remember_own_knowledge(conn: Connection, call_ids: Sequence[int]) -> None:
    """What a provider told us counts as sent to it: its own words reopen none of its misses.

    Kept with lines that are, or may become, a miss: no other goes by what was sent.
    Of a person who was merged away meanwhile it is kept with the survivor. Nobody is in two of the
    calls.
    """
    if not call_ids:
        return
    conn.execute(
        text("""
            WITH asked AS MATERIALIZED (
                SELECT * FROM (
                    SELECT l.line_id, l.provider, coalesce(m.merged_into, m.person_id) AS person_id,
                        l.verdict IS DISTINCT FROM 'found' AS may_be_a_miss,
                        bool_or(l.verdict IS DISTINCT FROM 'found') OVER (
                            PARTITION BY coalesce(m.merged_into, m.person_id)) AS has_a_miss
                    FROM enrichment.charge_lines AS l
                    JOIN enrichment.persons AS m USING (person_id)
                    WHERE l.call_id = ANY(cast(:ids AS bigint[]))) AS l
                WHERE has_a_miss
            ), told AS (
                -- By line: observations have no index by call, and are the largest table of all.
                SELECT o.person_id,
                    array_agg(DISTINCT enrichment.identity_hash(k.kind, k.value)) AS hashes
                FROM asked
                CROSS JOIN LATERAL (
                    SELECT * FROM enrichment.observations AS o
                    WHERE o.line_id = asked.line_id OFFSET 0) AS o
                CROSS JOIN LATERAL (VALUES
                    (CASE o.attribute WHEN 'work_email' THEN 'email'
                     WHEN 'linkedin_url' THEN 'linkedin'
                     WHEN 'company_domain' THEN 'company_domain' END,
                     CASE o.attribute WHEN 'linkedin_url'
                     THEN regexp_replace(o.value, '^https://www\\.linkedin\\.com/in/', '')
                     ELSE o.value END)) AS k(kind, value)
                WHERE k.kind IS NOT NULL AND o.value IS NOT NULL
                GROUP BY o.person_id
                UNION ALL
                SELECT a.person_id,
                    ARRAY[enrichment.identity_hash(a.provider || '_id', i.external_id)]
                FROM (SELECT DISTINCT person_id, provider FROM asked) AS a
                CROSS JOIN LATERAL (
                    SELECT external_id FROM enrichment.provider_identities AS i
                    WHERE (i.person_id, i.provider) = (a.person_id, a.provider) LIMIT 1) AS i
            ), gathered AS (
                SELECT person_id, array_agg(h) AS hashes FROM told, unnest(told.hashes) AS h
                GROUP BY person_id
            )
            UPDATE enrichment.charge_lines AS l SET sent_identity = array(
                SELECT DISTINCT h FROM unnest(l.sent_identity || g.hashes) AS h ORDER BY h)
            FROM asked JOIN gathered AS g USING (person_id)
            WHERE l.line_id = asked.line_id AND asked.may_be_a_miss
              AND NOT g.hashes <@ l.sent_identity
        """),
        {"ids": list(call_ids)},
    )


def write_anomalies(conn: Connection, provider: str, call_id: int, codes: Sequence[str]) -> None:
    """Keeps what was odd about a reply, by code."""
    if not codes:
        return
    conn.execute(
        text("""
            INSERT INTO enrichment.anomalies (provider, call_id, code)
            SELECT :provider, :call_id, c FROM unnest(cast(:codes AS text[])) AS c
        """),
        {"provider": provider, "call_id": call_id, "codes": list(codes)},
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """What may be kept of a person as of now, and who that person has become by merging."""

    survivor: int
    is_blocked: bool
    consents: bool


def standings(conn: Connection, person_ids: Sequence[int]) -> Mapping[int, Standing]:
    """The persons' standing; of a merged one also what was said to the survivor counts."""
    rows = conn.execute(
        text("""
            SELECT p.person_id, coalesce(p.merged_into, p.person_id) AS survivor,
                   bool_or(i.is_blocked) AS is_blocked,
                   bool_or(i.personal_email_consent) AS consent
            FROM enrichment.persons AS p
            JOIN enrichment.person_inputs AS i
              ON i.person_id IN (p.person_id, coalesce(p.merged_into, p.person_id))
            WHERE p.person_id = ANY(cast(:ids AS bigint[]))
            GROUP BY p.person_id
        """),
        {"ids": list(person_ids)},
    )
    return {
        person_id: Standing(survivor, is_blocked, consents)
        for person_id, survivor, is_blocked, consents in rows.all()
    }


def items_now(conn: Connection, lines: Sequence[StoredLine]) -> list[Item]:
    """A call's items from what is known of its persons now: what was sent is forgotten by then.

    Whoever was merged away meanwhile is known as the survivor.
    """
    rows = conn.execute(
        text("""
            SELECT person_id, coalesce(merged_into, person_id) AS survivor
            FROM enrichment.persons WHERE person_id = ANY(cast(:ids AS bigint[]))
        """),
        {"ids": [x.person_id for x in lines]},
    )
    survivors = {int(r.person_id): int(r.survivor) for r in rows}
    known = known_persons(conn, list(survivors.values()))
    products: dict[tuple[str, int], set[str]] = {}
    for line in lines:
        products.setdefault((line.item_key, line.person_id), set()).add(line.product)
    return [
        Item(key, known[survivors[person]].inputs, frozenset(bought))
        for (key, person), bought in products.items()
        if survivors.get(person) in known
    ]


def values_of_lines(conn: Connection, line_ids: Sequence[int]) -> set[tuple[int, str, str]]:
    """(line, attribute, value) already stored."""
    rows: Any = conn.execute(
        text("""
            SELECT line_id, attribute, value FROM enrichment.observations
            WHERE line_id = ANY(cast(:ids AS bigint[]))
        """),
        {"ids": list(line_ids)},
    )
    return {(int(r.line_id), r.attribute, r.value) for r in rows}


VALUES_DISCARDED = "values_discarded"
"""Why a paid line has no values: nobody may keep them. What was so then may be otherwise now."""
ANSWER_LOST = "answer_lost"
"""Of a line that a person settled as charged: paid for, and what it said will never be known."""
KNOWN_MISSES = (
    ANSWER_LOST,
    Verdict.NOT_FOUND.value,
    Verdict.FILTERED.value,
    Verdict.INVALID_INPUT.value,
    "other_person",
)
