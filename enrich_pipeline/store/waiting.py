"""What of a date's plan still waits, counted by what it can cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from fractions import Fraction

from sqlalchemy import Connection, text

from enrich_pipeline.store import selection


@dataclass(frozen=True, slots=True)
class Waiting:
    """What of a date's plan still waits."""

    contacts: int
    persons: int


@dataclass(frozen=True, slots=True)
class PatternRow:
    """Persons who stand alike. `steps`: (field, provider, product, reason), in waterfall order."""

    batch: int
    consented: bool
    present: tuple[str, ...]
    steps: tuple[tuple[str, str, str, str | None], ...]
    persons: int


def take(conn: Connection, day: date, batches: Sequence[int] | None) -> Waiting:
    """Make `plan_stale` hold what waits in a date's plan, for `judge`."""
    conn.execute(text("drop table if exists plan_stale"))
    conn.execute(
        text("""
            create temp table plan_stale on commit drop as
            select contact_id, person_id, field, batch from enrichment.plan_rows
            where partition_date = :day and state = 'waiting'
              and (cast(:batches as smallint[]) is null
                   or batch = any(cast(:batches as smallint[])))
        """),
        {"day": day, "batches": None if batches is None else list(batches)},
    )
    return Waiting(
        *conn.execute(
            text("select count(distinct contact_id), count(distinct person_id) from plan_stale")
        ).one()
    )


def patterns(conn: Connection) -> list[PatternRow]:
    """Count the waiting persons by batch, consent, datapoints and what stands at each provider."""
    rows = conn.execute(
        text("""
            with persons as (
                select j.person_id, w.consented, w.present,
                       jsonb_agg(jsonb_build_array(j.field, j.provider, j.product, j.reason)
                                 order by j.field, j.position) as steps
                from plan_judged as j join plan_wanted as w using (person_id, field)
                group by j.person_id, w.consented, w.present
            ), placed as (
                select person_id, min(batch) as batch from plan_stale group by person_id
            )
            select b.batch, p.consented, p.present, p.steps, count(*) as persons
            from persons as p join placed as b using (person_id)
            group by b.batch, p.consented, p.present, p.steps
            order by b.batch, p.consented, p.present, p.steps
        """)
    )
    return [
        PatternRow(
            batch=row.batch,
            consented=row.consented,
            present=selection.datapoints(row.present),
            steps=tuple((s[0], s[1], s[2], s[3]) for s in row.steps),
            persons=row.persons,
        )
        for row in rows
    ]


def found_rates(conn: Connection, now: datetime) -> dict[tuple[str, str], Fraction]:
    """Return the share found per (provider, field) over the last 30 days, from 30 answers on."""
    rows = conn.execute(
        text("""
            select provider, field, count(*) as answered,
                   count(*) filter (where outcome = 'found') as found
            from enrichment.attempts
            where outcome in ('found', 'not_found', 'other_person', 'invalid_input')
              and responded_at > cast(:now as timestamptz) - interval '30 days'
            group by provider, field having count(*) >= 30
        """),
        {"now": now},
    )
    return {(row.provider, row.field): Fraction(row.found, row.answered) for row in rows}
