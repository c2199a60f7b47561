"""What may be sent of each person: the best known datapoints, and what forbids sending any.

Kept as one row per person, so that a claim reads no more than that. Who is who is
`store/persons.py`; which of it a provider gets is the provider's own declaration.
"""

from collections.abc import Collection, Sequence
from typing import Final

from sqlalchemy import Connection

from enrich_pipeline.store.history import same_employer
from enrich_pipeline.store.statement import text

KNOWN_BY: Final = """
    SELECT i.identity FROM enrichment.persons AS p
    JOIN enrichment.person_inputs AS i ON i.person_id = coalesce(p.merged_into, p.person_id)
    WHERE p.person_id = e.person_id
"""
"""By what the person of `enrichments AS e` is known now; whoever was merged stands for another."""


def refresh_inputs(conn: Connection, person_ids: Sequence[int]) -> None:
    """Work out what may be sent of each person: the best known value per datapoint.

    Of a person's contacts the most recently updated comes first; both names are one contact's. A
    role mailbox is nobody's address. Without a contact's address or profile the best that was
    observed serves. The company is the contacts', unless a newer observation names another one.
    Suppressed, or with a contact that must not be enriched, a person is blocked: by whatever a
    contact has or a provider has ever said of the person, not only by the best of it. A person who
    was merged away stands for the survivor.
    """
    if not person_ids:
        return
    # In a statement of its own: what is worked out below then sees everything that others, whose
    # work on these rows it waited for, have committed. A consent withdrawn would be lost otherwise.
    conn.execute(text(_LOCK), {"ids": list(person_ids)})
    conn.execute(text(_REFRESH_INPUTS), {"ids": list(person_ids)})


def blocked(conn: Connection, person_ids: Collection[int]) -> frozenset[int]:
    """Those of the persons of whom nothing may be sent."""
    rows = conn.execute(
        text("""
            select person_id from enrichment.person_inputs
            where person_id = any(cast(:ids as bigint[])) and is_blocked
        """),
        {"ids": sorted(person_ids)},
    )
    return frozenset(rows.scalars())


_LOCK: Final = """
    select i.person_id from enrichment.person_inputs as i
    where i.person_id in (
        select coalesce(p.merged_into, p.person_id) from enrichment.persons as p
        where p.person_id = any(cast(:ids as bigint[])))
    order by i.person_id for no key update
"""

_REFRESH_INPUTS: Final = f"""
    with wanted as (
        select distinct coalesce(p.merged_into, p.person_id) as person_id
        from enrichment.persons as p
        -- Of whom was erased nothing is known any more, and that stays blocked.
        where p.person_id = any(cast(:ids as bigint[])) and p.erased_at is null
    ), members as (
        select person_id as member_id, person_id from wanted
        union all
        select p.person_id, p.merged_into
        from enrichment.persons as p join wanted as w on w.person_id = p.merged_into
    ), every_contact as (
        select c.* from enrichment.contacts as c join wanted using (person_id)
    ), live as (
        select c.*, row_number() over (partition by person_id
                   order by updated_at desc nulls last, contact_id) as recency
        from every_contact as c where removed_at is null
    ), named as (
        select distinct on (person_id) person_id, first_name, last_name, full_name
        from live
        where coalesce(first_name, last_name, full_name) is not null
        order by person_id, (first_name is not null and last_name is not null) desc,
                 (full_name is not null) desc, recency
    ), known as (
        select person_id,
            (array_agg(email order by recency)
                filter (where email is not null and not is_role_mailbox))[1] as email,
            (array_agg(linkedin_slug order by recency)
                filter (where linkedin_slug is not null))[1] as linkedin,
            (array_agg(country_code order by recency)
                filter (where country_code is not null))[1] as country,
            (array_agg(lance_person_id order by recency)
                filter (where lance_person_id is not null))[1] as lance_id,
            (array_agg(prospeo_person_id order by recency)
                filter (where prospeo_person_id is not null))[1] as prospeo_id,
            (array_agg(apollo_person_id order by recency)
                filter (where apollo_person_id is not null))[1] as apollo_id,
            bool_or(personal_email_consent) as personal_email_consent
        from live group by person_id
    ), employed as (
        select distinct on (person_id) person_id, company_name, company_domain,
               company_linkedin_url, coalesce(profile_verified_at, updated_at) as known_at
        from live
        where coalesce(company_name, company_domain, company_linkedin_url) is not null
        order by person_id, recency
    ), observed as (
        select m.person_id, o.attribute, o.value, o.status, o.is_winner, o.observed_at,
               o.observation_id, o.line_id
        from members as m join enrichment.observations as o on o.person_id = m.member_id
        where o.value is not null and o.rejected_reason is null and o.status <> 'invalid'
    ), observed_email as (
        select distinct on (person_id) person_id, value from observed
        where attribute = 'work_email'
        order by person_id, is_winner desc, (status = 'verified') desc, observed_at desc,
                 observation_id desc
    ), observed_linkedin as (
        select distinct on (person_id) person_id,
               regexp_replace(value, '^https://www\\.linkedin\\.com/in/', '') as slug
        from observed where attribute = 'linkedin_url'
        order by person_id, observed_at desc, observation_id desc
    ), observed_company as (
        select distinct on (person_id) person_id,
               max(value) filter (where attribute = 'company_name') as company_name,
               max(value) filter (where attribute = 'company_domain') as company_domain,
               max(observed_at) as known_at
        from observed where attribute in ('company_name', 'company_domain')
        group by person_id, line_id
        order by person_id, max(observed_at) desc, line_id desc
    ), company as (
        select person_id, o.person_id is not null and (e.person_id is null
                   or o.known_at > coalesce(e.known_at, '-infinity')) as is_observed,
               coalesce({same_employer("o.company_{}", "e.company_{}")}, false) as is_same,
               e.company_name, e.company_domain, e.company_linkedin_url,
               o.company_name as observed_name, o.company_domain as observed_domain
        from employed as e full join observed_company as o using (person_id)
    ), ids as (
        select m.person_id,
               max(i.external_id) filter (where i.provider = 'lance') as lance_id,
               max(i.external_id) filter (where i.provider = 'prospeo') as prospeo_id,
               max(i.external_id) filter (where i.provider = 'apollo') as apollo_id
        from members as m join enrichment.provider_identities as i on i.person_id = m.member_id
        group by m.person_id
    ), suppressed as (
        -- Whatever became of what a provider said, be it invalid or older than another value: only
        -- of somebody else it tells nothing. Each value once, since hashing is what takes time.
        select distinct k.person_id
        from (
            select person_id, 'contact' as kind, contact_id as value from every_contact
            union select person_id, 'email', email from every_contact
            union select person_id, 'email', personal_email from every_contact
            union select person_id, 'linkedin', linkedin_slug from every_contact
            union select person_id, i.kind, i.value
            from every_contact join enrichment.contact_identifiers as i using (contact_id)
            union select m.person_id, i.provider, i.external_id
            from members as m join enrichment.provider_identities as i on i.person_id = m.member_id
            union select m.person_id,
                case o.attribute when 'linkedin_url' then 'linkedin' else 'email' end,
                case o.attribute when 'linkedin_url'
                    then regexp_replace(o.value, '^https://www\\.linkedin\\.com/in/', '')
                    else o.value end
            from members as m join enrichment.observations as o on o.person_id = m.member_id
            where o.attribute in ('work_email', 'personal_email', 'linkedin_url')
              and o.rejected_reason is distinct from 'other_person'
        ) as k
        join enrichment.suppressions as s on s.hash = enrichment.identity_hash(k.kind, k.value)
        where exists (select from enrichment.suppressions)
    ), refused as (
        select person_id from every_contact group by person_id having bool_or(do_not_enrich)
    ), best as (
        select person_id, n.first_name, n.last_name, n.full_name,
            coalesce(k.email, oe.value) as email,
            coalesce(k.linkedin, ol.slug) as linkedin,
            -- Of the same company a newer observation tells what it tells; the rest stays known.
            case when c.is_observed
                then coalesce(c.observed_name, case when c.is_same then c.company_name end)
                else c.company_name end as company_name,
            case when c.is_observed
                then coalesce(c.observed_domain, case when c.is_same then c.company_domain end)
                else c.company_domain end as company_domain,
            case when c.is_observed and not c.is_same then null
                else c.company_linkedin_url end as company_linkedin,
            k.country,
            coalesce(k.lance_id, i.lance_id) as lance_id,
            coalesce(k.prospeo_id, i.prospeo_id) as prospeo_id,
            coalesce(k.apollo_id, i.apollo_id) as apollo_id,
            coalesce(k.personal_email_consent, false) as personal_email_consent,
            case when r.person_id is not null then 'do_not_enrich'
                 when s.person_id is not null then 'suppressed' end as blocked_reason
        from wanted
        left join named as n using (person_id)
        left join known as k using (person_id)
        left join company as c using (person_id)
        left join observed_email as oe using (person_id)
        left join observed_linkedin as ol using (person_id)
        left join ids as i using (person_id)
        left join refused as r using (person_id)
        left join suppressed as s using (person_id)
    )
    insert into enrichment.person_inputs as old (
        person_id, first_name, last_name, full_name, email, linkedin, company_name, company_domain,
        company_linkedin, country, lance_id, prospeo_id, apollo_id, personal_email_consent,
        is_blocked, blocked_reason, identity, updated_at)
    select person_id, first_name, last_name, full_name, email, linkedin, company_name,
        company_domain, company_linkedin, country, lance_id, prospeo_id, apollo_id,
        personal_email_consent, blocked_reason is not null, blocked_reason,
        array_remove(array[
            enrichment.identity_hash('linkedin', linkedin),
            enrichment.identity_hash('email', email),
            enrichment.identity_hash('company_domain', company_domain),
            enrichment.identity_hash('lance_id', lance_id),
            enrichment.identity_hash('prospeo_id', prospeo_id),
            enrichment.identity_hash('apollo_id', apollo_id)], null),
        clock_timestamp()
    from best order by person_id
    on conflict (person_id) do update set
        first_name = excluded.first_name, last_name = excluded.last_name,
        full_name = excluded.full_name, email = excluded.email, linkedin = excluded.linkedin,
        company_name = excluded.company_name, company_domain = excluded.company_domain,
        company_linkedin = excluded.company_linkedin, country = excluded.country,
        lance_id = excluded.lance_id, prospeo_id = excluded.prospeo_id,
        apollo_id = excluded.apollo_id, personal_email_consent = excluded.personal_email_consent,
        is_blocked = excluded.is_blocked, blocked_reason = excluded.blocked_reason,
        identity = excluded.identity, updated_at = excluded.updated_at
    where (old.first_name, old.last_name, old.full_name, old.email, old.linkedin, old.company_name,
           old.company_domain, old.company_linkedin, old.country, old.lance_id, old.prospeo_id,
           old.apollo_id, old.personal_email_consent, old.blocked_reason, old.identity)
          is distinct from
          (excluded.first_name, excluded.last_name, excluded.full_name, excluded.email,
           excluded.linkedin, excluded.company_name, excluded.company_domain,
           excluded.company_linkedin, excluded.country, excluded.lance_id, excluded.prospeo_id,
           excluded.apollo_id, excluded.personal_email_consent, excluded.blocked_reason,
           excluded.identity)
"""  # noqa: S608  (a fragment of our own)
