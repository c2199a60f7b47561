"""How a change of a contact becomes a version, and rows that say what changed and who said so.

The statement of `store/merge_statement.py` decides what a contact is now (`m`) and sees what it
was (`d`). The fragments below tell what that means, and `write` puts it into
`analytics.dim_contact_history` and `analytics.fct_contact_changes`. One row per version and field:

- job_change: title, employer, domain or location changed together with the employer, by a later
  sighting; the same company under another spelling or legal form is no other employer;
- filled, lost, corrected: there was no value, there is none any more, there is another one;
- confirmed: the same value, reported again by the reply that won, later or now verified.

Of a first version only what providers brought is a change. What a status, a source or a time alone
did is in the version's `changed_fields`.
"""

from datetime import datetime
from typing import Final

from sqlalchemy import Connection, text

from enrich_pipeline.domain.merge import CRM

VALUES: Final = (
    "person_id", "first_name", "last_name", "full_name",
    "work_email", "work_email_status", "work_email_source", "work_email_observed_at",
    "is_work_email_outdated",
    "phone", "phone_status", "phone_source", "phone_observed_at",
    "personal_email", "personal_email_status", "personal_email_source",
    "personal_email_observed_at",
    "job_title", "company_name", "company_domain", "linkedin_url", "location", "country_code",
    "segment",
    "profile_status", "profile_source", "profile_observed_at",
    "is_suppressed",
)  # fmt: skip
"""Columns that make a version: a change of any of them is a new row of the history."""


def prepare(conn: Connection) -> None:
    """Make the temporary tables into which a merge writes what it found changed."""
    for statement in _PREPARE:
        conn.execute(statement)


def write(conn: Connection, now: datetime) -> int:
    """Close and open versions for what the merge left in the temporary tables; return how many.

    A new version is valid from `now`, or from just after the one before where that is later.
    """
    conn.execute(_CLOSE, {"now": now})
    opened = conn.execute(_OPEN, {"now": now}).rowcount
    if opened:
        conn.execute(_RECORD, {"crm": CRM})
    return opened


_PREPARE: Final = tuple(
    text(statement)
    for statement in (
        "drop table if exists merging_versions, merging_changes",
        """
        create temp table merging_versions (
            contact_id text, changed_fields text[], is_job_change boolean
        ) on commit drop
        """,
        """
        create temp table merging_changes (
            contact_id text, field text, kind text, old_value text, new_value text, status text,
            observation_id bigint
        ) on commit drop
        """,
    )
)

_SAME_EMPLOYER: Final = """
    case
        when lower({domain}) = lower({other_domain}) then true
        when lower({name}) = lower({other_name}) then true
        -- One name is how the other begins, with or without the spaces between its words.
        when exists (
            select
            from (values (
                regexp_split_to_array(lower({name}), '[[:punct:][:space:]]+'),
                regexp_split_to_array(lower({other_name}), '[[:punct:][:space:]]+')
            )) as w (one, other)
            cross join lateral (values (w.one, w.other), (w.other, w.one)) as n (long, short)
            cross join generate_series(1, cardinality(n.long)) as k
            where array_to_string(n.long[1:k], '') = nullif(array_to_string(n.short, ''), '')
        ) then true
        when {domain} is not null and {other_domain} is not null then false
        when {name} is not null and {other_name} is not null then false
    end
"""


def same_employer(one: str, other: str) -> str:
    """Return the condition that two sightings name one company; null where neither can be said.

    Each is its company's name and domain, with `{}` in place of what is to be read of it. `merge`
    in `domain/merge.py` compares employers alike: an address that the merge takes for a former
    employer's would otherwise be bought anew although nobody changed jobs.
    """
    columns = {"name": one.format("name"), "domain": one.format("domain")}
    others = {"other_name": other.format("name"), "other_domain": other.format("domain")}
    return _SAME_EMPLOYER.format(**columns, **others)


IS_JOB_CHANGE: Final = f"""
    d.contact_id is not null
    and m.profile_observed_at is not null
    and coalesce(m.profile_observed_at > d.profile_observed_at, true)
    and ({same_employer("m.company_{}", "d.company_{}")}) is false
"""

_FIELD: Final = (
    "('{c}', d.{c}, m.{c}, d.{of}_status, m.{of}_status, d.{of}_observed_at, m.{of}_observed_at, "
    "m.{c}_id, {is_own}, {is_unit})"
)
_ROWS: Final = (
    *(
        _FIELD.format(c=c, of=c, is_own="true", is_unit="false")
        for c in ("work_email", "phone", "personal_email")
    ),
    *(
        _FIELD.format(c=c, of="profile", is_own=f"m.{c}_id = any(m.own_ids)", is_unit="true")
        for c in ("job_title", "company_name", "company_domain", "location")
    ),
    "('linkedin_url', d.linkedin_url, m.linkedin_url, null, m.linkedin_url_status, null, null, "
    "m.linkedin_url_id, true, false)",
    *(
        f"('{c}', d.{c}, m.{c}, null, null, null, null, null, true, false)"
        for c in ("first_name", "last_name", "full_name", "country_code", "segment")
    ),
)
FIELDS: Final = f"""
cross join lateral (values
    {", ".join(_ROWS)}
) as f (field, old_value, new_value, old_status, status, old_at, at,
        observation_id, is_own, is_unit)
"""

KINDS: Final = """
cross join lateral (select case
    when d.contact_id is null then case when f.observation_id is not null then 'filled' end
    when f.new_value = f.old_value then case
        when f.is_own and f.observation_id is not null and (
            coalesce(f.at > f.old_at, f.at is not null)
            or f.status = 'verified' and f.old_status <> 'verified'
        ) then 'confirmed'
    end
    when coalesce(f.new_value, f.old_value) is null then null
    when v.is_job_change and f.is_unit then 'job_change'
    when f.old_value is null then 'filled'
    when f.new_value is null then 'lost'
    else 'corrected'
end as kind) as k
"""

_CLOSE: Final = text("""
    update analytics.dim_contact_history as h
    set valid_to = greatest(cast(:now as timestamptz), h.valid_from + interval '1 microsecond')
    from merging_versions as v
    where h.contact_id = v.contact_id and h.valid_to is null
""")

_OPEN: Final = text(
    """
    insert into analytics.dim_contact_history
        (contact_id, <columns>, changed_fields, is_job_change, valid_from)
    select d.contact_id, <d.columns>, v.changed_fields, v.is_job_change,
           greatest(cast(:now as timestamptz), last.closed_at)
    from merging_versions as v
    join analytics.dim_contacts as d on d.contact_id = v.contact_id
    cross join lateral (
        select max(h.valid_to) as closed_at
        from analytics.dim_contact_history as h where h.contact_id = d.contact_id
    ) as last
""".replace("<columns>", ", ".join(VALUES)).replace(
        "<d.columns>", ", ".join(f"d.{c}" for c in VALUES)
    )
)

_RECORD: Final = text("""
    insert into analytics.fct_contact_changes
        (contact_version_id, field, contact_id, kind, old_value, new_value, status, source,
         observation_id, changed_at, partition_date)
    select
        h.contact_version_id, c.field, c.contact_id, c.kind, c.old_value, c.new_value,
        coalesce(o.status, c.status),
        coalesce(o.provider, case when c.new_value is not null then :crm end),
        c.observation_id, h.valid_from, asked.partition_date
    from merging_changes as c
    join analytics.dim_contact_history as h on h.contact_id = c.contact_id and h.valid_to is null
    left join enrichment.observations as o on o.observation_id = c.observation_id
    left join enrichment.calls as asked on asked.call_id = o.call_id
""")
