"""What an erasure writes, table by table; when and for whom is `store/erasure.py`."""

from typing import Final

# In this order: what points to something goes before it. A contact that was once taken for this
# person, and split off, keeps its own rows without what it showed of the person meanwhile.
_TEMPLATES: Final = (
    ("crm.contacts", "delete from crm.contacts where <of contact>"),
    ("crm.contact_rows", "delete from crm.contact_rows where <of contact>"),
    (
        "analytics.fct_contact_changes",
        """
        delete from analytics.fct_contact_changes
        where <of contact>
           or contact_version_id = any(array(
               select contact_version_id from analytics.dim_contact_history where <of person>))
           or contact_id = any(array(
                  select contact_id from enrichment.contact_persons where <of person>))
              and (old_value = any(cast(:values as text[]))
                   or new_value = any(cast(:values as text[])))
        """,
    ),
    (
        "analytics.dim_contact_history",
        "delete from analytics.dim_contact_history where <of contact> or <of person>",
    ),
    # Before the rows that it follows, whose trigger would leave nothing to count and to vacuum.
    ("enrichment.freshness", "delete from enrichment.freshness where <of contact>"),
    ("analytics.dim_contacts", "delete from analytics.dim_contacts where <of contact>"),
    (
        "enrichment.observations",
        """
        update enrichment.observations
        set value = null, confidence = null, erased_at = :now, is_winner = false,
            rejected_reason = case when rejected_reason = 'other_person' then rejected_reason end
        where value is not null and (
            <of person>
            -- What a provider said of this person when it was asked about somebody else.
            or rejected_reason = 'other_person' and value = any(cast(:values as text[]))
               and attribute in ('work_email', 'personal_email', 'phone', 'linkedin_url'))
        """,
    ),
    (
        "enrichment.enrichments",
        """
        update enrichment.enrichments set closed_identity = null,
            state = case when state = 'open' then 'expired' else state end,
            next_provider = case when state <> 'open' then next_provider end,
            wait_reason = null,
            closed_at = case when state = 'open' then clock_timestamp() else closed_at end
        where <of person>
        """,
    ),
    (
        "enrichment.charge_lines",
        """
        update enrichment.charge_lines set sent_identity = '{}',
            external_id = case when state in ('held', 'in_doubt', 'written_off')
                then external_id end
        where <of person>
        """,
    ),
    (
        "enrichment.replies",
        """
        update enrichment.replies set responses = null
        where call_id = any(cast(:calls as bigint[])) and applied_at is not null
          and responses is not null
        """,
    ),
    (
        "enrichment.inbox",
        """
        update enrichment.inbox as i set body = null
        where i.state <> 'new' and i.body is not null and i.delivery_id in (
            select d.delivery_id from enrichment.calls as c
            join enrichment.inbox as d
                on (d.provider, d.token_hash) = (c.provider, c.token_hash)
            where c.call_id = any(cast(:calls as bigint[]))
            union all
            select d.delivery_id from enrichment.inbox as d
            where d.reason = 'unknown_token' and (
                d.token_hash in (select token_hash from enrichment.calls
                                 where call_id = any(cast(:calls as bigint[])))
                or exists (
                    select from unnest(cast(:values as text[])) as v
                    where position(convert_to(v, 'UTF8') in d.body) > 0)))
        """,
    ),
    (
        "enrichment.calls",
        """
        update enrichment.calls as c set request_body = null, erased_at = :now,
            items = (
                select jsonb_agg(case
                    when cast(item ->> 'person_id' as bigint) = any(cast(:persons as bigint[]))
                    then item || jsonb_build_object('consent', false, 'datapoints',
                        jsonb_strip_nulls(jsonb_build_object(c.provider || '_id',
                            item -> 'datapoints' -> (c.provider || '_id'))))
                    else item end order by place)
                from jsonb_array_elements(c.items) with ordinality as i(item, place))
        where call_id = any(cast(:calls as bigint[]))
        """,
    ),
    (
        "enrichment.plan_rows",
        """
        update enrichment.plan_rows
        set contact_id = format('erased:%s:%s', person_id,
                array_position(cast(:contacts as text[]), contact_id)),
            state = case when state = 'waiting' then 'blocked' else state end,
            closed_at = coalesce(closed_at, clock_timestamp())
        -- The key begins with the date.
        where <of contact>
          and partition_date = any(array(select partition_date from enrichment.plan_nights))
        """,
    ),
    ("enrichment.value_locks", "delete from enrichment.value_locks where <of contact>"),
    (
        "enrichment.suspected_duplicates",
        """
        delete from enrichment.suspected_duplicates
        where <of contact> or other_contact_id = any(cast(:contacts as text[]))
        """,
    ),
    (
        "enrichment.person_splits",
        """
        update enrichment.person_splits
        set contact_ids = array(
                select unnest(contact_ids) except select unnest(cast(:contacts as text[]))),
            other_contact_ids = array(
                select unnest(other_contact_ids) except select unnest(cast(:contacts as text[])))
        where contact_ids && cast(:contacts as text[])
           or other_contact_ids && cast(:contacts as text[])
        """,
    ),
    (
        "enrichment.contact_identifiers",
        "delete from enrichment.contact_identifiers where <of contact>",
    ),
    ("enrichment.contact_persons", "delete from enrichment.contact_persons where <of contact>"),
    ("enrichment.contacts", "delete from enrichment.contacts where <of contact>"),
    (
        "enrichment.person_identifiers",
        "delete from enrichment.person_identifiers where <of person>",
    ),
    (
        "enrichment.provider_identities",
        "delete from enrichment.provider_identities where <of person>",
    ),
    (
        "enrichment.person_inputs",
        """
        update enrichment.person_inputs
        set first_name = null, last_name = null, full_name = null, email = null, linkedin = null,
            company_name = null, company_domain = null, company_linkedin = null, country = null,
            lance_id = null, prospeo_id = null, apollo_id = null, personal_email_consent = false,
            is_blocked = true, blocked_reason = 'erased', identity = '{}',
            updated_at = clock_timestamp()
        where <of person>
        """,
    ),
    (
        "enrichment.persons",
        "update enrichment.persons set erased_at = :now where <of person> and erased_at is null",
    ),
)

STATEMENTS: Final = tuple(
    (
        table,
        template.replace("<of contact>", "contact_id = any(cast(:contacts as text[]))").replace(
            "<of person>", "person_id = any(cast(:persons as bigint[]))"
        ),
    )
    for table, template in _TEMPLATES
)
"""(table, statement) in order. Parameters: persons, contacts, calls, values, now."""
