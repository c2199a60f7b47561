"""Figures over everything: how many contacts, what is under way, what was spent so far.

What belongs to one night is in `store/nights.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Totals:
    """`pending` and `in_doubt` count (person, field), `persons` those behind the contacts."""

    contacts: int
    persons: int
    pending: int
    in_doubt: int


@dataclass(frozen=True, slots=True)
class Spend:
    """One provider's money since the beginning, in micro-credits of its unit and micro-USD."""

    posted_micro: int = 0
    held_micro: int = 0
    in_doubt_micro: int = 0
    posted_usd_micro: int = 0


def totals(conn: Connection) -> Totals:
    row = conn.execute(
        text("""
            select
                (select count(*) from analytics.dim_contacts) as contacts,
                (select count(distinct person_id) from analytics.dim_contacts) as persons,
                count(*) filter (where state = 'pending') as pending,
                count(*) filter (where state = 'in_doubt') as in_doubt
            from enrichment.enrichments
            where state in ('open', 'pending', 'in_doubt')
        """)
    ).one()
    return Totals(row.contacts, row.persons, row.pending, row.in_doubt)


def spend(conn: Connection) -> Mapping[str, Spend]:
    """Return the balances of every provider that has accounts."""
    rows = conn.execute(
        text("""
            with usd as (
                select
                    l.provider,
                    sum(case when debit.kind = 'spent' then l.amount_usd_micro else 0 end
                        - case when credit.kind = 'spent' then l.amount_usd_micro else 0 end)
                        as micro
                from enrichment.ledger_entries as l
                join enrichment.accounts as debit on debit.account_id = l.debit_account
                join enrichment.accounts as credit on credit.account_id = l.credit_account
                where 'spent' in (debit.kind, credit.kind)
                group by l.provider
            )
            select
                a.provider,
                coalesce(sum(a.balance) filter (where a.kind = 'spent'), 0) as posted,
                coalesce(sum(a.balance) filter (where a.kind = 'held'), 0) as held,
                coalesce(sum(a.balance) filter (where a.kind = 'in_doubt'), 0) as in_doubt,
                coalesce(max(usd.micro), 0) as posted_usd
            from enrichment.accounts as a
            left join usd using (provider)
            group by a.provider
        """)
    )
    return {
        row.provider: Spend(int(row.posted), int(row.held), int(row.in_doubt), int(row.posted_usd))
        for row in rows
    }
