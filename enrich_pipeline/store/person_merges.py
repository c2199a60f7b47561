"""Persons who turn out to be one human: what was bought follows to the survivor.

Whoever merges locks all persons concerned at once, in the order in which settlements lock theirs,
before it touches anything of theirs: else each could come to wait for the other.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import Connection, text


def lock(conn: Connection, merges: Mapping[int, int]) -> None:
    """Before their contacts move: what was claimed for either came before the moment of the move.

    `merges`: person to survivor. Whoever was merged into one of them before follows, and is locked.
    """
    conn.execute(
        text("""
            select person_id from enrichment.persons
            where person_id = any(cast(:ids as bigint[]))
               or merged_into = any(cast(:ids as bigint[]))
            order by person_id for no key update
        """),
        {"ids": sorted({*merges, *merges.values()})},
    )


def merge(conn: Connection, merges: Mapping[int, int]) -> None:
    """Merge persons (person to survivor), all of them locked."""
    moved = conn.execute(
        text("""
            update enrichment.persons as p set merged_into = m.new
            from unnest(cast(:old as bigint[]), cast(:new as bigint[])) as m(old, new)
            where p.person_id = m.old or p.merged_into = m.old
            returning p.person_id
        """),
        {"old": list(merges), "new": list(merges.values())},
    ).scalars()
    _follow(conn, sorted(moved))


def follow_merges(conn: Connection) -> None:
    """Give the survivors what finished under persons that were merged away in the meantime.

    Calls that were under way at the merge finish under the person that they were made for. Waits
    for nobody: of whom somebody else is at work on, the next one who looks sees to it.
    """
    left = {
        int(row.person_id): int(row.merged_into)
        for row in conn.execute(
            text("""
                select p.person_id, p.merged_into from enrichment.persons as p
                where p.merged_into is not null and (
                    exists (select from enrichment.charge_lines as l
                            where l.person_id = p.person_id)
                    or exists (select from enrichment.enrichments as e
                               where e.person_id = p.person_id))
            """)
        )
    }
    free = set(
        conn.execute(
            text("""
                select person_id from enrichment.persons
                where person_id = any(cast(:ids as bigint[]))
                order by person_id for no key update skip locked
            """),
            {"ids": sorted({*left, *left.values()})},
        ).scalars()
    )
    _follow(conn, [old for old, new in left.items() if {old, new} <= free])


def _follow(conn: Connection, person_ids: Sequence[int]) -> None:
    if person_ids:
        for statement in _FOLLOW:
            conn.execute(text(statement), {"ids": list(person_ids)})


# Of `ids`, all of them merged into another person and locked with it.
_FOLLOW: Final = (
    """
    update enrichment.charge_lines as l set person_id = p.merged_into
    from enrichment.persons as p
    where p.person_id = any(cast(:ids as bigint[])) and l.person_id = p.person_id
      and l.state in ('posted', 'released', 'written_off')
    """,
    """
    update enrichment.observations as o set person_id = p.merged_into
    from enrichment.persons as p
    where p.person_id = any(cast(:ids as bigint[])) and o.person_id = p.person_id
    """,
    """
    with moving as (
        select e.enrichment_id, p.merged_into,
               coalesce((select max(s.cycle) from enrichment.enrichments as s
                         where s.person_id = p.merged_into and s.field = e.field), 0)
               + row_number() over (partition by p.merged_into, e.field
                                    order by e.person_id, e.cycle) as cycle,
               e.state = 'open' and row_number() over (
                   partition by p.merged_into, e.field, e.state
                   order by e.person_id) > 1 as is_second
        from enrichment.persons as p
        join enrichment.enrichments as e using (person_id)
        where p.person_id = any(cast(:ids as bigint[])) and e.state not in ('pending', 'in_doubt')
          and not exists (
              select from enrichment.enrichments as s
              where s.person_id = p.merged_into and s.field = e.field
                and s.state in ('open', 'pending', 'in_doubt'))
          -- A search goes on only for a row that waits for it and that nothing has answered.
          and (e.state <> 'open' or exists (
              select from enrichment.plan_rows as r
              where r.person_id in (p.person_id, p.merged_into) and r.field = e.field
                and r.state = 'waiting' and not exists (
                    select from enrichment.enrichments as s
                    where s.person_id = p.merged_into and s.field = e.field
                      and s.state = 'finished' and s.closed_at >= r.planned_at)))
    )
    update enrichment.enrichments as e
    set person_id = m.merged_into, cycle = m.cycle,
        state = case when m.is_second then 'expired' else e.state end,
        closed_at = case when m.is_second then clock_timestamp() else e.closed_at end
    from moving as m where m.enrichment_id = e.enrichment_id
    """,
    """
    update enrichment.enrichments as e
    set state = 'expired', next_provider = null, closed_at = clock_timestamp()
    from enrichment.persons as p
    where p.person_id = any(cast(:ids as bigint[])) and e.person_id = p.person_id
      and e.state = 'open'
    """,
    """
    update enrichment.attempts as a set person_id = e.person_id
    from enrichment.persons as p, enrichment.enrichments as e
    where p.person_id = any(cast(:ids as bigint[])) and a.person_id = p.person_id
      and e.enrichment_id = a.enrichment_id and e.person_id = p.merged_into
      and a.outcome <> 'reused'
    """,
    """
    insert into enrichment.provider_identities (person_id, provider, external_id, seen_at)
    select distinct on (p.merged_into, i.provider)
           p.merged_into, i.provider, i.external_id, i.seen_at
    from enrichment.persons as p join enrichment.provider_identities as i using (person_id)
    where p.person_id = any(cast(:ids as bigint[]))
    order by p.merged_into, i.provider, i.seen_at desc
    on conflict (person_id, provider) do nothing
    """,
    """
    delete from enrichment.provider_identities as i using enrichment.persons as p
    where p.person_id = any(cast(:ids as bigint[])) and i.person_id = p.person_id
    """,
    """
    update enrichment.plan_rows as r set person_id = p.merged_into
    from enrichment.persons as p
    where p.person_id = any(cast(:ids as bigint[])) and r.person_id = p.person_id
    """,
    """
    delete from enrichment.person_inputs as i using enrichment.persons as p
    where p.person_id = any(cast(:ids as bigint[])) and i.person_id = p.person_id
    """,
)
