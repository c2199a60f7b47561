"""Which value wins, as one statement over thousands of contacts.

`domain/merge.py` specifies the same for one contact in plain Python; a property test holds the two
together. Reads the tables that `store/merge.py` gathers, and leaves in those of `store/history.py`
what became another version.
"""

from typing import Final

from sqlalchemy import TextClause, text

from enrich_pipeline.store import history
from enrich_pipeline.store.history import VALUES


def _statement(template: str) -> TextClause:
    """Write the lists of columns into a statement, from the one list of the history."""
    differs = ", ".join(
        f"case when m.{c} is distinct from coalesce(d.{c}, false) then '{c}' end"
        if c.startswith("is_")
        else f"case when m.{c} is distinct from d.{c} then '{c}' end"
        for c in VALUES
    )
    lists = {
        "<columns>": ", ".join(VALUES),
        "<m.columns>": ", ".join(f"m.{c}" for c in VALUES),
        "<assignments>": ", ".join(f"{c} = excluded.{c}" for c in VALUES),
        "<differs>": differs,
    }
    for name, columns in lists.items():
        template = template.replace(name, columns)
    return text(template)


MERGE: Final = _statement(
    """
-- profiles: one unit per reply, and the CRM's own
with parts as (
    select distinct on (line_id, attribute, root) *
    from merging_observed
    where is_unit and is_usable
    order by line_id, attribute, root, standing, observed_at desc, source_rank, observation_id
), reported as materialized (
    select
        root,
        line_id,
        (array_agg(provider order by standing, observation_id))[1] as source,
        (array_agg(status order by standing, observation_id))[1] as status,
        (array_agg(source_rank order by standing, observation_id))[1] as source_rank,
        min(standing) as standing,
        max(observed_at) as observed_at,
        max(value) filter (where attribute = 'job_title') as job_title,
        max(value) filter (where attribute = 'company_name') as company_name,
        max(value) filter (where attribute = 'company_domain') as company_domain,
        max(value) filter (where attribute = 'location') as location,
        max(observation_id) filter (where attribute = 'job_title') as job_title_id,
        max(observation_id) filter (where attribute = 'company_name') as company_name_id,
        max(observation_id) filter (where attribute = 'company_domain') as company_domain_id,
        max(observation_id) filter (where attribute = 'location') as location_id
    from parts
    group by root, line_id
), units as (
    select
        t.contact_id, u.line_id, u.source, u.status, u.source_rank, u.standing, u.observed_at,
        u.job_title, u.company_name, u.company_domain, u.location,
        u.job_title_id, u.company_name_id, u.company_domain_id, u.location_id,
        false as is_locked
    from merging_target as t join reported as u on u.root = t.root
    union all
    select
        t.contact_id, 0, :crm,
        case when t.profile_verified_at is null then 'unverified' else 'verified' end,
        :crm_rank,
        case when t.profile_verified_at is null then 2 else 0 end,
        t.profile_verified_at,
        t.job_title, t.company_name, t.company_domain, null,
        null, null, null, null,
        'profile' = any(t.locks)
    from merging_target as t
    where coalesce(t.job_title, t.company_name, t.company_domain) is not null
), full_units as (
    select
        *,
        case
            when job_title is not null and company_name is not null then 3
            when coalesce(company_name, company_domain) is not null then 2
            when job_title is not null then 1
            else 0
        end as fullness
    from units
), ranked as (
    select
        *,
        row_number() over best as place,
        first_value(company_name) over best as best_name,
        first_value(company_domain) over best as best_domain,
        first_value(observed_at) over best as best_observed_at
    from full_units
    window best as (
        partition by contact_id
        order by is_locked desc, fullness desc, standing, observed_at desc nulls last, source_rank,
                 line_id desc
    )
), placed as materialized (
    select
        *,
        <same employer> as is_same,
        best_observed_at is not null and (observed_at is null or observed_at < best_observed_at)
            as is_before
    from ranked
), profiles as materialized (
    select
        contact_id,
        max(source) filter (where place = 1) as source,
        max(status) filter (where place = 1) as status,
        max(observed_at) filter (where place = 1) as observed_at,
        max(line_id) filter (where place = 1) as line_id,
        max(standing) filter (where place = 1) as standing,
        max(fullness) filter (where place = 1) as fullness,
        bool_or(is_locked) as is_locked,
        max(array[job_title_id, company_name_id, company_domain_id, location_id])
            filter (where place = 1) as own_ids,
        (array_agg(job_title order by place)
            filter (where job_title is not null and is_same is not false))[1] as job_title,
        (array_agg(job_title_id order by place)
            filter (where job_title is not null and is_same is not false))[1] as job_title_id,
        (array_agg(company_name order by place)
            filter (where company_name is not null and is_same is not false))[1] as company_name,
        (array_agg(company_name_id order by place)
            filter (where company_name is not null and is_same is not false))[1] as company_name_id,
        (array_agg(company_domain order by place)
            filter (where company_domain is not null and is_same is not false))[1]
            as company_domain,
        (array_agg(company_domain_id order by place)
            filter (where company_domain is not null and is_same is not false))[1]
            as company_domain_id,
        (array_agg(location order by place)
            filter (where location is not null and is_same is not false))[1] as location,
        (array_agg(location_id order by place)
            filter (where location is not null and is_same is not false))[1] as location_id,
        array_agg(distinct lower(company_domain)) filter (
            where company_domain is not null and is_same) as present_domains,
        array_agg(distinct lower(company_domain)) filter (
            where company_domain is not null and not is_same and is_before) as former_domains
    from placed
    group by contact_id
),

-- values that are won one by one
offered as (
    select
        t.contact_id, o.attribute, o.value, o.status, o.provider as source, o.observed_at,
        o.source_rank, o.line_id, o.observation_id, o.standing, false as is_kept,
        case
            when not o.is_usable then 'invalid'
            when o.attribute = 'personal_email' and not t.personal_email_consent then 'no_consent'
        end as excluded
    from merging_target as t
    join merging_observed as o on o.root = t.root and not o.is_unit
    union all
    select
        t.contact_id, own.attribute, own.value,
        case when own.verified_at is null then 'unverified' else 'verified' end,
        :crm, own.verified_at, :crm_rank, 0, 0,
        case when own.verified_at is null then 2 else 0 end,
        own.field = any(t.locks) or own.attribute = 'linkedin_url',
        null
    from merging_target as t
    cross join lateral (values
        ('work_email', 'work_email', t.email, t.email_verified_at),
        ('phone', 'phone', t.phone, t.phone_verified_at),
        ('personal_email', 'personal_email', t.personal_email, t.personal_email_verified_at),
        ('profile', 'linkedin_url', 'https://www.linkedin.com/in/' || t.linkedin_slug,
         t.profile_verified_at)
    ) as own (field, attribute, value, verified_at)
    where own.value is not null
), candidates as materialized (
    select
        o.contact_id, o.attribute, o.value, o.status, o.source, o.observed_at, o.source_rank,
        o.line_id, o.observation_id, o.is_kept, o.excluded,
        at_former.employer as is_former,
        case when at_former.employer then 3 else o.standing end as standing
    from offered as o
    left join profiles as pr on pr.contact_id = o.contact_id
    cross join lateral (select '.' || lower(split_part(o.value, '@', 2)) as value) as host
    cross join lateral (select
        o.attribute = 'work_email'
        and not exists (
            select from unnest(pr.present_domains || lower(pr.company_domain)) as d (domain)
            where right(host.value, length(d.domain) + 1) = '.' || d.domain)
        and exists (
            select from unnest(pr.former_domains) as d (domain)
            where right(host.value, length(d.domain) + 1) = '.' || d.domain
        ) as employer
    ) as at_former
), winners as materialized (
    select distinct on (contact_id, attribute) *
    from candidates
    where excluded is null
    order by contact_id, attribute, is_kept desc, standing, observed_at desc nulls last,
             source_rank, line_id desc, observation_id
),

-- why the others lost: per contact, then per observation
losses as (
    select
        c.contact_id,
        c.observation_id,
        w.observation_id is not distinct from c.observation_id as is_winner,
        case
            when c.excluded is not null then c.excluded
            when w.value = c.value then 'same_value'
            when w.is_kept and c.attribute = 'linkedin_url' then 'crm_kept'
            when w.is_kept then 'locked'
            when c.standing = 3 and w.standing < 3 then 'former_employer'
            when c.standing > w.standing then 'less_verified'
            when c.observed_at < w.observed_at then 'older'
            else 'source_order'
        end as reason
    from candidates as c
    left join winners as w on w.contact_id = c.contact_id and w.attribute = c.attribute
    where c.observation_id > 0
    union all
    select
        t.contact_id,
        o.observation_id,
        o.observation_id in (
            pr.job_title_id, pr.company_name_id, pr.company_domain_id, pr.location_id),
        case
            when not o.is_usable then 'invalid'
            when o.value = case o.attribute
                when 'job_title' then pr.job_title
                when 'company_name' then pr.company_name
                when 'company_domain' then pr.company_domain
                else pr.location
            end then 'same_value'
            when pr.is_locked then 'locked'
            when not u.is_same and u.is_before then 'former_employer'
            when u.fullness < pr.fullness then 'incomplete'
            when u.standing > pr.standing then 'less_verified'
            when u.observed_at < pr.observed_at then 'older'
            else 'source_order'
        end
    from merging_target as t
    join merging_observed as o on o.root = t.root and o.is_unit
    left join profiles as pr on pr.contact_id = t.contact_id
    left join placed as u on u.contact_id = t.contact_id and u.line_id = o.line_id
), verdicts as (
    select distinct on (observation_id)
        observation_id, coalesce(is_winner, false) as is_winner, reason
    from losses
    order by observation_id, coalesce(is_winner, false) desc, contact_id
), judged as (
    update enrichment.observations as o
    set is_winner = v.is_winner,
        rejected_reason = case when not v.is_winner then v.reason end,
        won_at = coalesce(o.won_at, case when v.is_winner then cast(:now as timestamptz) end)
    from verdicts as v
    join merging_observed as b on b.observation_id = v.observation_id
    where o.observation_id = v.observation_id
      and (b.is_winner, b.rejected_reason)
          is distinct from (v.is_winner, case when not v.is_winner then v.reason end)
), marked as (
    -- What wins for the first time, be it years later, changes what its own night was good for.
    insert into enrichment.mart_dirty_partitions (partition_date, batch)
    select distinct c.partition_date, c.batch
    from verdicts as v
    join merging_observed as b on b.observation_id = v.observation_id
    join enrichment.calls as c on c.call_id = b.call_id
    where v.is_winner and b.won_at is null
    order by c.partition_date, c.batch
    on conflict (partition_date, batch) do update set marked_at = clock_timestamp()
),

-- when to look again
refreshed as (
    select root, max(responded_at) as at from merging_answers group by root
), closed as (
    select distinct on (root, field) root, field, result, closed_at
    from merging_answers
    where state = 'finished'
    order by root, field, closed_at desc, enrichment_id desc
), misses as (
    select c.root, c.field,
           coalesce(min(known.until), c.closed_at + make_interval(days => :not_found_days)) as until
    from closed as c
    left join (
        select root, field, provider,
               max(responded_at) + make_interval(days => :not_found_days) as until
        from merging_answers
        where outcome in ('not_found', 'other_person')
        group by root, field, provider
    ) as known on known.root = c.root and known.field = c.field and known.until > c.closed_at
    where c.result = 'not_found'
    group by c.root, c.field, c.closed_at
),

merged as materialized (
    select
        t.contact_id,
        t.root as person_id,
        t.first_name,
        t.last_name,
        t.full_name,
        we.value as work_email,
        we.status as work_email_status,
        we.source as work_email_source,
        we.observed_at as work_email_observed_at,
        coalesce(we.is_former, false) as is_work_email_outdated,
        ph.value as phone,
        ph.status as phone_status,
        ph.source as phone_source,
        ph.observed_at as phone_observed_at,
        pe.value as personal_email,
        pe.status as personal_email_status,
        pe.source as personal_email_source,
        pe.observed_at as personal_email_observed_at,
        pr.job_title,
        pr.company_name,
        pr.company_domain,
        li.value as linkedin_url,
        pr.location,
        t.country_code,
        t.segment,
        pr.status as profile_status,
        pr.source as profile_source,
        pr.observed_at as profile_observed_at,
        t.is_suppressed,
        refreshed.at as last_refreshed_at,
        case when not t.is_suppressed then due.at end as next_refresh_at,
        nullif(we.observation_id, 0) as work_email_id,
        nullif(ph.observation_id, 0) as phone_id,
        nullif(pe.observation_id, 0) as personal_email_id,
        nullif(li.observation_id, 0) as linkedin_url_id,
        li.status as linkedin_url_status,
        pr.job_title_id,
        pr.company_name_id,
        pr.company_domain_id,
        pr.location_id,
        pr.own_ids,
        case when t.profile_verified_at is null then 'unverified' else 'verified' end
            as own_profile_status
    from merging_target as t
    left join winners as we on we.contact_id = t.contact_id and we.attribute = 'work_email'
    left join winners as ph on ph.contact_id = t.contact_id and ph.attribute = 'phone'
    left join winners as pe on pe.contact_id = t.contact_id and pe.attribute = 'personal_email'
    left join winners as li on li.contact_id = t.contact_id and li.attribute = 'linkedin_url'
    left join profiles as pr on pr.contact_id = t.contact_id
    left join refreshed on refreshed.root = t.root
    left join misses as we_miss on we_miss.root = t.root and we_miss.field = 'work_email'
    left join misses as ph_miss on ph_miss.root = t.root and ph_miss.field = 'phone'
    left join misses as pe_miss on pe_miss.root = t.root and pe_miss.field = 'personal_email'
    left join misses as pr_miss on pr_miss.root = t.root and pr_miss.field = 'profile'
    cross join lateral (
        select min(greatest(
            f.miss_until,
            coalesce(f.confirmed_at + make_interval(days => b.stale_after_days), t.known_since)
        )) as at
        from jsonb_to_recordset(cast(:bought as jsonb)) as b (field text, stale_after_days integer)
        join (values
            ('work_email', case when not we.is_former then we.observed_at end, we_miss.until),
            ('phone', ph.observed_at, ph_miss.until),
            ('personal_email', pe.observed_at, pe_miss.until),
            ('profile',
             case when pr.fullness = 3 then pr.observed_at end,
             pr_miss.until)
        ) as f (field, confirmed_at, miss_until) on f.field = b.field
        where f.field <> all(t.locks) and (f.field <> 'personal_email' or t.personal_email_consent)
    ) as due
), changes as materialized (
    select
        m.contact_id,
        d.contact_id is null as is_new,
        (m.last_refreshed_at, m.next_refresh_at)
            is distinct from (d.last_refreshed_at, d.next_refresh_at) as is_rescheduled,
        array_remove(array[<differs>], null) as changed
    from merged as m
    left join analytics.dim_contacts as d on d.contact_id = m.contact_id
), written as (
    insert into analytics.dim_contacts (contact_id, <columns>, last_refreshed_at, next_refresh_at)
    select m.contact_id, <m.columns>, m.last_refreshed_at, m.next_refresh_at
    from merged as m
    join changes as c on c.contact_id = m.contact_id
    where c.is_new or c.is_rescheduled or c.changed <> '{}'
    on conflict (contact_id) do update
    set <assignments>,
        last_refreshed_at = excluded.last_refreshed_at,
        next_refresh_at = excluded.next_refresh_at
), versions as (
    insert into merging_versions (contact_id, changed_fields, is_job_change)
    select m.contact_id, c.changed, <job change>
    from changes as c
    join merged as m on m.contact_id = c.contact_id
    left join analytics.dim_contacts as d on d.contact_id = c.contact_id
    where c.is_new or c.changed <> '{}'
    returning contact_id, is_job_change
)
insert into merging_changes
    (contact_id, field, kind, old_value, new_value, status, observation_id)
select
    v.contact_id, f.field, k.kind, f.old_value, f.new_value,
    case when f.new_value is not null then
        case when f.is_unit then m.own_profile_status else f.status end
    end,
    f.observation_id
from versions as v
join merged as m on m.contact_id = v.contact_id
left join analytics.dim_contacts as d on d.contact_id = v.contact_id
<fields>
<kinds>
where k.kind is not null
""".replace("<job change>", history.IS_JOB_CHANGE)
    .replace("<same employer>", history.same_employer("company_{}", "best_{}"))
    .replace("<fields>", history.FIELDS)
    .replace("<kinds>", history.KINDS)
)
