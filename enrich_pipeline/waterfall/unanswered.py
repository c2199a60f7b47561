"""Settlements without an answer: released, refused for its record, in doubt, written off.

Each takes a locked call and names itself by `settlement` in every ledger key.
"""

from collections.abc import Callable, Collection, Sequence

from sqlalchemy import Connection

from enrich_pipeline.domain.enrichment import Outcome
from enrich_pipeline.domain.posting import LineState
from enrich_pipeline.providers.protocol import Verdict
from enrich_pipeline.store import answers, calls, work
from enrich_pipeline.waterfall.booking import OPEN_LINES, Booking, change, post_lines
from enrich_pipeline.waterfall.context import Context


def release(conn: Connection, stored: calls.StoredCall, settlement: str, reason: str) -> None:
    """Gives every open hold of the call back, one written off included: nothing was bought."""

    def reopen(enrichment_ids: Sequence[int]) -> None:
        answers.reopen(conn, enrichment_ids, reason)

    _move_lines(
        conn, stored, settlement, reason, OPEN_LINES, LineState.RELEASED, Outcome.ERROR, reopen
    )
    calls.close_or_keep(conn, [calls.Closing(stored.call_id, stored.state, "released", reason)])


def reject_record(conn: Connection, stored: calls.StoredCall, settlement: str, reason: str) -> None:
    """The one record that made a whole call fail: never sent there again as it is."""

    def move_on(enrichment_ids: Sequence[int]) -> None:
        work.to_next(conn, enrichment_ids)

    _move_lines(
        conn,
        stored,
        settlement,
        reason,
        OPEN_LINES,
        LineState.RELEASED,
        Outcome.INVALID_INPUT,
        move_on,
        verdict=Verdict.INVALID_INPUT.value,
    )
    calls.close_or_keep(conn, [calls.Closing(stored.call_id, stored.state, "released", reason)])


def doubt(
    conn: Connection, ctx: Context, stored: calls.StoredCall, settlement: str, reason: str
) -> int:
    """Nobody knows whether it was charged: the hold stays unavailable, nothing is sent again.

    Returns how many fields are in doubt by it.
    """

    def park(enrichment_ids: Sequence[int]) -> None:
        answers.doubt(conn, enrichment_ids)

    fields = _move_lines(
        conn,
        stored,
        settlement,
        reason,
        (LineState.HELD,),
        LineState.IN_DOUBT,
        Outcome.IN_DOUBT,
        park,
    )
    hours = ctx.terms(stored.provider).in_doubt_hours
    closing = calls.Closing(stored.call_id, "in_doubt", reason=reason, write_off_hours=hours)
    calls.close_or_keep(conn, [closing])
    return fields


def write_off(
    conn: Connection,
    stored: calls.StoredCall,
    settlement: str,
    reason: str,
    evidence: str | None = None,
) -> None:
    """The horizon passed without evidence: counted as spent in the budgets, not bought again."""

    def move_on(enrichment_ids: Sequence[int]) -> None:
        work.to_next(conn, enrichment_ids)

    _move_lines(
        conn,
        stored,
        settlement,
        reason,
        (LineState.IN_DOUBT,),
        LineState.WRITTEN_OFF,
        Outcome.WRITTEN_OFF,
        move_on,
        evidence=evidence,
    )
    calls.close_or_keep(conn, [calls.Closing(stored.call_id, "in_doubt", "written_off", reason)])


def _move_lines(
    conn: Connection,
    stored: calls.StoredCall,
    settlement: str,
    reason: str,
    moved: Collection[LineState],
    after: LineState,
    outcome: Outcome,
    then: Callable[[Sequence[int]], None],
    *,
    verdict: str | None = None,
    evidence: str | None = None,
) -> int:
    """Takes the lines in states `moved` to `after` and books it; returns the number of attempts.

    `then` gets the enrichments whose current attempt ended by it.
    """
    lines = [x for x in calls.lines_of(conn, [stored.call_id]) if x.state in moved]
    work.lock_persons(conn, [x.person_id for x in lines], wait=True)
    results = [answers.LineResult(change(x, after), verdict, reason, None) for x in lines]
    touched = {x.line_id for x in lines}
    mine = [a for a in answers.attempts_of(conn, [stored.call_id]) if a.line_id in touched]
    answers.write_lines(conn, results)
    answers.write_attempts(
        conn, [answers.AttemptResult(a.attempt_id, outcome, reason) for a in mine]
    )
    then([a.enrichment_id for a in mine if a.is_current])
    booking = Booking(stored, settlement, results, evidence=evidence)
    post_lines(conn, stored.provider, [booking])
    return len(mine)
