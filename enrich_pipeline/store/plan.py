"""The night's plan in PostgreSQL: one head per date, one row per contact and field."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, text

from enrich_pipeline.store.freshness import REASONS
from enrich_pipeline.store.rows import as_json


@dataclass(frozen=True, slots=True)
class Night:
    """The head of a date's plan, as it was first written."""

    as_of: datetime
    contacts_cap: int
    batches: int
    contacts_stale: int


def night(conn: Connection, day: date) -> Night | None:
    row = conn.execute(
        text("""
            select as_of, contacts_cap, batches, contacts_stale
            from enrichment.plan_nights where partition_date = :day
        """),
        {"day": day},
    ).one_or_none()
    return None if row is None else Night(*row)


def clock(conn: Connection) -> datetime:
    """Return the database's time."""
    moment: datetime = conn.execute(text("select clock_timestamp()")).scalar_one()
    return moment


def was_written_since(conn: Connection, day: date, moment: datetime) -> bool:
    """Whether a date's plan was written, or brought up to date, after a moment of `clock`."""
    return bool(
        conn.execute(
            text("""
                select exists (select from enrichment.plan_nights
                               where partition_date = :day and planned_at > :moment)
            """),
            {"day": day, "moment": moment},
        ).scalar_one()
    )


def has_room(conn: Connection, day: date, cap: int) -> bool:
    """Whether a date's plan holds fewer contacts than its cap."""
    found = conn.execute(
        text("""
            select count(distinct contact_id) from enrichment.plan_rows where partition_date = :day
        """),
        {"day": day},
    ).scalar_one()
    return int(found) < cap


def touch(conn: Connection, day: date, *, added: int) -> None:
    """Note that the plan of a date was brought up to date; with more to do it is open again."""
    conn.execute(
        text("""
            update enrichment.plan_nights set planned_at = clock_timestamp(),
                coverage_after = case when :added = 0 then coverage_after end,
                closed_at = case when :added = 0 then closed_at end
            where partition_date = :day
        """),
        {"day": day, "added": added},
    )


def open_night(conn: Connection, day: date, night: Night, coverage: Mapping[str, Any]) -> None:
    """Write the head of a date's plan; of one that planned nothing yet, what was there before."""
    conn.execute(
        text("""
            insert into enrichment.plan_nights
                (partition_date, as_of, contacts_cap, batches, contacts_stale, coverage_before)
            values (:day, :as_of, :cap, :batches, :stale, cast(:coverage as jsonb))
            on conflict (partition_date) do update set as_of = excluded.as_of,
                contacts_stale = excluded.contacts_stale,
                coverage_before = excluded.coverage_before
        """),
        {
            "day": day,
            "as_of": night.as_of,
            "cap": night.contacts_cap,
            "batches": night.batches,
            "stale": night.contacts_stale,
            "coverage": as_json([coverage])[1:-1],
        },
    )


def write_rows(conn: Connection, day: date, cap: int, batches: int) -> int:
    """Add the most valuable contacts that the date's plan lacks, up to `cap` in all.

    Order: weight, then missing before a change of job before unknown age before old, then age, then
    contact_id. Returns the number of contacts added.
    """
    return int(
        conn.execute(
            text("""
                with best as (
                    select distinct on (contact_id) contact_id, weight, urgency, observed_at
                    from plan_selectable order by contact_id, urgency, observed_at nulls first
                ), planned as (
                    select count(distinct contact_id) as contacts, coalesce(max(rank), 0) as rank
                    from enrichment.plan_rows where partition_date = :day
                ), ranked as (
                    select contact_id, row_number() over (
                        order by weight desc nulls last, urgency, observed_at nulls first,
                                 contact_id) as place
                    from best
                ), chosen as (
                    -- In the order of persons, to whom every row refers: pages come back.
                    select s.contact_id, s.person_id, s.field, s.urgency,
                           planned.rank + r.place as rank
                    from planned
                    join ranked as r on r.place <= :cap - planned.contacts
                    join plan_selectable as s using (contact_id)
                    order by s.person_id, s.contact_id, s.field
                ), added as (
                    insert into enrichment.plan_rows
                        (partition_date, contact_id, person_id, field, reason, rank, batch)
                    select :day, contact_id, person_id, field,
                           (cast(:reasons as text[]))[urgency + 1], rank,
                           (select p.bucket % :batches from enrichment.persons as p
                            where p.person_id = chosen.person_id)
                    from chosen
                    returning contact_id
                )
                select count(distinct contact_id) from added
            """),
            {"day": day, "cap": cap, "batches": batches, "reasons": list(REASONS)},
        ).scalar_one()
    )


def planned(conn: Connection, day: date) -> dict[str, Any]:
    """Return a date's plan in numbers: contacts, persons, (contact, field) by field and reason."""
    totals = conn.execute(
        text("""
            select count(distinct contact_id) as contacts, count(distinct person_id) as persons
            from enrichment.plan_rows where partition_date = :day
        """),
        {"day": day},
    ).one()
    rows = conn.execute(
        text("""
            select field, reason, count(*) as number from enrichment.plan_rows
            where partition_date = :day group by field, reason order by field, reason
        """),
        {"day": day},
    ).all()
    fields: dict[str, int] = {}
    reasons: dict[str, int] = {}
    for row in rows:
        fields[row.field] = fields.get(row.field, 0) + row.number
        reasons[row.reason] = reasons.get(row.reason, 0) + row.number
    return {
        "contacts": totals.contacts,
        "persons": totals.persons,
        "fields": fields,
        "reasons": reasons,
    }
