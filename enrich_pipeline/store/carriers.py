"""Whose identifiers these are: the persons who carry an address, a profile, a number or an id."""

from typing import Final

CARRIERS: Final = """
    wanted as (
        select kind, value
        from jsonb_to_recordset(cast(:identifiers as jsonb)) as i(kind text, value text)
    ), carriers as (
        select c.person_id from enrichment.contacts as c join wanted as w
            on (w.kind, w.value) = ('contact', c.contact_id)
            or (w.kind = 'email' and w.value in (c.email, c.personal_email))
            or (w.kind, w.value) = ('linkedin', c.linkedin_slug)
            or (w.kind, w.value) = ('phone', c.phone)
        union
        select c.person_id from wanted
        join enrichment.contact_identifiers using (kind, value)
        join enrichment.contacts as c using (contact_id)
        union
        select o.person_id from enrichment.observations as o join wanted as w
            on (w.kind = 'email' and o.attribute in ('work_email', 'personal_email')
                and o.value = w.value)
            or (w.kind = 'linkedin' and o.attribute = 'linkedin_url'
                and o.value = 'https://www.linkedin.com/in/' || w.value)
            or (w.kind = 'phone' and o.attribute = 'phone' and o.value = w.value)
        -- A provider's answer about somebody else says nothing of whom it was asked for.
        where o.rejected_reason is distinct from 'other_person'
    ), survivors as (
        select distinct coalesce(p.merged_into, p.person_id) as person_id
        from carriers join enrichment.persons as p using (person_id)
    )
"""
"""CTEs that end in `survivors (person_id)`: who carries one of `:identifiers`, [{kind, value}].

Kinds are contact, email, linkedin and phone. Who was merged into another stands for that one.
"""
