"""Work: finding what a provider should be asked next, moving on what is done there.

A claim is safe against every other process because it locks the person's row first and because the
predicate of the claim (`state = 'open'`) is on the very row that the claim changes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Connection

from enrich_pipeline.domain.enrichment import Field, ValueStatus
from enrich_pipeline.providers.protocol import Datapoint, PersonInputs
from enrich_pipeline.store.person_inputs import KNOWN_BY
from enrich_pipeline.store.rows import as_json
from enrich_pipeline.store.statement import text

_REACH = 5_000
"""Open fields that are looked through for whoever works ahead.

Through all of them such a look took its 3 % of every stage's time: of 300,000 contacts it was the
third largest part of what PostgreSQL did.
"""


@dataclass(frozen=True, slots=True)
class OpenField:
    """An open enrichment that stands at the provider which is being asked."""

    enrichment_id: int
    person_id: int
    field: Field
    position: int
    rank: int
    answered_line: int | None = None
    """What settled the same search of a person who has become one with this one meanwhile."""


@dataclass(frozen=True, slots=True)
class KnownPerson:
    """What may be sent of a person, and what forbids it."""

    inputs: PersonInputs
    identity: frozenset[str]
    is_blocked: bool


@dataclass(frozen=True, slots=True)
class Memory:
    """The latest charge line of (person, provider, product, options)."""

    line_id: int
    state: str
    verdict: str | None
    answered_at: datetime | None
    settled_at: datetime | None
    sent_identity: frozenset[str]
    failures: int


def candidates(
    conn: Connection,
    day: date,
    batch: int,
    provider: str,
    fields: Sequence[Field],
    after: tuple[int, int],
    limit: int,
    earlier: frozenset[str] = frozenset(),
) -> list[tuple[int, int]]:
    """(rank, person_id) of the next persons with an open field at `provider`, after a cursor.

    With `earlier` only those who are not `engaged`: who works ahead looks again and again, and most
    are. Then only the first ones are looked through: stages go by rank, behind them all are.
    """
    rows = conn.execute(
        text("""
            -- In the order of enrichments_open, from the cursor on: every page costs the same.
            -- LIMIT and OFFSET have each row looked up: as plain EXISTS the first was a join of two
            -- guesses, quadratic, and the second read the whole table at every look.
            SELECT DISTINCT e.rank, e.person_id
            FROM (
                SELECT rank, person_id, field FROM enrichment.enrichments
                WHERE state = 'open' AND next_provider = :provider AND batch = :batch
                  AND field = ANY(cast(:fields AS text[]))
                  AND (rank, person_id) > (:rank, :person_id)
                ORDER BY rank, person_id LIMIT :reach) AS e
            CROSS JOIN LATERAL (
                SELECT FROM enrichment.plan_rows AS r
                WHERE r.partition_date = :day AND r.batch = :batch AND r.state = 'waiting'
                  AND (r.person_id, r.field) = (e.person_id, e.field)
                LIMIT 1) AS planned
            WHERE cardinality(cast(:earlier AS text[])) = 0 OR NOT EXISTS (
                SELECT FROM enrichment.enrichments AS live
                WHERE live.person_id = e.person_id
                  AND live.state IN ('open', 'pending', 'in_doubt')
                  AND live.waterfall[live.position] = ANY(cast(:earlier AS text[]))
                OFFSET 0)
            ORDER BY e.rank, e.person_id LIMIT :limit
        """),
        {
            "provider": provider,
            "fields": [f.value for f in fields],
            "day": day,
            "batch": batch,
            "rank": after[0],
            "person_id": after[1],
            "limit": limit,
            "earlier": sorted(earlier),
            "reach": _REACH if earlier else None,
        },
    )
    return [(int(r.rank), int(r.person_id)) for r in rows]


_LOCK_PERSONS = """
    SELECT person_id FROM enrichment.persons WHERE person_id = ANY(cast(:ids AS bigint[]))
    ORDER BY person_id FOR NO KEY UPDATE
"""


def lock_persons(conn: Connection, person_ids: Sequence[int], *, wait: bool) -> frozenset[int]:
    """Locks persons in id order until the transaction ends; without `wait` not the busy ones."""
    rows = conn.execute(
        text(_LOCK_PERSONS if wait else f"{_LOCK_PERSONS} SKIP LOCKED"),
        {"ids": sorted(set(person_ids))},
    )
    return frozenset(int(r.person_id) for r in rows)


def lock_waiting(conn: Connection, day: date, batch: int) -> None:
    """Locks, as `lock_persons` does, everybody with a waiting row or open work in a partition."""
    conn.execute(
        text("""
            SELECT count(*) FROM (
                SELECT FROM enrichment.persons WHERE person_id IN (
                    SELECT person_id FROM enrichment.plan_rows
                    WHERE partition_date = :day AND batch = :batch AND state = 'waiting'
                    UNION
                    SELECT person_id FROM enrichment.enrichments
                    WHERE partition_date = :day AND batch = :batch AND state = 'open')
                ORDER BY person_id FOR NO KEY UPDATE) AS locked
        """),
        {"day": day, "batch": batch},
    )


def open_fields(
    conn: Connection, provider: str, fields: Sequence[Field], person_ids: Sequence[int]
) -> list[OpenField]:
    """The persons' open enrichments at `provider`, locked; in rank order."""
    rows = conn.execute(
        text("""
            SELECT e.enrichment_id, e.person_id, e.field, e.position, e.rank, won.line_id
            FROM enrichment.enrichments AS e
            LEFT JOIN LATERAL (
                SELECT t.line_id FROM enrichment.persons AS m
                JOIN enrichment.enrichments AS done
                  ON (done.person_id, done.field) = (m.person_id, e.field)
                JOIN enrichment.attempts AS t ON t.enrichment_id = done.enrichment_id
                WHERE m.merged_into = e.person_id AND done.result = 'found'
                  AND done.closed_at >= e.opened_at AND t.outcome IN ('found', 'reused')
                ORDER BY t.attempt_id DESC LIMIT 1) AS won ON true
            WHERE e.person_id = ANY(cast(:ids AS bigint[])) AND e.state = 'open'
              AND e.next_provider = :provider AND e.field = ANY(cast(:fields AS text[]))
            ORDER BY e.rank, e.person_id, e.enrichment_id FOR NO KEY UPDATE OF e
        """),
        {"ids": list(person_ids), "provider": provider, "fields": [f.value for f in fields]},
    )
    return [
        OpenField(enrichment_id, person_id, Field(field), position, rank, answered_line)
        for enrichment_id, person_id, field, position, rank, answered_line in rows.all()
    ]


def fields_on_their_way(
    conn: Connection, provider: str, person_ids: Sequence[int]
) -> Mapping[int, frozenset[Field]]:
    """Live fields of these persons that stand before `provider` in their waterfall."""
    rows = conn.execute(
        text("""
            SELECT person_id, array_agg(field) AS fields FROM enrichment.enrichments
            WHERE person_id = ANY(cast(:ids AS bigint[]))
              AND state IN ('open', 'pending', 'in_doubt')
              AND array_position(waterfall, :provider) > position
            GROUP BY person_id
        """),
        {"ids": list(person_ids), "provider": provider},
    )
    return {int(r.person_id): frozenset(Field(f) for f in r.fields) for r in rows}


def engaged(conn: Connection, earlier: frozenset[str], person_ids: Sequence[int]) -> frozenset[int]:
    """Who still has a field at one of the `earlier` providers, which may find out more of them.

    A field at a provider that comes later does not hold anybody up, as it does not in a provider's
    own turn: two providers would wait for each other where one field goes there and one comes back.
    """
    if not earlier:
        return frozenset()
    rows = conn.execute(
        text("""
            SELECT DISTINCT person_id FROM enrichment.enrichments
            WHERE person_id = ANY(cast(:ids AS bigint[]))
              AND state IN ('open', 'pending', 'in_doubt')
              AND waterfall[position] = ANY(cast(:earlier AS text[]))
        """),
        {"ids": list(person_ids), "earlier": sorted(earlier)},
    )
    return frozenset(int(r.person_id) for r in rows)


_DATAPOINTS = tuple(Datapoint)
"""Each of them has a column of its name."""


def known_persons(conn: Connection, person_ids: Sequence[int]) -> Mapping[int, KnownPerson]:
    """What is known of these persons now, everything that this night found included."""
    rows = conn.execute(
        text(f"""
            SELECT person_id, personal_email_consent, identity, is_blocked, {", ".join(_DATAPOINTS)}
            FROM enrichment.person_inputs WHERE person_id = ANY(cast(:ids AS bigint[]))
        """),  # noqa: S608  (names of our own)
        {"ids": list(person_ids)},
    )
    return {
        person_id: KnownPerson(
            inputs=PersonInputs(
                person_id=person_id,
                datapoints={
                    d: value for d, value in zip(_DATAPOINTS, values, strict=True) if value
                },
                personal_email_consent=consents,
            ),
            identity=frozenset(identity),
            is_blocked=is_blocked,
        )
        for person_id, consents, identity, is_blocked, *values in rows.all()
    }


def memories(
    conn: Connection, provider: str, person_ids: Sequence[int]
) -> Mapping[tuple[int, str, str], Memory]:
    """The latest line per (person, product, options) at `provider`, a live one before all others.

    Lines of persons that were merged into one of these count as theirs.
    """
    rows = conn.execute(
        text("""
            WITH members AS (
                SELECT person_id, person_id AS survivor FROM enrichment.persons
                WHERE person_id = ANY(cast(:ids AS bigint[]))
                UNION ALL
                SELECT person_id, merged_into FROM enrichment.persons
                WHERE merged_into = ANY(cast(:ids AS bigint[]))
            )
            SELECT DISTINCT ON (m.survivor, l.product, l.options) m.survivor AS person_id,
                   l.product, l.options, l.line_id, l.state, l.verdict, l.answered_at,
                   l.settled_at, l.sent_identity,
                   count(*) FILTER (WHERE l.verdict = 'failed') OVER (
                       PARTITION BY m.survivor, l.product, l.options) AS failures
            FROM members AS m
            JOIN enrichment.charge_lines AS l
              ON l.person_id = m.person_id AND l.provider = :provider
            WHERE l.state <> 'released' OR l.verdict IS NOT NULL
            ORDER BY m.survivor, l.product, l.options,
                     l.state IN ('held', 'in_doubt') DESC, l.line_id DESC
        """),
        {"ids": list(person_ids), "provider": provider},
    )
    return {
        (r.person_id, r.product, r.options): Memory(
            r.line_id,
            r.state,
            r.verdict,
            r.answered_at,
            r.settled_at,
            frozenset(r.sent_identity),
            r.failures,
        )
        for r in rows.all()
    }


@dataclass(frozen=True, slots=True)
class Advance:
    """An enrichment leaves the provider at which it stands without a purchase there.

    `accepted_line`: an earlier answer that settles it (served at no cost); else it moves on.
    """

    enrichment_id: int
    person_id: int
    field: Field
    reason: str
    accepted_line: int | None = None


def advance(
    conn: Connection, moves: Sequence[Advance], provider: str, day: date, batch: int, run_id: str
) -> None:
    """Moves open enrichments past `provider`, recording why nothing was bought there."""
    if not moves:
        return
    params = {
        "moves": as_json(
            {
                "enrichment_id": m.enrichment_id,
                "person_id": m.person_id,
                "field": m.field,
                "reason": m.reason,
                "line_id": m.accepted_line,
            }
            for m in moves
        ),
        "provider": provider,
        "day": day,
        "batch": batch,
        "run_id": run_id,
    }
    conn.execute(
        text(f"""
            WITH m AS (
                SELECT * FROM jsonb_to_recordset(cast(:moves AS jsonb)) AS m(
                    enrichment_id bigint, person_id bigint, field text, reason text, line_id bigint)
            ), skipped AS (
                INSERT INTO enrichment.skips (partition_date, person_id, field, provider, reason)
                SELECT :day, m.person_id, m.field, :provider, m.reason
                FROM m WHERE m.line_id IS NULL
                ON CONFLICT (partition_date, person_id, field, provider)
                    DO UPDATE SET reason = excluded.reason, recorded_at = now()
            ), noted AS (
                INSERT INTO enrichment.attempts (enrichment_id, person_id, field, provider, try,
                    position, line_id, outcome, responded_at, partition_date, batch, run_id)
                SELECT e.enrichment_id, e.person_id, e.field, l.provider, 1, e.position, m.line_id,
                       'reused', clock_timestamp(), :day, :batch, :run_id
                FROM m JOIN enrichment.enrichments AS e USING (enrichment_id)
                JOIN enrichment.charge_lines AS l ON l.line_id = m.line_id
                ON CONFLICT (partition_date, person_id, field) WHERE outcome = 'reused' DO NOTHING
            )
            UPDATE enrichment.enrichments AS e SET state = 'finished', result = 'found',
                next_provider = NULL, wait_reason = NULL, closed_at = clock_timestamp(),
                closed_identity = ({KNOWN_BY})
            FROM m
            WHERE e.enrichment_id = m.enrichment_id AND e.state = 'open' AND m.line_id IS NOT NULL
        """),  # noqa: S608  (a fragment of our own)
        params,
    )
    to_next(conn, [m.enrichment_id for m in moves if m.accepted_line is None])


def to_next(conn: Connection, enrichment_ids: Sequence[int]) -> None:
    """Moves live enrichments to their next provider; the last one closes them.

    Closed without an accepted answer, an enrichment is still `found` when a provider reported a
    value that remains a candidate.
    """
    if not enrichment_ids:
        return
    conn.execute(
        text(f"""
            UPDATE enrichment.enrichments AS e SET
                position = e.position + 1,
                next_provider = e.waterfall[e.position + 1],
                wait_reason = NULL,
                state = CASE WHEN e.waterfall[e.position + 1] IS NULL
                    THEN 'finished' ELSE 'open' END,
                result = CASE WHEN e.waterfall[e.position + 1] IS NULL THEN
                    CASE WHEN EXISTS (
                        SELECT 1 FROM enrichment.attempts AS t
                        WHERE t.enrichment_id = e.enrichment_id
                          AND t.outcome IN ('found', 'reused'))
                    THEN 'found' ELSE 'not_found' END END,
                closed_at = CASE WHEN e.waterfall[e.position + 1] IS NULL
                    THEN clock_timestamp() END,
                closed_identity = CASE WHEN e.waterfall[e.position + 1] IS NULL THEN
                    ({KNOWN_BY}) END
            WHERE e.enrichment_id = ANY(cast(:ids AS bigint[]))
              AND e.state IN ('open', 'pending', 'in_doubt')
        """),  # noqa: S608  (a fragment of our own)
        {"ids": sorted(enrichment_ids)},
    )
    expire_unwanted(conn, enrichment_ids)


def expire_unwanted(conn: Connection, enrichment_ids: Sequence[int]) -> None:
    """Closes those of these enrichments whose person was blocked while they were in flight.

    Those too for which no row waits any more: no later stage would come upon them, and their night
    would never end. Rows are closed when a person is blocked, for good if only for an hour.
    """
    conn.execute(
        text("""
            UPDATE enrichment.enrichments AS e SET state = 'expired', next_provider = NULL,
                wait_reason = NULL, closed_at = clock_timestamp()
            FROM enrichment.persons AS p
            WHERE e.enrichment_id = ANY(cast(:ids AS bigint[])) AND e.state = 'open'
              AND p.person_id = e.person_id
              AND (EXISTS (SELECT 1 FROM enrichment.person_inputs AS i
                           WHERE i.person_id = coalesce(p.merged_into, p.person_id)
                             AND i.is_blocked)
                   OR NOT EXISTS (SELECT 1 FROM enrichment.plan_rows AS r
                                  WHERE r.person_id = ANY(ARRAY[p.person_id, p.merged_into])
                                    AND r.field = e.field AND r.state = 'waiting'))
        """),
        {"ids": sorted(enrichment_ids)},
    )


def expire(conn: Connection, enrichment_ids: Sequence[int]) -> None:
    """Closes open enrichments of persons who must not be enriched any more."""
    conn.execute(
        text("""
            UPDATE enrichment.enrichments SET state = 'expired', next_provider = NULL,
                wait_reason = NULL, closed_at = clock_timestamp()
            WHERE enrichment_id = ANY(cast(:ids AS bigint[])) AND state = 'open'
        """),
        {"ids": sorted(enrichment_ids)},
    )


def wait_at(conn: Connection, reasons: Mapping[int, str]) -> None:
    """Notes why open enrichments wait where they stand (enrichment -> reason)."""
    conn.execute(
        text("""
            UPDATE enrichment.enrichments AS e SET wait_reason = w.reason
            FROM unnest(cast(:ids AS bigint[]), cast(:reasons AS text[])) AS w(id, reason)
            WHERE e.enrichment_id = w.id AND e.state = 'open'
              AND e.wait_reason IS DISTINCT FROM w.reason
        """),
        {"ids": list(reasons), "reasons": list(reasons.values())},
    )


@dataclass(frozen=True, slots=True)
class AnsweredValue:
    """A usable value that a line brought, without the value."""

    attribute: str
    status: ValueStatus
    observed_at: datetime


def answered_values(conn: Connection, line_ids: Sequence[int]) -> Mapping[int, list[AnsweredValue]]:
    """Usable values that these lines brought, by line."""
    rows = conn.execute(
        text("""
            SELECT line_id, attribute, status, observed_at FROM enrichment.observations
            WHERE line_id = ANY(cast(:ids AS bigint[])) AND status <> 'invalid'
              AND rejected_reason IS DISTINCT FROM 'other_person' AND erased_at IS NULL
        """),
        {"ids": list(line_ids)},
    )
    values: dict[int, list[AnsweredValue]] = {}
    for row in rows:
        values.setdefault(int(row.line_id), []).append(
            AnsweredValue(row.attribute, ValueStatus(row.status), row.observed_at)
        )
    return values
