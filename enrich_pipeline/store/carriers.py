"""Whose identifiers these are: the persons who carry an address, a profile, a number or an id."""

from typing import Final

CARRIERS: Final = """
    wanted as (
        select kind, value
        from jsonb_to_recordset(cast(:identifiers as jsonb)) as i(kind text, value text)
    ), carriers as (
        select c.person_id from wanted as w join enrichment.contacts as c
            on c.contact_id = w.value where w.kind = 'contact'
        union
        select c.person_id from wanted as w join enrichment.contacts as c
            on c.email = w.value where w.kind = 'email'
        union
        select c.person_id from wanted as w join enrichment.contacts as c
            on c.personal_email = w.value where w.kind = 'email'
        union
        select c.person_id from wanted as w join enrichment.contacts as c
            on c.linkedin_slug = w.value where w.kind = 'linkedin'
        union
        select c.person_id from wanted as w join enrichment.contacts as c
            on c.phone = w.value where w.kind = 'phone'
        union
        select c.person_id from wanted
        join enrichment.contact_identifiers using (kind, value)
        join enrichment.contacts as c using (contact_id)
        union
        select o.person_id from wanted as w join enrichment.observations as o
            on o.value = case w.kind when 'linkedin' then 'https://www.linkedin.com/in/' else '' end
                || w.value
        where o.attribute in ('work_email', 'personal_email', 'phone', 'linkedin_url')
          and (w.kind, o.attribute) in (('email', 'work_email'), ('email', 'personal_email'),
                ('phone', 'phone'), ('linkedin', 'linkedin_url'))
          -- A provider's answer about somebody else says nothing of whom it was asked for.
          and o.rejected_reason is distinct from 'other_person'
    ), survivors as (
        select distinct coalesce(p.merged_into, p.person_id) as person_id
        from carriers join enrichment.persons as p using (person_id)
    )
"""
"""CTEs that end in `survivors (person_id)`: who carries one of `:identifiers`, [{kind, value}].

Kinds are contact, email, linkedin and phone. Who was merged into another stands for that one.
"""
