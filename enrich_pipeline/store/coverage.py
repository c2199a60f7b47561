"""Which fields of the contacts are filled, verified and stale: now, then, or as a night ends."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final

from sqlalchemy import Connection, text

from enrich_pipeline.store.rows import as_json
from enrich_pipeline.store.scorecard import NO_SEGMENT

FIELDS_OF_CONTACT: Final = """
    cross join lateral (values
        ('work_email', d.work_email is not null, d.work_email_status, d.work_email_observed_at,
            d.is_work_email_outdated and d.work_email is not null),
        ('phone', d.phone is not null, d.phone_status, d.phone_observed_at, false),
        ('personal_email', d.personal_email is not null, d.personal_email_status,
            d.personal_email_observed_at, false),
        ('profile', d.job_title is not null and d.company_name is not null, d.profile_status,
            d.profile_observed_at, false)
    ) as v(field, is_filled, status, observed_at, is_outdated)
    join jsonb_to_recordset(cast(:fields as jsonb)) as f(field text, stale_after_days integer)
        on f.field = v.field
    cross join lateral (select
        not v.is_filled or v.is_outdated or v.observed_at is null
        or v.observed_at <= cast(:as_of as timestamptz) - make_interval(days => f.stale_after_days)
        as is_stale
    ) as s
"""

EXISTED: Final = "(c.created_at is null or c.created_at <= :as_of)"

_COUNTS: Final = f"""
    count(*) as contacts,
    count(*) filter (where v.is_filled) as filled,
    count(*) filter (where v.is_filled and v.status = 'verified') as verified,
    count(*) filter (where s.is_stale) as stale
    from analytics.dim_contacts as d
    join enrichment.contacts as c using (contact_id)
    {FIELDS_OF_CONTACT}
    where {EXISTED}
"""


def coverage(conn: Connection, fields: Mapping[str, int], as_of: datetime) -> dict[str, Any]:
    """Return {field: {filled, verified, stale, contacts}} over the contacts that existed then.

    `fields` maps each field to its `stale_after_days`; a missing value is stale too.
    """
    rows = conn.execute(
        text(f"""
            select v.field, {_COUNTS} group by v.field order by v.field
        """),
        {"fields": fields_json(fields), "as_of": as_of},
    )
    found = {
        row.field: {
            "filled": row.filled,
            "verified": row.verified,
            "stale": row.stale,
            "contacts": row.contacts,
        }
        for row in rows
    }
    nothing = {"filled": 0, "verified": 0, "stale": 0, "contacts": 0}
    return {field: found.get(field, nothing) for field in fields}


def freeze(
    conn: Connection, fields: Mapping[str, int], as_of: datetime, nights: Sequence[date]
) -> None:
    """Write the coverage as of now into the closing `nights`, and by segment into the mart."""
    parameters = {
        "fields": fields_json(fields),
        "as_of": as_of,
        "nights": list(nights),
        "no_segment": NO_SEGMENT,
    }
    for statement in _FREEZE:
        conn.execute(statement, {k: v for k, v in parameters.items() if f":{k}" in str(statement)})


_FREEZE: Final = tuple(
    text(statement)
    for statement in (
        "delete from analytics.mart_coverage where date = any(cast(:nights as date[]))",
        f"""
        insert into analytics.mart_coverage
            (date, segment, field, contacts, filled, verified, stale)
        select night.date, counted.*
        from unnest(cast(:nights as date[])) as night (date)
        cross join (
            select coalesce(d.segment, :no_segment), v.field, {_COUNTS} group by 1, 2
        ) as counted
        """,  # noqa: S608  (fragments of our own)
        """
        update enrichment.plan_nights as n
        set closed_at = :as_of, coverage_after = (
            select coalesce(jsonb_object_agg(field, jsonb_build_object('filled', filled,
                'verified', verified, 'stale', stale, 'contacts', contacts)), '{}')
            from (
                select field, sum(contacts) as contacts, sum(filled) as filled,
                    sum(verified) as verified, sum(stale) as stale
                from analytics.mart_coverage where date = n.partition_date
                group by field
            ) as counted
        )
        where n.partition_date = any(cast(:nights as date[]))
        """,
    )
)


def fields_json(fields: Mapping[str, int]) -> str:
    return as_json({"field": f, "stale_after_days": days} for f, days in fields.items())
