"""Which fields are stale, and which of them can be bought where.

Everything is judged at once for all contacts, in temporary tables that end with the transaction.
What the providers offer comes in as JSON, made by `waterfall/planning.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from sqlalchemy import Connection, text

from enrich_pipeline.store.answers import KNOWN_MISSES
from enrich_pipeline.store.coverage import EXISTED, FIELDS_OF_CONTACT, fields_json
from enrich_pipeline.store.rows import as_json

ANY_PROVIDER: Final = "*"
"""The provider of a skip that no single provider caused."""


@dataclass(frozen=True, slots=True)
class JudgedOffer:
    """What a provider of a field's waterfall sells for it to persons with or without consent.

    `reason` says why it sells nothing (then the rest is empty). `brought` are the products that
    this one buys as well: {product, options, identity, repeat_is_charged}.
    """

    field: str
    provider: str
    consented: bool
    reason: str | None = None
    product: str = ""
    options: str = ""
    requires: tuple[tuple[str, ...], ...] = ()
    identity: tuple[str, ...] = ()
    brought: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Memory:
    """How long answers hold. `now` is the moment of planning, whatever the date."""

    now: datetime
    found_days: int
    not_found_days: int
    max_failures: int


def find_stale(conn: Connection, fields: Mapping[str, int], as_of: datetime) -> int:
    """Fill `plan_stale`, one row per (contact, stale field), and return the number of contacts.

    `plan_unconsented` gets the persons whose personal e-mail nobody may look for.

    `fields` are those that are bought, with their `stale_after_days`. Left out are locked fields,
    and personal e-mail of contacts without consent.
    """
    conn.execute(
        text(f"""
            create temp table plan_stale on commit drop as
            select c.contact_id, c.person_id, v.field, c.weight, v.observed_at,
                   case when not v.is_filled then 'missing' when v.is_outdated then 'job_change'
                        when v.observed_at is null then 'unknown_age' else 'old' end as reason,
                   case when not v.is_filled then 0 when v.is_outdated then 1
                        when v.observed_at is null then 2 else 3 end as urgency
            from analytics.dim_contacts as d
            join enrichment.contacts as c using (contact_id)
            {FIELDS_OF_CONTACT}
            where {EXISTED} and s.is_stale and c.person_id is not null
              and (v.field <> 'personal_email' or c.personal_email_consent)
              and not exists (select from enrichment.value_locks as l
                              where l.contact_id = c.contact_id and l.field = v.field)
        """),  # noqa: S608  (fragments of our own)
        {"fields": fields_json(fields), "as_of": as_of},
    )
    conn.execute(
        text(f"""
            create temp table plan_unconsented on commit drop as
            select distinct i.person_id
            from analytics.dim_contacts as d
            join enrichment.contacts as c using (contact_id)
            join enrichment.person_inputs as i on i.person_id = c.person_id
            {FIELDS_OF_CONTACT}
            where {EXISTED} and s.is_stale and v.field = 'personal_email'
              and not i.personal_email_consent and not i.is_blocked
        """),  # noqa: S608  (fragments of our own)
        {"fields": fields_json(fields), "as_of": as_of},
    )
    conn.execute(text("create index on plan_stale (person_id, field)"))
    conn.execute(text("analyze plan_stale"))
    return int(conn.execute(text("select count(distinct contact_id) from plan_stale")).scalar_one())


def judge(conn: Connection, offers: Sequence[JudgedOffer], memory: Memory) -> None:
    """Work out which stale fields can be bought where.

    Fills `plan_wanted`, one row per (person, field) with `blocked_by` and `is_live`, and
    `plan_judged`, one per provider of its waterfall with the reason against asking it, or null.

    A provider can be asked when the person has what it requires and it holds no live answer or miss
    of theirs. A miss lives while every identifying input that is known now was sent then.
    """
    parameters = {
        "now": memory.now,
        "found_days": memory.found_days,
        "not_found_days": memory.not_found_days,
        "max_failures": memory.max_failures,
        "misses": sorted(KNOWN_MISSES),
    }
    conn.execute(text(_WANTED), parameters | {"offers": _offers_json(offers)})
    conn.execute(text("create index on plan_wanted (person_id, field)"))
    conn.execute(text("analyze plan_wanted"))
    conn.execute(text(_MEMORY), parameters)
    conn.execute(text("create index on plan_memory (person_id, provider, product, options)"))
    conn.execute(text("analyze plan_memory"))
    conn.execute(text(_JUDGED), parameters | {"offers": _offers_json(offers)})
    conn.execute(text("create index on plan_judged (person_id, field)"))
    conn.execute(text("analyze plan_judged"))


# A finished field that is stale all the same is not opened again before its time. One that stopped
# at an accepted answer (`position` within its waterfall) would be answered by the same answer; one
# that ran out of providers by the same misses. Something new about the person, a provider that was
# not in its waterfall, or one that failed or was not available opens it before.
_WANTED: Final = """
    create temp table plan_wanted on commit drop as
    select w.person_id, w.field, i.personal_email_consent as consented, i.identity,
        array_remove(array[
            case when i.first_name is not null then 'first_name' end,
            case when i.last_name is not null then 'last_name' end,
            case when i.full_name is not null then 'full_name' end,
            case when i.email is not null then 'email' end,
            case when i.linkedin is not null then 'linkedin' end,
            case when i.company_name is not null then 'company_name' end,
            case when i.company_domain is not null then 'company_domain' end,
            case when i.company_linkedin is not null then 'company_linkedin' end,
            case when i.country is not null then 'country' end,
            case when i.lance_id is not null then 'lance_id' end,
            case when i.prospeo_id is not null then 'prospeo_id' end,
            case when i.apollo_id is not null then 'apollo_id' end], null) as present,
        coalesce(e.state in ('open', 'pending', 'in_doubt'), false) as is_live,
        case when i.is_blocked then coalesce(i.blocked_reason, 'suppressed')
             when e.state = 'finished' and e.result = 'found'
                  and e.position <= cardinality(e.waterfall)
                  and e.closed_at > cast(:now as timestamptz) - make_interval(days => :found_days)
                  and i.identity <@ coalesce(e.closed_identity, i.identity) then 'answered'
             when e.state = 'finished'
                  and e.closed_at > cast(:now as timestamptz)
                      - make_interval(days => :not_found_days)
                  and i.identity <@ coalesce(e.closed_identity, i.identity)
                  and a.providers <@ e.waterfall
                  and not exists (
                      select from enrichment.attempts as t
                      where t.enrichment_id = e.enrichment_id and t.outcome = 'error')
                  and not exists (
                      select from enrichment.skips as k
                      where (k.partition_date, k.person_id, k.field)
                          = (e.partition_date, e.person_id, e.field)
                        and k.reason like 'unavailable:%') then 'known_miss'
             when exists (
                 select from enrichment.persons as m
                 join enrichment.enrichments as under_way using (person_id)
                 where m.merged_into = w.person_id and under_way.field = w.field
                   and under_way.state in ('pending', 'in_doubt')) then 'asked_already'
             end as blocked_by
    from (select distinct person_id, field from plan_stale) as w
    join enrichment.person_inputs as i using (person_id)
    left join (
        select field, array_agg(distinct provider) as providers
        from jsonb_to_recordset(cast(:offers as jsonb)) as o(field text, provider text)
        group by field
    ) as a on a.field = w.field
    left join lateral (
        select e.enrichment_id, e.partition_date, e.person_id, e.field, e.state, e.result,
            e.closed_at, e.closed_identity, e.position, e.waterfall
        from enrichment.enrichments as e
        where e.person_id = w.person_id and e.field = w.field
        order by e.cycle desc limit 1
    ) as e on true
"""


# What each provider's product last said of a person, and for how long it holds. A call that was
# under way when its person was merged into another finishes under the old id.
_MEMORY: Final = """
    create temp table plan_memory on commit drop as
    with wanted as (
        select distinct person_id from plan_wanted
    ), members as (
        select person_id as member_id, person_id from wanted
        union all
        select p.person_id, p.merged_into
        from enrichment.persons as p join wanted as w on w.person_id = p.merged_into
    ), latest as (
        select distinct on (m.person_id, l.provider, l.product, l.options)
            m.person_id, l.provider, l.product, l.options, l.state, l.verdict, l.answered_at,
            l.settled_at, l.sent_identity,
            count(*) filter (where l.verdict = 'failed') over (
                partition by m.person_id, l.provider, l.product, l.options) as failures
        from members as m join enrichment.charge_lines as l on l.person_id = m.member_id
        where l.state <> 'released' or l.verdict is not null
        order by m.person_id, l.provider, l.product, l.options,
                 l.state in ('held', 'in_doubt') desc, l.line_id desc
    )
    select person_id, provider, product, options,
        case when state in ('held', 'in_doubt') then 'asked_already'
             when verdict = 'found' then 'answered'
             when state = 'written_off' then 'written_off'
             when verdict = 'not_found' then 'known_miss'
             when verdict = 'failed' and failures >= :max_failures then 'failed_before'
             when verdict = 'failed' then 'failed_tonight'
             else verdict end as reason,
        case when verdict = any(cast(:misses as text[])) and state not in ('held', 'in_doubt')
             then sent_identity end as holds_for
    from latest
    where state in ('held', 'in_doubt')
       or verdict = 'found'
          and answered_at > cast(:now as timestamptz) - make_interval(days => :found_days)
       or state = 'written_off'
          and settled_at > cast(:now as timestamptz) - make_interval(days => :not_found_days)
       or verdict = any(cast(:misses as text[])) and state <> 'written_off'
          and answered_at > cast(:now as timestamptz) - make_interval(days => :not_found_days)
       or verdict = 'failed' and (failures >= :max_failures
          or cast(answered_at at time zone 'UTC' as date)
             = cast(cast(:now as timestamptz) at time zone 'UTC' as date))
"""


# Persons with the same datapoints are alike to every provider: eligibility is worked out once per
# pattern of datapoints, of which there are some hundred.
_JUDGED: Final = """
    create temp table plan_judged on commit drop as
    with offers as (
        select * from jsonb_to_recordset(cast(:offers as jsonb)) as o(
            field text, provider text, consented boolean, position integer, reason text,
            product text, options text, requires jsonb, identity text[], brought jsonb)
    ), patterns as (
        select distinct present from plan_wanted
    ), eligible as (
        select distinct p.present, o.field, o.provider, o.consented
        from offers as o
        cross join lateral jsonb_array_elements(o.requires) as needed
        join patterns as p
            on p.present @> array(select jsonb_array_elements_text(needed))
    )
    select w.person_id, w.field, o.provider, o.position, o.product,
        coalesce(
            o.reason,
            case when m.holds_for is null or holds.all_sent then m.reason end,
            case when e.present is null then 'not_eligible' end,
            brought.reason) as reason
    from plan_wanted as w
    join offers as o on o.field = w.field and o.consented = w.consented
    left join eligible as e on (e.present, e.field, e.provider, e.consented)
                             = (w.present, o.field, o.provider, o.consented)
    left join plan_memory as m on (m.person_id, m.provider, m.product, m.options)
                                = (w.person_id, o.provider, o.product, o.options)
    left join lateral (
        select not exists (
            select from unnest(w.identity) as h
            where split_part(h, ':', 1) = any(o.identity) and h <> all(m.holds_for)) as all_sent
        where m.holds_for is not null
    ) as holds on true
    left join lateral (
        select case when b.reason = 'asked_already' then b.reason
                    else 'would_pay_' || b.product || '_twice' end as reason
        from jsonb_to_recordset(o.brought) as k(
            product text, options text, identity text[], repeat_is_charged boolean)
        join plan_memory as b on (b.person_id, b.provider, b.product, b.options)
                               = (w.person_id, o.provider, k.product, k.options)
        where b.reason = 'asked_already' or k.repeat_is_charged and (b.holds_for is null
            or not exists (
                select from unnest(w.identity) as h
                where split_part(h, ':', 1) = any(k.identity) and h <> all(b.holds_for)))
        limit 1
    ) as brought on o.brought <> '[]'
    where w.blocked_by is null
"""


def find_unselectable(conn: Connection) -> None:
    """Fill `plan_unselectable`: stale (person, field) with a reason against every provider."""
    conn.execute(
        text("""
            create temp table plan_unselectable on commit drop as
            select w.person_id, w.field from plan_wanted as w
            where w.blocked_by is null and not w.is_live and not exists (
                select from plan_judged as j
                where j.person_id = w.person_id and j.field = w.field and j.reason is null)
        """)
    )
    conn.execute(text("create index on plan_unselectable (person_id, field)"))
    conn.execute(text("analyze plan_unselectable"))


def write_skips(conn: Connection, day: date) -> dict[str, int]:
    """Record why stale fields cannot be bought; return (person, field) by reason.

    One row per provider of the waterfall; where the reason is not a provider's (suppressed,
    answered, no consent), one row for all.
    """
    conn.execute(
        text("""
            insert into enrichment.skips (partition_date, person_id, field, provider, reason)
            select :day, w.person_id, w.field, :any, w.blocked_by
            from plan_wanted as w where w.blocked_by is not null
            union all
            select :day, j.person_id, j.field, j.provider, j.reason
            from plan_judged as j
            join plan_unselectable as u using (person_id, field)
            union all
            select :day, person_id, 'personal_email', :any, 'no_consent' from plan_unconsented
            on conflict (partition_date, person_id, field, provider) do update
            set reason = excluded.reason, recorded_at = excluded.recorded_at
        """),
        {"day": day, "any": ANY_PROVIDER},
    )
    rows = conn.execute(
        text("""
            select reason, count(*) as number from (
                select blocked_by as reason from plan_wanted
                where blocked_by is not null
                union all
                select (array_agg(j.reason order by j.position))[1]
                from plan_unselectable as u left join plan_judged as j using (person_id, field)
                group by u.person_id, u.field
                union all
                select 'no_consent' from plan_unconsented
            ) as b group by reason order by reason
        """)
    )
    return {row.reason or "no_provider": row.number for row in rows}


def _offers_json(offers: Sequence[JudgedOffer]) -> str:
    places: dict[tuple[str, bool], int] = {}
    rows = []
    for offer in offers:
        key = (offer.field, offer.consented)
        places[key] = places.get(key, 0) + 1
        rows.append(
            {
                "field": offer.field,
                "provider": offer.provider,
                "consented": offer.consented,
                "position": places[key],
                "reason": offer.reason,
                "product": offer.product,
                "options": offer.options,
                "requires": [list(needed) for needed in offer.requires],
                "identity": list(offer.identity),
                "brought": [dict(b) for b in offer.brought],
            }
        )
    return as_json(rows)
