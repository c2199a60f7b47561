"""Which partitions have something to bring home: answers that arrived, polls and deadlines due."""

from dataclasses import dataclass
from datetime import date

from sqlalchemy import Connection, text

PATIENCE_MINUTES = 15
"""After the first unapplied result a partition is due although other answers are still out."""
POLL_GRACE_MINUTES = 5
"""A poll that is overdue by this much has no run that would make it."""


@dataclass(frozen=True, slots=True)
class LatePartition:
    """One (date, batch) with live calls.

    `newest` tells one state of affairs from the next: the highest id among unapplied deliveries
    and replies. `reason` is empty while the partition should be left alone.
    """

    day: date
    batch: int
    calls: int
    unapplied: int
    newest: int
    reason: str


def partitions(connection: Connection) -> list[LatePartition]:
    """All partitions with live calls, oldest first, and why each is due, if it is.

    Due is a partition whose accepted calls have all been answered, or whose first unapplied result
    is older than PATIENCE_MINUTES, or where a poll, deadline, lease or write-off is overdue. Times
    are the database's.
    """
    rows = connection.execute(
        text("""
            with live as (
                select call_id, state, partition_date, batch, token_hash, lease_until,
                    deadline_at, write_off_at, next_poll_at
                from enrichment.calls
                where state in ('reserved', 'sending', 'responded', 'accepted', 'in_doubt')
                -- An answer may come after its call was written off. As one condition the two
                -- would read every call there ever was.
                union
                select call_id, state, partition_date, batch, token_hash, lease_until,
                    deadline_at, write_off_at, next_poll_at
                from enrichment.calls
                where token_hash in (select token_hash from enrichment.inbox where state = 'new')
            ),
            results as (
                select live.call_id, 'd' as kind, i.delivery_id as id, i.received_at
                from live
                join enrichment.inbox as i on i.token_hash = live.token_hash and i.state = 'new'
                union all
                select live.call_id, 'r', r.reply_id, r.received_at
                from live
                join enrichment.replies as r on r.call_id = live.call_id and r.applied_at is null
            ),
            by_call as (
                select
                    live.*,
                    coalesce(arrived.number, 0) as arrived,
                    arrived.newest,
                    arrived.first_at,
                    (
                        select count(distinct line.item_key)
                        from enrichment.charge_lines as line
                        where line.call_id = live.call_id and line.state = 'held'
                    ) as unanswered
                from live
                left join (
                    select call_id, count(*) as number, max(id) as newest,
                        min(received_at) as first_at
                    from results
                    group by call_id
                ) as arrived using (call_id)
            )
            select
                partition_date as day,
                batch,
                count(*) as calls,
                sum(arrived) as unapplied,
                coalesce(max(newest), 0) as newest,
                case
                    when sum(arrived) > 0
                        and bool_and(state <> 'accepted' or arrived >= unanswered)
                        then 'every accepted call was answered'
                    when min(first_at)
                        < clock_timestamp() - make_interval(mins => :patience)
                        then 'a result has waited long enough for the others'
                    when bool_or(state = 'accepted' and next_poll_at
                        < clock_timestamp() - make_interval(mins => :grace))
                        then 'a poll is due'
                    when bool_or(state = 'accepted' and deadline_at < clock_timestamp())
                        then 'a deadline has passed'
                    when bool_or(state in ('reserved', 'sending', 'responded')
                        and lease_until < clock_timestamp())
                        then 'a call was left behind'
                    when bool_or(state = 'in_doubt' and write_off_at < clock_timestamp())
                        then 'a doubt is to be written off'
                    else ''
                end as reason
            from by_call
            group by partition_date, batch
            order by partition_date, batch
        """),
        {"patience": PATIENCE_MINUTES, "grace": POLL_GRACE_MINUTES},
    )
    return [
        LatePartition(
            row.day, row.batch, row.calls, int(row.unapplied), int(row.newest), row.reason
        )
        for row in rows
    ]
