"""Which fields of the contacts are filled, verified and stale: now, then, or as a night ends."""

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Final

from sqlalchemy import Connection, text

from enrich_pipeline.store import freshness
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
    return survey(conn, fields, (), as_of)[0]


def survey(
    conn: Connection, fields: Mapping[str, int], bought: Collection[str], as_of: datetime
) -> tuple[dict[str, Any], int]:
    """Return the coverage, and how many contacts have a stale field that is bought: in one pass.

    Of the second number are left out locked fields, and personal e-mail of contacts without
    consent.
    """
    counts = "".join(
        f"""
        count(f.{field}) as {field}_filled,
        count(*) filter (where f.{field}) as {field}_verified,
        count(f.{field}_urgency) as {field}_stale,
        """
        for field in fields
    )
    wanted = ", ".join(["null", *(f"f.{field}_wanted" for field in bought)])
    row = (
        conn.execute(
            text(f"""
                select {counts} count(*) as contacts, count(coalesce({wanted})) as contacts_stale
                from {freshness.stale(fields, bought)}
            """),  # noqa: S608  (fragments of our own)
            freshness.moments(fields, as_of),
        )
        .mappings()
        .one()
    )
    found = {
        field: {
            "filled": row[f"{field}_filled"],
            "verified": row[f"{field}_verified"],
            "stale": row[f"{field}_stale"],
            "contacts": row["contacts"],
        }
        for field in fields
    }
    return found, row["contacts_stale"]


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
