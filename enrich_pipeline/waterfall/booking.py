"""The money of a settlement: where its charge lines go, and what that writes into the books."""

from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Booking:
    """The money of one settlement of one call; `unassigned` micro-credits no line explains."""

    stored: calls.StoredCall
    settlement: str
    results: Sequence[answers.LineResult]
    unassigned: int = 0
    cost_source: str | None = None
    evidence: str | None = None

    @property
    def entries(self) -> tuple[Entry, ...]:
        changes = [r.change for r in self.results]
        return entries(changes, self.unassigned, self.stored.usd_micro_per_credit)


def post_lines(conn: Connection, provider: str, bookings: Sequence[Booking]) -> None:
    """Books settlements of one provider: ledger entries, day budgets, person budgets."""
    ledger.post(
        conn,
        provider,
        [
            ledger.CallEntries(
                call_id=b.stored.call_id,
                settlement=b.settlement,
                provider=provider,
                spend_date=b.stored.spend_date,
                partition_date=b.stored.day,
                batch=b.stored.batch,
                entries=b.entries,
                cost_source=b.cost_source,
                evidence=b.evidence,
            )
            for b in bookings
        ],
    )
    ledger.move_person_budgets(conn, [r.change for b in bookings for r in b.results])
