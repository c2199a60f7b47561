"""Publishing a partition: what was learned enters the contacts, planned rows close, marts follow.

Incremental without a clock: what has to be merged is an observation that nobody has judged yet (it
neither won nor lost), or a planned row whose enrichment has closed. A partition that was published
has neither, so that publishing it again writes nothing. Which value wins is decided by
`store/merge.py`.
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from sqlalchemy import Connection, Engine, text

from enrich_pipeline.domain.policy import Policy
from enrich_pipeline.store import coverage, locks, marts
from enrich_pipeline.store.merge import remerge
from enrich_pipeline.store.statistics import planned_anew

CHUNK: Final = 5_000
"""Contacts per transaction, give or take the contacts of one person."""


@dataclass(frozen=True, slots=True)
class PublishSummary:
    """What one publishing did, and what of the partition is left.

    `contacts` were merged, `contacts_changed` of them got a new version; `closed`, `found` and
    `waiting` count planned rows (contact, field); `dates` counts the dates whose marts were
    refreshed, `dates_closed` those whose coverage was frozen because nothing of them is open.
    """

    contacts: int
    contacts_changed: int
    closed: int
    found: int
    waiting: int
    dates: int
    dates_closed: int


def publish(engine: Engine, policy: Policy, day: date, batch: int, now: datetime) -> PublishSummary:
    """Merge what partition (day, batch) learned into all contacts of its persons.

    Other partitions whose answers another run's sweep settled are published along, unless they
    still have open work: then a run of their own will come.

    Safe at any time and from several processes: persons are taken in chunks of some thousand
    contacts, each merged in a transaction of its own before another closes its planned rows.
    """
    counts = _Counts()
    with engine.connect() as conn:
        others = conn.execute(_ABANDONED, {"day": day, "batch": batch}).all()
    for other_day, other_batch in [(day, batch), *others]:
        partition = {"day": other_day, "batch": other_batch}
        _publish_partition(engine, policy, partition, now, counts)
    with engine.begin() as conn:
        # Nobody merges persons meanwhile: their enrichments would move under these statements.
        locks.share(conn, locks.PERSONS)
        partitions = marts.take_dirty(conn, day, batch)
        dates = sorted({day, *(each for each, _ in partitions)})
        conn.execute(_ABSORB, {"dates": dates})
        dates_closed = _freeze_coverage(conn, policy, dates, now)
        marts.refresh(conn, dates, partitions)
        waiting = conn.execute(_WAITING, {"day": day, "batch": batch}).scalar_one()
    return PublishSummary(
        contacts=counts.contacts,
        contacts_changed=counts.changed,
        closed=counts.closed,
        found=counts.found,
        waiting=waiting,
        dates=len(dates),
        dates_closed=dates_closed,
    )


@dataclass(slots=True)
class _Counts:
    contacts: int = 0
    changed: int = 0
    closed: int = 0
    found: int = 0


def _publish_partition(
    engine: Engine, policy: Policy, partition: dict[str, object], now: datetime, counts: _Counts
) -> None:
    with engine.connect() as conn:
        chunks = conn.execute(_CHANGED, partition | {"chunk": CHUNK}).scalars().all()
    for contact_ids in chunks:
        with engine.begin() as conn:
            counts.changed += remerge(conn, policy, contact_ids, now)
        # On its own: settlements lock persons first, and what a merge marks for the marts later.
        with engine.begin() as conn, planned_anew(conn):
            conn.execute(_LOCK_PERSONS, {"contacts": contact_ids})
            closed = conn.execute(_CLOSE_ROWS, partition | {"contacts": contact_ids, "now": now})
            results = closed.scalars().all()
        counts.contacts += len(contact_ids)
        counts.closed += len(results)
        counts.found += results.count("found")


def _freeze_coverage(conn: Connection, policy: Policy, dates: list[date], now: datetime) -> int:
    """Write down the coverage of the nights that have just closed; return how many did."""
    nights = list(conn.execute(_CLOSED_NIGHTS, {"dates": dates}).scalars())
    if not nights:
        return 0
    ages = {field.value: bought.stale_after_days for field, bought in policy.fields.items()}
    coverage.freeze(conn, ages, now, nights)
    return len(nights)


# A planned row is closed by an enrichment that closed after it was planned. An answer that another
# night bought is left to the first stage of a run, which records the reuse. Looked up row by row:
# a plan of a moment ago has no statistics yet, and a join of two guesses can take minutes.
_CLOSABLE: Final = """
    waiting as materialized (
        select
            r.ctid as place,
            coalesce(p.merged_into, r.person_id) as root,
            r.field,
            r.contact_id,
            r.planned_at
        from enrichment.plan_rows as r
        join enrichment.persons as p on p.person_id = r.person_id
        where r.partition_date = :day and r.batch = :batch and r.state = 'waiting'
          <only these>
    ), closable as materialized (
        select w.place, w.root, w.contact_id, work.result
        from waiting as w
        cross join lateral (
            select
                bool_or(e.state in ('open', 'pending', 'in_doubt')) as is_live,
                max(e.closed_at) filter (
                    where e.partition_date = :day or e.state <> 'finished') as closed_at,
                (array_agg(e.result order by e.closed_at desc nulls last, e.cycle desc))[1]
                    as result
            from enrichment.enrichments as e
            where e.field = w.field and e.person_id = any(array(
                select w.root
                union all
                select p.person_id from enrichment.persons as p where p.merged_into = w.root))
        ) as work
        where not work.is_live and work.closed_at >= w.planned_at
    )
"""

_CHANGED: Final = text(
    """
    with <closable>, changed as (
        select root from closable
        union
        select coalesce(p.merged_into, o.person_id)
        from enrichment.calls as c
        join enrichment.charge_lines as l on l.call_id = c.call_id
        join enrichment.observations as o on o.line_id = l.line_id
        join enrichment.persons as p on p.person_id = o.person_id
        where c.partition_date = :day and c.batch = :batch
          and not o.is_winner and o.rejected_reason is null and o.erased_at is null
    ), named as (
        select root, root as person_id from changed
        union all
        select c.root, p.person_id
        from changed as c join enrichment.persons as p on p.merged_into = c.root
    ), concerned as (
        select n.root, c.contact_id
        from named as n join enrichment.contacts as c on c.person_id = n.person_id
        union
        select root, contact_id from closable
    ), placed as (
        -- No person is in two chunks. Cut here: as lists of a run, half a million are 100 MiB.
        select
            array_agg(contact_id) as contact_ids,
            (sum(cardinality(array_agg(contact_id))) over (order by min(contact_id)) - 1) / :chunk
                as chunk
        from concerned
        group by root
    )
    select array_agg(contact_id order by contact_id)
    from placed cross join unnest(contact_ids) as contact_id
    group by chunk
    order by chunk
    """.replace("<closable>", _CLOSABLE.replace("<only these>", ""))
)

# Whoever opens a partition changes rows of many persons at once too.
_LOCK_PERSONS: Final = text("""
    select count(*) from (
        select from enrichment.persons where person_id in (
            select person_id from enrichment.contacts
            where contact_id = any(cast(:contacts as text[])))
        order by person_id for no key update) as locked
""")

_CLOSE_ROWS: Final = text(
    """
    with <closable>
    update enrichment.plan_rows as r
    set state = 'done', result = c.result, closed_at = :now
    from closable as c
    where r.ctid = c.place and r.state = 'waiting'
    returning r.result
    """.replace(
        "<closable>",
        _CLOSABLE.replace("<only these>", "and r.contact_id = any(cast(:contacts as text[]))"),
    )
)

_ABANDONED: Final = text("""
    select left_over.partition_date, left_over.batch
    from (
        select partition_date, batch from enrichment.mart_dirty_partitions
        union
        -- An answer may close rows of another batch: of persons that became one since.
        select partition_date, batch from enrichment.plan_rows
        where state = 'waiting' and partition_date in (
            select partition_date from enrichment.mart_dirty_partitions)
    ) as left_over
    where (left_over.partition_date, left_over.batch) <> (:day, :batch)
      and not exists (
          select from enrichment.enrichments as e
          where e.state = 'open'
            and (e.partition_date, e.batch) = (left_over.partition_date, left_over.batch))
    order by left_over.partition_date, left_over.batch
""")

_WAITING: Final = text("""
    select count(*) from enrichment.plan_rows
    where partition_date = :day and batch = :batch and state = 'waiting'
""")

# What a night itself found out about a person is no news to the fields that it closed: only what
# comes later opens them again before their time.
_ABSORB: Final = text("""
    update enrichment.enrichments as e set closed_identity = i.identity
    from enrichment.plan_nights as n, enrichment.person_inputs as i
    where n.partition_date = any(cast(:dates as date[])) and n.coverage_after is null
      and e.partition_date = n.partition_date and e.state = 'finished'
      and e.partition_date = any(cast(:dates as date[]))
      and i.person_id = e.person_id and e.closed_identity is distinct from i.identity
""")

_CLOSED_NIGHTS: Final = text("""
    select n.partition_date
    from enrichment.plan_nights as n
    where n.partition_date = any(cast(:dates as date[])) and n.coverage_after is null
      and not exists (
          select from enrichment.plan_rows as r
          where r.partition_date = n.partition_date and r.state = 'waiting')
      and not exists (
          select from enrichment.enrichments as e
          where e.state in ('open', 'pending', 'in_doubt')
            and e.partition_date = n.partition_date)
    order by n.partition_date
    for no key update
""")
