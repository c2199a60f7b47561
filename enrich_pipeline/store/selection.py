"""Which fields are stale, and which of them can be bought where.

Contacts are looked at from the top of the ranking, as many as a night may take and some more, and
judged at once, in temporary tables that end with the transaction. What the providers offer comes in
as JSON, made by `waterfall/planning.py`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from sqlalchemy import Connection, text

from enrich_pipeline.domain.enrichment import Field
from enrich_pipeline.store import freshness
from enrich_pipeline.store.answers import KNOWN_MISSES
from enrich_pipeline.store.rows import as_json

ANY_PROVIDER: Final = "*"
"""The provider of a skip that no single provider caused."""

SAMPLE_PERCENT: Final = 1
"""Of all contacts: by these is guessed where in the ranking those of a night end."""
SAMPLE_AT_LEAST: Final = 1_000
"""Contacts of a sample from which a guess is good enough."""


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


def look(conn: Connection, fields: Mapping[str, int], as_of: datetime, contacts: int) -> bool:
    """Fill `plan_looked` with the `contacts` that rank first, and `plan_stale` with their fields.

    Returns whether these are all contacts with a stale field. `fields` are those that are bought,
    with their `stale_after_days`. Left out are locked fields, and personal e-mail of contacts
    without consent.

    `plan_looked` has a row per contact, ranked as if all its stale fields could be bought: what it
    turns out to be worth is never more. `plan_stale` has one per (contact, stale field).
    """
    conn.execute(text("drop table if exists plan_looked, plan_stale"))
    ranking = _ranking(fields)
    parameters = freshness.moments(fields, as_of) | {"contacts": contacts}
    read = f"""
        create temp table plan_looked on commit drop as
        select f.*, {ranking["urgency"]} as urgency, {ranking["oldest"]} as oldest
        from {freshness.stale(fields, fields)} where {ranking["urgency"]} is not null <cutoff>
        order by f.weight desc nulls last, urgency, oldest, f.contact_id
        limit :contacts
    """  # noqa: S608  (fragments of our own)
    cutoff = _find_cutoff(conn, fields, as_of, contacts)
    if cutoff:
        before = f"and ({', '.join(ranking.values())}) <= {_CUTOFF}"
        found = conn.execute(text(read.replace("<cutoff>", before)), parameters | cutoff).rowcount
        if found < contacts:
            conn.execute(text("drop table plan_looked"))
            cutoff = None
    if not cutoff:
        found = conn.execute(text(read.replace("<cutoff>", "")), parameters).rowcount
    conn.execute(text("analyze plan_looked"))
    conn.execute(text(_STALE))
    for field in fields:
        conn.execute(
            text(f"""
                insert into plan_stale
                select contact_id, person_id, :field, weight, {field}_at, {field}_wanted
                from plan_looked where {field}_wanted is not null
            """),  # noqa: S608  (a field of ours)
            {"field": field},
        )
    conn.execute(text("analyze plan_stale"))
    return found < contacts


def _ranking(fields: Iterable[str]) -> dict[str, str]:
    """Return what ranks the contacts of `freshness.stale`, first comes the least, as expressions.

    `urgency` is null of a contact without anything to buy. `oldest` may be of another field than
    the most urgent one: it is never more than what the ranking goes by in the end.
    """
    wanted = ", ".join(["cast(null as integer)", *(f"f.{field}_wanted" for field in fields)])
    moments = (
        f"case when f.{field}_wanted is not null then coalesce(f.{field}_at, '-infinity') end"
        for field in fields
    )
    return {
        "weight": "coalesce(-f.weight, 'Infinity')",
        "urgency": f"least({wanted})",
        "oldest": f"least({', '.join(['cast(null as timestamptz)', *moments])})",
        "contact_id": "f.contact_id",
    }


def _find_cutoff(
    conn: Connection, fields: Mapping[str, int], as_of: datetime, contacts: int
) -> dict[str, Any] | None:
    """Return where in the ranking twice as many as `contacts` end, by a sample, if that can tell.

    It spares sorting all where almost all contacts have something to buy.
    """
    place = contacts * SAMPLE_PERCENT * 2 // 100
    if place < SAMPLE_AT_LEAST:
        return None
    ranking = _ranking(fields)
    sample = f"tablesample system ({SAMPLE_PERCENT}) repeatable (0)"
    row = conn.execute(
        text(f"""
            select cast({ranking["weight"]} as text) as weight, {ranking["urgency"]} as urgency,
                cast({ranking["oldest"]} as text) as oldest, f.contact_id
            from {freshness.stale(fields, fields, sample)}
            where {ranking["urgency"]} is not null
            order by {", ".join(ranking.values())} offset :place limit 1
        """),  # noqa: S608  (fragments of our own)
        freshness.moments(fields, as_of) | {"place": place},
    ).one_or_none()
    return (
        None if row is None else {f"cutoff_{name}": value for name, value in row._mapping.items()}
    )


_CUTOFF: Final = """(cast(:cutoff_weight as numeric), :cutoff_urgency,
    cast(:cutoff_oldest as timestamptz), :cutoff_contact_id)"""

_STALE: Final = """
    create temp table plan_stale (contact_id text, person_id bigint, field text, weight numeric,
        observed_at timestamptz, urgency integer) on commit drop
"""


def narrow(conn: Connection, fields: Collection[Field]) -> tuple[int, int]:
    """Leave only these fields in `plan_stale`; return the contacts and persons that it holds then.

    For prices: what a night plans is never narrowed.
    """
    conn.execute(
        text("delete from plan_stale where field <> all(cast(:fields as text[]))"),
        {"fields": [field.value for field in fields]},
    )
    contacts, persons = conn.execute(
        text("select count(distinct contact_id), count(distinct person_id) from plan_stale")
    ).one()
    return contacts, persons


def judge(conn: Connection, offers: Sequence[JudgedOffer], memory: Memory) -> None:
    """Work out which stale fields can be bought where.

    Fills `plan_wanted`, one row per (person, field) with `blocked_by` and `is_live`, and
    `plan_judged`, one per provider of its waterfall with the reason against asking it, or null.

    A provider can be asked when the person has what it requires and it holds no live answer or miss
    of theirs. A miss lives while every identifying input that is known now was sent then.
    """
    _judge(conn, offers, memory, "w.blocked_by is null")


def select(
    conn: Connection, offers: Sequence[JudgedOffer], memory: Memory, day: date, cap: int
) -> bool:
    """Fill `plan_selectable`: what of `plan_stale` can be bought and is not in the date's plan yet.

    `plan_judged` is filled as by `judge`, but only for those (person, field) of which it is in
    doubt whether anybody can be asked, `plan_unselectable` with those of which it turns out that
    nobody can. Returns whether those that were not looked at cannot come before the contacts that
    the date's plan has room for, up to `cap` in all.
    """
    _judge(conn, offers, memory, _DOUBTFUL)
    for statement in _SELECT:
        conn.execute(text(statement), {"day": day} if ":day" in statement else {})
    return bool(conn.execute(text(_IS_SETTLED), {"day": day, "cap": cap}).scalar_one())


def _judge(conn: Connection, offers: Sequence[JudgedOffer], memory: Memory, which: str) -> None:
    parameters = {
        "now": memory.now,
        "found_days": memory.found_days,
        "not_found_days": memory.not_found_days,
        "max_failures": memory.max_failures,
        "misses": sorted(KNOWN_MISSES),
        "offers": _offers_json(offers),
    }
    conn.execute(text("drop table if exists plan_wanted, plan_memory, plan_eligible, plan_judged"))
    for statement in (
        _WANTED,
        "analyze plan_wanted",
        _MEMORY,
        "create index on plan_memory (person_id, provider, product, options)",
        "analyze plan_memory",
        _ELIGIBLE,
        _JUDGED.replace("<which>", which),
        "analyze plan_judged",
    ):
        used = {name: value for name, value in parameters.items() if f":{name}" in statement}
        conn.execute(text(statement), used)


DATAPOINTS: Final = (
    "first_name", "last_name", "full_name", "email", "linkedin", "company_name", "company_domain",
    "company_linkedin", "country", "lance_id", "prospeo_id", "apollo_id",
)  # fmt: skip
"""What may be known of a person; `present` has a bit for each, in this order."""


def datapoints(present: int) -> tuple[str, ...]:
    """Return the names behind `present`."""
    return tuple(name for bit, name in enumerate(DATAPOINTS) if present >> bit & 1)


_PRESENT: Final = " + ".join(
    f"cast(i.{name} is not null as integer) * {1 << bit}" for bit, name in enumerate(DATAPOINTS)
)

# In the order of persons, who are looked up one by one in tables of millions: pages come back.
# A finished field that is stale all the same is not opened again before its time. One that stopped
# at an accepted answer (`position` within its waterfall) would be answered by the same answer; one
# that ran out of providers by the same misses. Something new about the person, a provider that was
# not in its waterfall, or one that failed or was not available opens it before.
_WANTED: Final = """
    create temp table plan_wanted on commit drop as
    select w.person_id, w.field, i.personal_email_consent as consented, i.is_blocked, i.identity,
        <present> as present,
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
             when u.field is not null then 'asked_already'
             end as blocked_by
    from (
        select person_id, array_agg(distinct field) as fields
        from plan_stale group by person_id order by person_id
    ) as p
    join enrichment.person_inputs as i using (person_id)
    cross join lateral (select p.person_id, unnest(p.fields) as field) as w
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
    left join (
        select distinct m.merged_into as person_id, under_way.field
        from enrichment.enrichments as under_way join enrichment.persons as m using (person_id)
        where under_way.state in ('pending', 'in_doubt') and m.merged_into is not null
    ) as u on (u.person_id, u.field) = (w.person_id, w.field)
""".replace("<present>", _PRESENT)


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


_OFFERS: Final = """
    select * from jsonb_to_recordset(cast(:offers as jsonb)) as o(
        field text, provider text, consented boolean, position integer, reason text,
        product text, options text, requires integer[], identity text[], brought jsonb)
"""

# Persons with the same datapoints are alike to every provider: eligibility is worked out once per
# pattern of datapoints, of which there are some hundred.
_ELIGIBLE: Final = """
    create temp table plan_eligible on commit drop as
    select distinct p.present, o.field, o.consented, o.provider, o.reason is null as is_sold
    from (<offers>) as o
    cross join lateral unnest(o.requires) as needed
    join (select distinct present from plan_wanted) as p on p.present & needed = needed
""".replace("<offers>", _OFFERS)

# Of persons of whom no provider remembers anything the pattern alone decides.
_DOUBTFUL: Final = """
    w.blocked_by is null and not w.is_live and (
        w.person_id in (select person_id from plan_memory)
        or (w.present, w.field, w.consented) not in (
            select present, field, consented from plan_eligible where is_sold))
"""

_JUDGED: Final = """
    create temp table plan_judged on commit drop as
    select w.person_id, w.field, o.provider, o.position, o.product,
        coalesce(
            o.reason,
            case when m.holds_for is null or holds.all_sent then m.reason end,
            case when e.present is null then 'not_eligible' end,
            brought.reason) as reason
    from plan_wanted as w
    join (<offers>) as o on o.field = w.field and o.consented = w.consented
    left join plan_eligible as e on (e.present, e.field, e.provider, e.consented)
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
    where <which>
""".replace("<offers>", _OFFERS)

_SELECT: Final = (
    "drop table if exists plan_unselectable, plan_selectable",
    """
    create temp table plan_unselectable on commit drop as
    select w.person_id, w.field from plan_wanted as w
    where <doubtful> and not exists (
        select from plan_judged as j
        where j.person_id = w.person_id and j.field = w.field and j.reason is null)
    """.replace("<doubtful>", _DOUBTFUL),
    "analyze plan_unselectable",
    """
    create temp table plan_selectable on commit drop as
    select s.* from plan_stale as s join plan_wanted as w using (person_id, field)
    where w.blocked_by is null
      and not exists (
          select from plan_unselectable as u
          where u.person_id = s.person_id and u.field = s.field)
      and s.contact_id not in (
          select contact_id from enrichment.plan_rows where partition_date = :day)
    """,
    "analyze plan_selectable",
)

_IS_SETTLED: Final = """
    with last as (
        select weight, urgency, oldest, contact_id from plan_looked
        order by weight nulls first, urgency desc, oldest desc, contact_id desc limit 1
    ), before as (
        select s.contact_id
        from plan_selectable as s cross join last
        where (coalesce(-s.weight, 'Infinity'), s.urgency, coalesce(s.observed_at, '-infinity'),
               s.contact_id)
           <= (coalesce(-last.weight, 'Infinity'), last.urgency, last.oldest, last.contact_id)
        group by s.contact_id
    )
    select (select count(*) from before)
        >= :cap - (select count(distinct contact_id) from enrichment.plan_rows
                   where partition_date = :day)
"""


def write_skips(
    conn: Connection, day: date, fields: Mapping[str, int], as_of: datetime, *, is_full: bool
) -> dict[str, int]:
    """Record why stale fields cannot be bought; return (person, field) by reason.

    One row per provider of the waterfall; where the reason is not a provider's (suppressed,
    answered, no consent), one row for all. Of a night that `is_full` only of the contacts that were
    looked at: who ranks below them needs no reason. Else of all contacts, those too that lack
    nothing but a personal e-mail for which nobody may look.
    """
    _find_unconsented(conn, fields, as_of, is_full=is_full)
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


def _find_unconsented(
    conn: Connection, fields: Mapping[str, int], as_of: datetime, *, is_full: bool
) -> None:
    """Fill `plan_unconsented`: the persons whose personal e-mail is stale and stays so."""
    conn.execute(text("create temp table plan_unconsented (person_id bigint) on commit drop"))
    asked = {field: days for field, days in fields.items() if field == Field.PERSONAL_EMAIL}
    if not asked:
        return
    if is_full:
        conn.execute(
            text("""
                insert into plan_unconsented
                select distinct person_id from plan_looked join plan_wanted as w using (person_id)
                where personal_email_urgency is not null and not w.consented and not w.is_blocked
            """)
        )
        return
    conn.execute(
        text(f"""
            insert into plan_unconsented
            select distinct person_id
            from {freshness.stale(asked)} join enrichment.person_inputs as i using (person_id)
            where personal_email_urgency is not null
              and not i.personal_email_consent and not i.is_blocked
        """),  # noqa: S608  (fragments of our own)
        freshness.moments(asked, as_of),
    )


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
                "requires": [
                    sum(1 << DATAPOINTS.index(name) for name in set(needed))
                    for needed in offer.requires
                ],
                "identity": list(offer.identity),
                "brought": [dict(b) for b in offer.brought],
            }
        )
    return as_json(rows)
