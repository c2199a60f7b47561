"""What is known of a person, with sources: what somebody gets who asks for their data.

One document per request; its shape is `SECTIONS`. What a provider said about somebody else when it
was asked for this person is that person's, and is counted without its values.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, text

from enrich_pipeline.store.erasure import Person

_MEMBERS: Final = """
    select person_id from enrichment.persons
    where person_id = any(cast(:roots as bigint[])) or merged_into = any(cast(:roots as bigint[]))
"""
_CONTACTS: Final = f"""
    select contact_id from enrichment.contacts where person_id in ({_MEMBERS})
"""  # noqa: S608  (fragments of our own, here and below)

SECTIONS: Final[Mapping[str, str]] = {
    # As the source has them; `row` is the latest raw row of a loaded file, `left_out` why.
    "contacts": f"""
        select c.contact_id, to_jsonb(c) - array['source_hash', 'person_id', 'name_at_company']
            as source, r.source as file, r.loaded_at, r.content as row, r.problems as left_out
        from enrichment.contacts as c left join crm.contact_rows as r using (contact_id)
        where c.person_id in ({_MEMBERS}) order by c.contact_id
    """,  # noqa: S608
    # What is shown now, and every version of it before.
    "current": f"""
        select d.* from analytics.dim_contacts as d where d.contact_id in ({_CONTACTS})
        order by d.contact_id
    """,  # noqa: S608
    "history": f"""
        select h.* from analytics.dim_contact_history as h where h.contact_id in ({_CONTACTS})
        order by h.contact_id, h.valid_from
    """,  # noqa: S608
    "identifiers": f"""
        select kind, value, first_seen_at from enrichment.person_identifiers
        where person_id in ({_MEMBERS})
        union all
        select provider || '_id', external_id, seen_at from enrichment.provider_identities
        where person_id in ({_MEMBERS})
        order by 1, 2
    """,  # noqa: S608
    "values": f"""
        select o.attribute as field, o.value, o.status, o.confidence, o.provider, o.observed_at,
            o.recorded_at, o.is_winner, o.rejected_reason,
            coalesce('asked for to keep ' || a.field || ' true', 'came with another answer')
                as purpose,
            c.partition_date as night
        from enrichment.observations as o
        join enrichment.calls as c using (call_id)
        left join enrichment.attempts as a on a.attempt_id = o.attempt_id
        where o.person_id in ({_MEMBERS}) and o.value is not null
          and o.rejected_reason is distinct from 'other_person'
        order by o.observed_at, o.observation_id
    """,  # noqa: S608
    "attempts": f"""
        select a.provider, a.field, a.outcome, a.requested_at, a.responded_at,
            a.partition_date as night
        from enrichment.attempts as a where a.person_id in ({_MEMBERS})
        order by a.attempt_id
    """,  # noqa: S608
    # Sent and not closed: what the provider has been given.
    "open_requests": f"""
        select c.provider, c.state, c.armed_at as sent_at, item -> 'datapoints' as sent
        from enrichment.calls as c cross join jsonb_array_elements(c.items) as item
        where c.call_id in (select call_id from enrichment.charge_lines
                            where person_id in ({_MEMBERS}))
          and cast(item ->> 'person_id' as bigint) in ({_MEMBERS})
        order by c.call_id
    """,  # noqa: S608
    "about_somebody_else": f"""
        select o.provider, o.attribute as field, o.recorded_at
        from enrichment.observations as o
        where o.person_id in ({_MEMBERS}) and o.rejected_reason = 'other_person'
        order by o.observation_id
    """,  # noqa: S608
    "consents": f"""
        select contact_id, personal_email_consent, do_not_enrich, seen_at as read_at
        from enrichment.contacts where person_id in ({_MEMBERS}) order by contact_id
    """,  # noqa: S608
    "suppression": f"""
        select is_blocked, blocked_reason, updated_at as since from enrichment.person_inputs
        where person_id in ({_MEMBERS}) order by person_id
    """,  # noqa: S608
    "locks": f"""
        select contact_id, field, reason, locked_at from enrichment.value_locks
        where contact_id in ({_CONTACTS}) order by contact_id, field
    """,  # noqa: S608
    "joins": f"""
        select contact_id, person_id, valid_from, valid_to, reason
        from enrichment.contact_persons
        where contact_id in ({_CONTACTS}) order by contact_id, valid_from
    """,  # noqa: S608
}
"""Section -> the query of its rows."""


def export(conn: Connection, persons: Sequence[Person], now: datetime) -> dict[str, Any]:
    """Return the document: `exported_at`, `persons` (ids), and a list of rows per section.

    Times are ISO 8601 in UTC. The number of statements is that of the sections.
    """
    roots = [person.person_id for person in persons]
    document: dict[str, Any] = {"exported_at": now.isoformat(), "persons": roots}
    for section, query in SECTIONS.items():
        rows = conn.execute(
            text(f"select to_jsonb(r) from ({query}) as r"),  # noqa: S608  (from above)
            {"roots": roots},
        ).scalars()
        document[section] = list(rows)
    return document
