"""What is in doubt, and how a person settles it with evidence."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import Connection, text

from enrich_pipeline.domain.credit import divide, usd_micro
from enrich_pipeline.domain.errors import EnrichError
from enrich_pipeline.domain.posting import LineState
from enrich_pipeline.store import answers, calls, work
from enrich_pipeline.waterfall.booking import Booking, change, post_lines
from enrich_pipeline.waterfall.context import Context

Resolution = Literal["charged", "not_charged"]


@dataclass(frozen=True, slots=True)
class Doubt:
    """One call of which nobody knows whether it was charged."""

    call_id: int
    provider: str
    persons: int
    products: tuple[str, ...]
    amount_micro: int
    since: datetime
    written_off_at: datetime | None
    reason: str


def list_doubts(conn: Connection) -> list[Doubt]:
    """Calls in doubt, oldest first."""
    rows = conn.execute(
        text("""
            SELECT c.call_id, c.provider, c.in_doubt_at, c.write_off_at, c.reason,
                   count(DISTINCT l.person_id) AS persons, sum(l.hold_micro) AS amount,
                   array_agg(DISTINCT l.product) AS products
            FROM enrichment.calls AS c
            JOIN enrichment.charge_lines AS l ON l.call_id = c.call_id AND l.state = 'in_doubt'
            GROUP BY c.call_id ORDER BY c.in_doubt_at, c.call_id
        """)
    )
    return [
        Doubt(
            int(r.call_id),
            r.provider,
            int(r.persons),
            tuple(r.products),
            int(r.amount),
            r.in_doubt_at,
            r.write_off_at,
            r.reason,
        )
        for r in rows
    ]


def resolve(
    ctx: Context,
    call_id: int,
    resolution: Resolution,
    evidence: str,
    charged_micro: int | None = None,
) -> None:
    """Settles a call in doubt by what a person found out; the evidence goes into the ledger.

    `not_charged` gives the hold back and lets the fields be bought again. `charged` books
    `charged_micro` (default: the whole hold); the answer itself stays lost, and counts as a miss,
    so that it is not bought there again.

    Raises:
        EnrichError: no such call in doubt, an amount above its hold, or an answer may be coming.
    """
    with ctx.engine.begin() as conn:
        known = conn.execute(
            text("""
                SELECT state, sends > 1 AND lease_until > clock_timestamp() AS is_asked_again
                FROM enrichment.calls WHERE call_id = :id FOR NO KEY UPDATE
            """),
            {"id": call_id},
        ).one_or_none()
        if known is None or known.state != "in_doubt":
            state = known.state if known else "unknown"
            raise EnrichError(f"call {call_id} is not in doubt (it is {state})")
        if known.is_asked_again:
            raise EnrichError(f"call {call_id} is being asked about again: try in three minutes")
        stored = calls.load(conn, call_id, lock=True)
        lines = [x for x in calls.lines_of(conn, [call_id]) if x.state is LineState.IN_DOUBT]
        hold = sum(x.hold_micro for x in lines)
        amount = (
            0 if resolution == "not_charged" else (hold if charged_micro is None else charged_micro)
        )
        if not 0 <= amount <= hold:
            raise EnrichError(f"call {call_id} holds {hold} micro-credits, not {amount}")
        work.lock_persons(conn, [x.person_id for x in lines], wait=True)
        costs = divide(amount, [x.hold_micro for x in lines])
        after = LineState.RELEASED if resolution == "not_charged" else LineState.POSTED
        reason = f"resolved_{resolution}"
        results = [
            answers.LineResult(
                change(x, after, cost, usd_micro(cost, stored.usd_micro_per_credit)),
                answers.ANSWER_LOST if resolution == "charged" else None,
                reason,
                "operator",
            )
            for x, cost in zip(lines, costs, strict=True)
        ]
        cost_of = {r.change.line_id: r.change for r in results}
        mine = [a for a in answers.attempts_of(conn, [call_id]) if a.line_id in cost_of]
        answers.write_lines(conn, results)
        paid: set[int] = set()
        written = []
        for attempt in mine:
            first = attempt.line_id not in paid
            paid.add(attempt.line_id)
            cost = cost_of[attempt.line_id]
            written.append(
                answers.AttemptResult(
                    attempt.attempt_id,
                    "error" if resolution == "not_charged" else "written_off",
                    reason,
                    cost_micro=cost.cost_micro if first else 0,
                    cost_usd_micro=cost.cost_usd_micro if first else 0,
                )
            )
        answers.write_attempts(conn, written)
        current = [a.enrichment_id for a in mine if a.is_current]
        if resolution == "not_charged":
            answers.reopen(conn, current, reason)
        else:
            work.to_next(conn, current)
        booking = Booking(stored, "operator", results, 0, "operator", evidence)
        post_lines(conn, stored.provider, [booking])
        calls.close_or_keep(conn, [calls.Closing(call_id, "in_doubt", reason=reason)])
