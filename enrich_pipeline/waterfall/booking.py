"""The money of a settlement: where its charge lines go, and what that writes into the books."""

from collections.abc import Sequence

from sqlalchemy import Connection

from enrich_pipeline.domain.posting import Entry, LineChange, LineState, entries
from enrich_pipeline.store import answers, calls, ledger

REREAD = "reread:"
"""Prefix of the settlements that repeat a call in doubt."""
POLL = "poll:"
"""Prefix of the settlements that polls bring."""
OPEN_LINES = (LineState.HELD, LineState.IN_DOUBT, LineState.WRITTEN_OFF)


def change(
    line: calls.StoredLine, after: LineState, cost: int = 0, cost_usd: int = 0
) -> LineChange:
    """A line's way from where it is to `after`."""
    return LineChange(
        line_id=line.line_id,
        person_id=line.person_id,
        before=line.state,
        after=after,
        hold_micro=line.hold_micro,
        hold_usd_micro=line.hold_usd_micro,
        cost_micro=cost,
        cost_usd_micro=cost_usd,
    )


def post_lines(
    conn: Connection,
    stored: calls.StoredCall,
    settlement: str,
    results: Sequence[answers.LineResult],
    unassigned: int,
    cost_source: str | None,
    evidence: str | None = None,
) -> tuple[Entry, ...]:
    """Books a settlement: ledger entries, day budgets, person budgets. Returns the entries."""
    changes = [r.change for r in results]
    parts = entries(changes, unassigned, stored.usd_micro_per_credit)
    ledger.post(
        conn,
        stored.provider,
        [
            ledger.CallEntries(
                call_id=stored.call_id,
                settlement=settlement,
                provider=stored.provider,
                spend_date=stored.spend_date,
                partition_date=stored.day,
                batch=stored.batch,
                entries=parts,
                cost_source=cost_source,
                evidence=evidence,
            )
        ],
    )
    ledger.move_person_budgets(conn, changes)
    return parts
