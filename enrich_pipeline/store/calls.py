"""Calls and their charge lines: the statements of the spend protocol, one per step.

    reserved --arm--> sending --reply stored--> responded --settle--> settled | accepted
    reserved --lease over, never sent, withdrawn--> released
    sending | accepted --unknown or too late--> in_doubt --evidence--> settled | released
    in_doubt --horizon--> written_off --late answer--> settled

Each function runs inside the caller's transaction and takes the database's clock.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any, Literal

from sqlalchemy import Connection

from enrich_pipeline.domain.posting import LineState
from enrich_pipeline.providers.protocol import Datapoint, Item, PersonInputs
from enrich_pipeline.store.rows import as_json
from enrich_pipeline.store.statement import text

_DATAPOINTS = {each.value: each for each in Datapoint}


@dataclass(frozen=True, slots=True)
class StoredCall:
    """A call as the database knows it."""

    call_id: int
    provider: str
    group: str
    state: str
    day: date
    batch: int
    spend_date: date
    run_id: str
    prices: Mapping[str, int]
    usd_micro_per_credit: int
    items: tuple[Item, ...]
    request_sha256: bytes
    job_id: str | None
    armed_at: datetime | None
    polls: int
    sends: int
    has_webhook: bool


@dataclass(frozen=True, slots=True)
class StoredLine:
    """A charge line as the database knows it."""

    line_id: int
    call_id: int
    item_key: str
    person_id: int
    product: str
    options: str
    fields: tuple[str, ...]
    state: LineState
    hold_micro: int
    hold_usd_micro: int
    verdict: str | None


def _item(row: Mapping[str, Any]) -> Item:
    return Item(
        key=row["key"],
        person=PersonInputs(
            person_id=int(row["person_id"]),
            datapoints={_DATAPOINTS[k]: v for k, v in row["datapoints"].items()},
            personal_email_consent=bool(row["consent"]),
        ),
        products=frozenset(row["products"]),
    )


# Of the call `c`: consent and suppression as they are now.
_IS_WITHDRAWN = """
    EXISTS (
        SELECT 1 FROM enrichment.charge_lines AS l
        JOIN enrichment.persons AS p USING (person_id)
        JOIN enrichment.person_inputs AS i ON i.person_id = coalesce(p.merged_into, p.person_id)
        WHERE l.call_id = c.call_id
          AND (i.is_blocked
               OR ('personal_email' = ANY(l.fields) AND NOT i.personal_email_consent)))
"""


def arm(conn: Connection, call_id: int, lease_seconds: float) -> bool:
    """The last step before the first byte: False when the call may not be sent any more.

    Consent and suppression are read again here; `lease_seconds` must outlast the send deadline.
    """
    return (
        conn.execute(
            text(f"""
                UPDATE enrichment.calls AS c SET state = 'sending', sends = c.sends + 1,
                    armed_at = clock_timestamp(),
                    lease_until = clock_timestamp() + make_interval(secs => :lease)
                WHERE c.call_id = :call_id AND c.state = 'reserved'
                  AND c.lease_until > clock_timestamp() AND c.erased_at IS NULL
                  AND NOT {_IS_WITHDRAWN}
            """),  # noqa: S608  (a fragment of our own)
            {"call_id": call_id, "lease": lease_seconds},
        ).rowcount
        == 1
    )


def withdrawn(conn: Connection, call_id: int) -> bool:
    """Whether somebody in the call withdrew consent or was suppressed since it was reserved."""
    return bool(
        conn.execute(
            text(f"""
                SELECT c.erased_at IS NOT NULL OR {_IS_WITHDRAWN}
                FROM enrichment.calls AS c WHERE c.call_id = :call_id
            """),  # noqa: S608  (a fragment of our own)
            {"call_id": call_id},
        ).scalar_one()
    )


def arm_again(conn: Connection, call_id: int, lease_seconds: float) -> int | None:
    """Arms a free re-read of a call in doubt; it stays in doubt whatever happens to the re-read.

    Returns how often the call was armed by now; None if it must not be.
    """
    sends: int | None = conn.execute(
        text(f"""
            UPDATE enrichment.calls AS c SET sends = c.sends + 1,
                lease_until = clock_timestamp() + make_interval(secs => :lease)
            WHERE c.call_id = :call_id AND c.state = 'in_doubt'
              AND c.lease_until < clock_timestamp() AND c.erased_at IS NULL
              AND NOT {_IS_WITHDRAWN}
            RETURNING c.sends
        """),  # noqa: S608  (a fragment of our own)
        {"call_id": call_id, "lease": lease_seconds},
    ).scalar_one_or_none()
    return sends


_CALL_COLUMNS = """
    SELECT call_id, provider, call_group, state, partition_date, batch, spend_date, run_id, prices,
           usd_micro_per_credit, items, request_sha256, job_id, armed_at, polls, sends,
           token_hash IS NOT NULL AS has_webhook
    FROM enrichment.calls AS c
"""


def _stored(row: Any) -> StoredCall:
    items = row.items if row.items is not None else []
    return StoredCall(
        call_id=int(row.call_id),
        provider=row.provider,
        group=row.call_group,
        state=row.state,
        day=row.partition_date,
        batch=row.batch,
        spend_date=row.spend_date,
        run_id=row.run_id,
        prices=row.prices,
        usd_micro_per_credit=int(row.usd_micro_per_credit),
        items=tuple(_item(i) for i in items),
        request_sha256=bytes(row.request_sha256 or b""),
        job_id=row.job_id,
        armed_at=row.armed_at,
        polls=row.polls,
        sends=row.sends,
        has_webhook=bool(row.has_webhook),
    )


def load(conn: Connection, call_id: int, *, lock: bool) -> StoredCall:
    """One call; with `lock` no other settlement of it can run until the transaction ends."""
    (stored,) = load_all(conn, [call_id], lock=lock)
    return stored


def load_all(conn: Connection, call_ids: Sequence[int], *, lock: bool) -> list[StoredCall]:
    """Calls in the order of their ids, which is the one in which they are locked."""
    suffix = "FOR NO KEY UPDATE" if lock else ""
    rows = conn.execute(
        text(f"""
            {_CALL_COLUMNS} WHERE c.call_id = ANY(cast(:ids AS bigint[]))
            ORDER BY c.call_id {suffix}
        """),
        {"ids": list(call_ids)},
    )
    return [_stored(row) for row in rows]


def with_known_ids(conn: Connection, stored: Sequence[StoredCall]) -> list[StoredCall]:
    """The calls with the ids by which their provider speaks of the items: later results use them.

    In the order given.
    """
    rows = conn.execute(
        text("""
            SELECT DISTINCT call_id, item_key, external_id FROM enrichment.charge_lines
            WHERE call_id = ANY(cast(:ids AS bigint[])) AND external_id IS NOT NULL
        """),
        {"ids": [each.call_id for each in stored]},
    )
    known: dict[int, dict[str, str]] = {}
    for row in rows:
        known.setdefault(int(row.call_id), {})[row.item_key] = row.external_id
    return [_knowing(each, known.get(each.call_id, {})) for each in stored]


def _knowing(stored: StoredCall, known: Mapping[str, str]) -> StoredCall:
    if not known:
        return stored
    datapoint = Datapoint(f"{stored.provider}_id")
    items = tuple(
        replace(
            item,
            person=replace(
                item.person,
                datapoints={**item.person.datapoints, datapoint: known[item.key]},
            ),
        )
        if item.key in known
        else item
        for item in stored.items
    )
    return replace(stored, items=items)


def lines_of(conn: Connection, call_ids: Sequence[int]) -> list[StoredLine]:
    """All charge lines of these calls."""
    rows = conn.execute(
        text("""
            SELECT line_id, call_id, item_key, person_id, product, options, fields, state,
                   hold_micro, hold_usd_micro, verdict
            FROM enrichment.charge_lines WHERE call_id = ANY(cast(:ids AS bigint[]))
            ORDER BY line_id
        """),
        {"ids": list(call_ids)},
    )
    return [
        StoredLine(
            r.line_id,
            r.call_id,
            r.item_key,
            r.person_id,
            r.product,
            r.options,
            tuple(r.fields),
            LineState(r.state),
            r.hold_micro,
            r.hold_usd_micro,
            r.verdict,
        )
        for r in rows.all()
    ]


def awaited(lines: Iterable[StoredLine]) -> frozenset[str]:
    """The items of a call of whom something is still to be answered."""
    return frozenset(x.item_key for x in lines if x.state in (LineState.HELD, LineState.IN_DOUBT))


@dataclass(frozen=True, slots=True)
class Closing:
    """What a call shall be: `when_open` while a line of it is open, else `when_closed`.

    The times count from now, and only for a call that waits for its answer or is in doubt.
    """

    call_id: int
    when_open: str
    when_closed: str = "settled"
    reason: str = ""
    job_id: str | None = None
    deadline_seconds: float = 0
    poll_seconds: float = 0
    write_off_hours: float = 0


def close_or_keep(conn: Connection, closings: Sequence[Closing]) -> None:
    """Gives each call the state that its lines imply.

    With lines still held or in doubt it becomes `when_open`; with lines written off it is written
    off, and what was sent is kept for a late answer; with none of these it is closed as
    `when_closed` and what was sent is forgotten. What comes after that changes no state any more.
    """
    conn.execute(
        text("""
            WITH closing AS (
                SELECT * FROM jsonb_to_recordset(cast(:rows AS jsonb)) AS r(call_id bigint,
                    when_open text, when_closed text, reason text, job_id text,
                    deadline_seconds float8, poll_seconds float8, write_off_hours float8)
            ), decided AS (
                SELECT g.*, CASE WHEN n.live > 0 THEN g.when_open
                            WHEN k.state IN ('settled', 'released') THEN k.state
                            WHEN n.lost > 0 THEN 'written_off' ELSE g.when_closed END AS state,
                       n.live = 0 AND n.lost = 0 AS is_over
                FROM closing AS g
                JOIN enrichment.calls AS k USING (call_id)
                -- For each call by index, however many rows the planner expects.
                CROSS JOIN LATERAL (
                    SELECT count(*) FILTER (WHERE l.state IN ('held', 'in_doubt')) AS live,
                           count(*) FILTER (WHERE l.state = 'written_off') AS lost
                    FROM enrichment.charge_lines AS l WHERE l.call_id = g.call_id OFFSET 0) AS n
            ), forgotten AS (
                -- Of somebody who was erased meanwhile: nothing has to be told apart any more.
                UPDATE enrichment.charge_lines AS l SET external_id = NULL
                FROM decided AS d, enrichment.persons AS p
                WHERE d.is_over AND l.call_id = d.call_id AND l.external_id IS NOT NULL
                  AND p.person_id = l.person_id AND p.erased_at IS NOT NULL
            )
            UPDATE enrichment.calls AS c SET
                state = d.state,
                reason = CASE WHEN d.reason = '' THEN c.reason ELSE d.reason END,
                job_id = coalesce(d.job_id, c.job_id),
                accepted_at = CASE WHEN d.state = 'accepted'
                    THEN coalesce(c.accepted_at, clock_timestamp()) ELSE c.accepted_at END,
                deadline_at = CASE WHEN d.state = 'accepted' THEN coalesce(c.deadline_at,
                    clock_timestamp() + make_interval(secs => d.deadline_seconds))
                    ELSE c.deadline_at END,
                next_poll_at = CASE WHEN d.state = 'accepted'
                    THEN clock_timestamp() + make_interval(secs => d.poll_seconds) END,
                in_doubt_at = CASE WHEN d.state = 'in_doubt'
                    THEN coalesce(c.in_doubt_at, clock_timestamp()) ELSE c.in_doubt_at END,
                write_off_at = CASE WHEN d.state = 'in_doubt' THEN coalesce(c.write_off_at,
                    clock_timestamp() + make_interval(secs => d.write_off_hours * 3600))
                    ELSE c.write_off_at END,
                closed_at = CASE WHEN d.state IN ('settled', 'released', 'written_off')
                    THEN clock_timestamp() END,
                items = CASE WHEN d.is_over THEN NULL ELSE c.items END,
                request_body = CASE WHEN d.is_over THEN NULL ELSE c.request_body END
            FROM decided AS d
            WHERE c.call_id = d.call_id
        """),
        {"rows": as_json(closings)},
    )


Clock = Literal["lease_until", "deadline_at", "next_poll_at", "write_off_at"]


def due(
    conn: Connection,
    state: str,
    *,
    provider: str | None = None,
    clock: Clock,
    day: date | None = None,
    batch: int | None = None,
) -> list[int]:
    """Calls in `state` whose time column `clock` has passed; never waits for another process."""
    rows = conn.execute(
        text("""
            SELECT call_id FROM enrichment.calls
            WHERE state = :state AND clock_timestamp() >= CASE :clock
                    WHEN 'lease_until' THEN lease_until WHEN 'deadline_at' THEN deadline_at
                    WHEN 'next_poll_at' THEN next_poll_at WHEN 'write_off_at' THEN write_off_at END
              AND (cast(:provider AS text) IS NULL OR provider = :provider)
              AND (cast(:day AS date) IS NULL OR partition_date = :day)
              AND (cast(:batch AS smallint) IS NULL OR batch = :batch)
            ORDER BY call_id
        """),
        {"state": state, "clock": clock, "provider": provider, "day": day, "batch": batch},
    )
    return [int(r.call_id) for r in rows]


def count_polls(conn: Connection, call_ids: Sequence[int]) -> None:
    """Notes polls that brought something."""
    conn.execute(
        text("""
            UPDATE enrichment.calls SET polls = polls + 1
            WHERE call_id = ANY(cast(:ids AS bigint[]))
        """),
        {"ids": list(call_ids)},
    )


def postpone_poll(conn: Connection, call_id: int, seconds: float) -> None:
    """Notes a poll that brought nothing, and when to ask again."""
    conn.execute(
        text("""
            UPDATE enrichment.calls SET polls = polls + 1,
                next_poll_at = clock_timestamp() + make_interval(secs => :seconds)
            WHERE call_id = :call_id AND state = 'accepted'
        """),
        {"call_id": call_id, "seconds": seconds},
    )


def live_runs(conn: Connection) -> list[str]:
    """Runs that have calls between reservation and reply."""
    rows = conn.execute(
        text("""
            SELECT DISTINCT run_id FROM enrichment.calls
            WHERE state IN ('reserved', 'sending') ORDER BY run_id
        """)
    )
    return [r.run_id for r in rows]


def calls_of_run(conn: Connection, run_id: str) -> list[int]:
    """The run's calls between reservation and reply."""
    rows = conn.execute(
        text("""
            SELECT call_id FROM enrichment.calls
            WHERE run_id = :run_id AND state IN ('reserved', 'sending') ORDER BY call_id
        """),
        {"run_id": run_id},
    )
    return [int(r.call_id) for r in rows]


def unsettled(conn: Connection, day: date, batch: int, provider: str) -> int:
    """How many calls of a partition a provider has accepted and not finished."""
    return int(
        conn.execute(
            text("""
                SELECT count(*) FROM enrichment.calls
                WHERE partition_date = :day AND batch = :batch AND provider = :provider
                  AND state = 'accepted'
            """),
            {"day": day, "batch": batch, "provider": provider},
        ).scalar_one()
    )
