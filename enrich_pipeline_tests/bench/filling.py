"""Contacts as `enrich load` leaves them, put into an empty database by set-based SQL.

Loading a file cleans and resolves contact by contact, half an hour for a million. These contacts
are clean and share nothing, so that every table follows from their rows.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, text

from enrich_pipeline.domain.policy import Policy
from enrich_pipeline.intake.source import CHUNK, find_source
from enrich_pipeline.store import merge, persons
from enrich_pipeline.store.contacts import copy_into, driver

from ..support.lab import contact

_COLUMNS = (*contact(0), "personal_email_consent")
_ROWS = (
    f"create temp table row ({', '.join(f'{column} text' for column in _COLUMNS)}, "
    "number bigint generated always as identity) on commit drop"
)
_CONTACTS = (
    """
    insert into crm.contacts (contact_id, first_name, last_name, full_name, email, linkedin_url,
        company_name, company_domain, country_code, lance_person_id, personal_email_consent,
        updated_at)
    select contact_id, first_name, last_name, first_name || ' ' || last_name, email, linkedin_url,
        company_name, company_domain, country_code, lance_person_id,
        personal_email_consent::boolean, updated_at::timestamptz
    from row order by number
    """,
    """
    insert into crm.contact_rows (contact_id, source, line, content)
    select contact_id, 'contacts.csv', number + 1, to_jsonb(row) - 'number' from row order by number
    """,
    """
    insert into enrichment.persons (person_id) select number from row order by number
    """,
    """
    alter table enrichment.persons alter person_id restart with {next}
    """,
    """
    insert into enrichment.contacts (contact_id, person_id, first_name, last_name, full_name, email,
        linkedin_slug, company_name, company_domain, country_code, lance_person_id,
        personal_email_consent, do_not_enrich, updated_at, problems, is_role_mailbox,
        name_at_company, source_key, source_hash, seen_at)
    select r.contact_id, row.number, r.first_name, r.last_name, r.full_name, r.email,
        split_part(r.linkedin_url, '/in/', 2), r.company_name, r.company_domain, r.country_code,
        r.lance_person_id, true, false, r.updated_at, '[]', false,
        lower(r.full_name) || '@' || r.company_domain, r.contact_id, {hash}, now()
    from crm.contacts as r join row using (contact_id) order by row.number
    """,
    """
    insert into enrichment.contact_identifiers (kind, value, contact_id)
    select kind, value, contact_id
    from enrichment.contacts cross join lateral (values
        ('email', email), ('linkedin', linkedin_slug), ('lance', lance_person_id)
    ) as carried (kind, value)
    order by 1, 2
    """,
    """
    insert into enrichment.person_identifiers (kind, value, hash, person_id)
    select kind, value, enrichment.identity_hash(kind, value), person_id
    from enrichment.contact_identifiers join enrichment.contacts using (contact_id)
    order by 1, 2
    """,
    """
    insert into enrichment.contact_persons (contact_id, person_id, reason)
    select contact_id, person_id, 'alone' from enrichment.contacts order by person_id
    """,
    """
    analyze crm.contacts, enrichment.contacts, enrichment.persons, enrichment.contact_identifiers,
        enrichment.person_identifiers, enrichment.contact_persons
    """,
)


def fill(engine: Engine, policy: Policy, numbers: Iterable[int]) -> None:
    """Put these people in, each a contact and a person of its own."""
    with engine.begin() as conn:
        people = _put(conn, policy, numbers)
    chunks = [people[start : start + CHUNK] for start in range(0, len(people), CHUNK)]
    for first, chunk in zip(range(1, len(people) + 1, CHUNK), chunks, strict=True):
        with engine.begin() as conn:
            persons.refresh_inputs(conn, range(first, first + len(chunk)))
    for chunk in chunks:
        with engine.begin() as conn:
            merge.remerge(conn, policy, sorted(chunk), datetime.now(UTC))


def _put(conn: Connection, policy: Policy, numbers: Iterable[int]) -> list[str]:
    people = []
    conn.execute(text(_ROWS))
    with driver(conn).cursor() as cursor, cursor.copy(copy_into("row", _COLUMNS)) as copy:
        for number in numbers:
            row = contact(number, personal_email_consent="true")
            people.append(row["contact_id"])
            copy.write_row([row[column] for column in _COLUMNS])
    hashed = find_source(conn, policy).hash.as_string(driver(conn))
    for statement in _CONTACTS:
        conn.exec_driver_sql(
            statement.replace("{hash}", hashed).replace("{next}", str(len(people) + 1))
        )
    return people
