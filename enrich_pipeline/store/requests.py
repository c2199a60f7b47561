"""How many requests a night sent, against the fewest that could have asked for the same."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from sqlalchemy import Connection

from enrich_pipeline.store.rows import as_json
from enrich_pipeline.store.statement import text


@dataclass(frozen=True, slots=True)
class Requests:
    """Billable requests to one provider; polls and webhooks are not among them."""

    sent: int
    fewest: int


def requests(conn: Connection, day: date, maxima: Mapping[str, int]) -> dict[str, Requests]:
    """Return the requests of the night of `day` per provider of `maxima` that was asked.

    `maxima` is the most persons that one call of the provider may hold. Persons can share a call
    when they are asked for in the same batch, in the same run, with the same options: the fewest is
    the sum, over these groups, of persons / maximum, rounded up.
    """
    rows = conn.execute(
        text("""
            with sent as (
                select
                    c.provider,
                    c.sends,
                    c.call_id,
                    c.batch,
                    c.call_group,
                    c.run_id,
                    m.maximum
                from enrichment.calls as c
                join jsonb_to_recordset(cast(:maxima as jsonb))
                    as m (provider text, maximum integer)
                    on m.provider = c.provider
                where c.partition_date = :day and c.sends > 0
            ), grouped as (
                select s.provider, ceil(count(distinct l.person_id) * 1.0 / s.maximum) as fewest
                from sent as s join enrichment.charge_lines as l on l.call_id = s.call_id
                group by s.provider, s.maximum, s.batch, s.call_group, s.run_id
            )
            select s.provider, s.sends, g.fewest
            from (select provider, sum(sends) as sends from sent group by provider) as s
            join (select provider, sum(fewest) as fewest from grouped group by provider) as g
                using (provider)
        """),
        {
            "day": day,
            "maxima": as_json({"provider": p, "maximum": most} for p, most in maxima.items()),
        },
    )
    return {row.provider: Requests(int(row.sends), int(row.fewest)) for row in rows}
