"""The merge as set-based SQL: keeps `analytics.dim_contacts`, its history, and who won and why not.

Locks the contacts, gathers what is known of them, decides with the one statement of
`store/merge_statement.py`, and has `store/history.py` write what changed as versions. When contacts
are merged, and what else a night writes, is decided by the callers.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, text

from enrich_pipeline.domain.enrichment import ATTRIBUTES, Field
from enrich_pipeline.domain.merge import CRM, CRM_RANK, OTHER_PROVIDER_RANK, source_rank
from enrich_pipeline.domain.policy import Policy
from enrich_pipeline.store import history, locks
from enrich_pipeline.store.merge_statement import MERGE
from enrich_pipeline.store.statistics import planned_anew

REASONS: Final = (
    "older",
    "less_verified",
    "former_employer",
    "same_value",
    "incomplete",
    "source_order",
    "crm_kept",
    "locked",
    "no_consent",
    "no_contact",
    "invalid",
)
"""Why an observation lost. Any other reason was set when the answer was stored, and excludes it."""


def remerge(conn: Connection, policy: Policy, contact_ids: Sequence[str], now: datetime) -> int:
    """Recompute these contacts, and all others of their persons; return how many got a new version.

    Writes only what differs: merging twice leaves the tables as they were after the first time.
    Contacts that the source no longer holds leave `dim_contacts`; their last version is closed.
    A new version is valid from `now`, or from just after the one before where that is later. The
    contacts stay locked, taken in the order of their ids, until the caller's transaction ends;
    callers cut long lists, in that order, into transactions of some thousand contacts.
    """
    if not contact_ids:
        return 0
    # A sync locks contacts in the order in which it meets their persons: never beside a merge.
    locks.share(conn, locks.PERSONS)
    conn.execute(text("set local jit = off"))
    with planned_anew(conn):
        ids = list(conn.execute(_LOCK, {"ids": list(contact_ids)}).scalars())
        parameters = {"ids": ids, "now": now, **_parameters(policy)}
        conn.execute(_REMOVE, parameters)
        conn.execute(_LEFT_ALONE, parameters)
        history.prepare(conn)
        for statement in _GATHER:
            conn.execute(statement, parameters)
        conn.execute(MERGE, parameters)
        return history.write(conn, now)


def _parameters(policy: Policy) -> dict[str, object]:
    ranks = [
        {"attribute": attribute, "provider": provider, "rank": source_rank(provider, f.waterfall)}
        for field, f in policy.fields.items()
        for attribute in ATTRIBUTES[field]
        for provider in f.waterfall
    ]
    bought = [
        {"field": field, "stale_after_days": policy.fields[field].stale_after_days}
        for field in Field
        if policy.waterfall(field)
    ]
    return {
        "ranks": json.dumps(ranks),
        "bought": json.dumps(bought),
        "not_found_days": policy.reuse.not_found_days,
        "reasons": list(REASONS),
        "crm": CRM,
        "crm_rank": CRM_RANK,
        "other_rank": OTHER_PROVIDER_RANK,
    }


_LOCK: Final = text("""
    with named as (
        select distinct coalesce(p.merged_into, p.person_id) as person_id
        from enrichment.contacts as c
        join enrichment.persons as p on p.person_id = c.person_id
        where c.contact_id = any(cast(:ids as text[]))
    ), members as (
        select person_id from named
        union
        select p.person_id
        from named as n join enrichment.persons as p on p.merged_into = n.person_id
    )
    select c.contact_id
    from enrichment.contacts as c
    where c.contact_id in (
        select unnest(cast(:ids as text[]))
        union
        select mate.contact_id
        from members join enrichment.contacts as mate on mate.person_id = members.person_id
    )
    order by c.contact_id
    for no key update
""")

_REMOVE: Final = text("""
    with gone as (
        delete from analytics.dim_contacts as d
        using enrichment.contacts as c
        where c.contact_id = d.contact_id and c.removed_at is not null
          and d.contact_id = any(cast(:ids as text[]))
        returning d.contact_id
    )
    update analytics.dim_contact_history as h
    set valid_to = greatest(cast(:now as timestamptz), h.valid_from + interval '1 microsecond')
    from gone
    where h.contact_id = gone.contact_id and h.is_current
""")

# Values of persons whose last contact left, or went over to another person.
_LEFT_ALONE: Final = text("""
    with concerned as (
        select person_id from enrichment.contacts where contact_id = any(cast(:ids as text[]))
        union
        select person_id from enrichment.contact_persons
        where contact_id = any(cast(:ids as text[]))
    ), alone as (
        select person_id from concerned as p
        where not exists (
            select from enrichment.contacts as c
            where c.person_id = p.person_id and c.removed_at is null)
          and not exists (
            select from enrichment.persons as m
            join enrichment.contacts as c on c.person_id = m.person_id
            where m.merged_into = p.person_id and c.removed_at is null)
    )
    update enrichment.observations as o
    set is_winner = false, rejected_reason = 'no_contact'
    from alone
    where o.person_id = alone.person_id and o.erased_at is null
      and (o.is_winner or o.rejected_reason is null)
""")

# Gathered into tables of their own and analyzed: rows of a moment ago have no statistics, and the
# guesses made without them end in loops over loops (minutes instead of a second, measured).
_GATHER: Final = tuple(
    text(statement)
    for statement in (
        """
drop table if exists merging_target, merging_members, merging_observed, merging_answers
        """,
        """
create temp table merging_target on commit drop as
    select
        c.*,
        coalesce(p.merged_into, c.person_id) as root,
        c.do_not_enrich or coalesce(i.is_blocked, false) as is_suppressed,
        coalesce(c.created_at, p.created_at) as known_since,
        coalesce(locked.fields, '{}') as locks
    from unnest(cast(:ids as text[])) as given (contact_id)
    join enrichment.contacts as c on c.contact_id = given.contact_id
    left join enrichment.persons as p on p.person_id = c.person_id
    left join enrichment.person_inputs as i on i.person_id = coalesce(p.merged_into, c.person_id)
    left join lateral (
        select array_agg(l.field) as fields
        from enrichment.value_locks as l where l.contact_id = c.contact_id
    ) as locked on true
    where c.removed_at is null
        """,
        "analyze merging_target",
        """
create temp table merging_members on commit drop as
with roots as materialized (
    select distinct root from merging_target where root is not null
)
    select root, root as person_id from roots
    union all
    select r.root, p.person_id
    from roots as r join enrichment.persons as p on p.merged_into = r.root
        """,
        "analyze merging_members",
        """
create temp table merging_observed on commit drop as
    select
        m.root,
        o.observation_id,
        o.line_id,
        o.attribute,
        o.value,
        o.status,
        o.provider,
        o.observed_at,
        o.is_winner,
        o.rejected_reason,
        o.won_at,
        o.call_id,
        o.attribute in ('job_title', 'company_name', 'company_domain', 'location') as is_unit,
        o.status <> 'invalid' and o.value ~ '[^[:space:]]' as is_usable,
        case
            when o.status = 'verified' then 0
            when o.attribute in ('job_title', 'company_name', 'company_domain', 'location')
                then case when o.status = 'unknown' then 0 else 2 end
            when o.status = 'catch_all' then 1
            else 2
        end as standing,
        coalesce(r.rank, :other_rank) as source_rank
    from merging_members as m
    join enrichment.observations as o on o.person_id = m.person_id
    left join jsonb_to_recordset(cast(:ranks as jsonb))
        as r (attribute text, provider text, rank integer)
        on r.attribute = o.attribute and r.provider = o.provider
    where o.erased_at is null
      and (o.rejected_reason is null or o.rejected_reason = any(cast(:reasons as text[])))
        """,
        "analyze merging_observed",
        """
create temp table merging_answers on commit drop as
    select
        m.root, e.field, e.enrichment_id, e.state, e.result, e.closed_at,
        a.provider, a.outcome, a.responded_at
    from merging_members as m
    join enrichment.enrichments as e on e.person_id = m.person_id
    left join enrichment.attempts as a
        on a.enrichment_id = e.enrichment_id and a.outcome <> 'reused'
        and a.outcome not in ('pending', 'in_doubt')
        """,
        "analyze merging_answers",
    )
)
