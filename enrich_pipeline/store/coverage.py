"""Which fields of the contacts are filled, verified and stale, as of a moment."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, text

from enrich_pipeline.store.rows import as_json

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


def coverage(conn: Connection, fields: Mapping[str, int], as_of: datetime) -> dict[str, Any]:
    """Return {field: {filled, verified, stale, contacts}} over the contacts that existed then.

    `fields` maps each field to its `stale_after_days`; a missing value is stale too.
    """
    rows = conn.execute(
        text(f"""
            select v.field, count(*) as contacts,
                   count(*) filter (where v.is_filled) as filled,
                   count(*) filter (where v.is_filled and v.status = 'verified') as verified,
                   count(*) filter (where s.is_stale) as stale
            from analytics.dim_contacts as d
            join enrichment.contacts as c using (contact_id)
            {FIELDS_OF_CONTACT}
            where {EXISTED}
            group by v.field order by v.field
        """),  # noqa: S608  (fragments of our own)
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


def fields_json(fields: Mapping[str, int]) -> str:
    return as_json({"field": f, "stale_after_days": days} for f, days in fields.items())
