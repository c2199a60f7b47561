"""Where a stage stands: counts for progress displays and metadata."""

from dataclasses import dataclass
from datetime import date

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class StageMoney:
    """Attempts still without an answer, in (person, field), and what is held for them."""

    pending: int
    in_doubt: int
    held_micro: int


def stage_money(conn: Connection, day: date, batch: int, provider: str) -> StageMoney:
    """One provider in one partition."""
    row = conn.execute(
        text("""
            SELECT (SELECT count(*) FROM enrichment.attempts AS a
                    WHERE a.partition_date = :day AND a.batch = :batch AND a.provider = :provider
                      AND a.outcome = 'pending') AS pending,
                   (SELECT count(*) FROM enrichment.attempts AS a
                    WHERE a.partition_date = :day AND a.batch = :batch AND a.provider = :provider
                      AND a.outcome = 'in_doubt') AS in_doubt,
                   (SELECT coalesce(sum(l.hold_micro), 0) FROM enrichment.charge_lines AS l
                    JOIN enrichment.calls AS c USING (call_id)
                    WHERE c.partition_date = :day AND c.batch = :batch AND c.provider = :provider
                      AND l.state = 'held') AS held_micro
        """),
        {"day": day, "batch": batch, "provider": provider},
    ).one()
    return StageMoney(int(row.pending), int(row.in_doubt), int(row.held_micro))
