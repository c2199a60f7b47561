"""Every rule of the books notices what breaks it; the years behind are left to `enrich invariants`.

Damage is done to the books of a real night, inside a transaction that is taken back.
"""

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, text

from enrich_pipeline.store import invariants, late_results

from ..support.lab import Lab, contacts, only
from ..support.plans import explained
from .conftest import Open

CHAIN = ("prospeo", "agntdata")
DAMAGE = {
    "an account's balance is the sum of its entries": (
        "update enrichment.accounts set balance = balance + 1 where kind = 'available'"
    ),
    "a provider's balances sum to zero": (
        "update enrichment.accounts set balance = balance + 1 where kind = 'spent'"
    ),
    "held and in doubt are what the lines say": (
        "update enrichment.accounts set balance = balance + 1 where kind = 'held'"
    ),
    "a day's budget holds what the calls of that day hold": (
        "update enrichment.budgets set held = held + 1"
    ),
    "a closed call has no open line": "update enrichment.charge_lines set state = 'held'",
    "a call's hold is posted, released, doubted or still held": (
        "update enrichment.calls set hold_micro = hold_micro + 1"
    ),
    "an attempt without an answer belongs to an open line": (
        "update enrichment.attempts set outcome = 'pending'"
    ),
    "a paid answer left a result": (
        "update enrichment.charge_lines set verdict = 'found', state = 'posted' "
        "where verdict = 'not_found'"
    ),
    "what a call's lines cost and lost is on the accounts": (
        "update enrichment.charge_lines set cost_micro = cost_micro + 1"
    ),
    "an attempt's cost is its line's": (
        "update enrichment.attempts set cost_micro = cost_micro + 1 where line_id is not null"
    ),
    "what is planned is of a night and a person that exist": (
        "update enrichment.plan_rows set person_id = 4711"
    ),
}
LONG_AGO = (
    "set local session_replication_role = replica",
    "update enrichment.calls set partition_date = partition_date - 30",
    "update enrichment.plan_rows set partition_date = partition_date - 30",
    "update enrichment.ledger_entries set occurred_at = occurred_at - interval '30 days'",
)

SMALL = frozenset({"accounts", "budgets", "plan_nights", "ledger_entries", "contact_persons"})
"""Entries, three or four of a call, are added up whole for the balances; whom a contact belonged to
is read only for a person who was charged twice."""
FEW = frozenset({"calls_live", "charge_lines_active", "inbox_new"})


@pytest.fixture
def books(open_lab: Open) -> Iterator[Connection]:
    """Of a night in which the first provider has half of the persons; never committed."""
    lab: Lab = open_lab(only({"work_email": CHAIN}), {"prospeo.match": 0.5})
    lab.night(contacts(range(20)))
    with lab.engine.connect() as conn:
        yield conn
        conn.rollback()


def broken(conn: Connection, days: int | None = None) -> set[str]:
    return {rule for rule, _ in invariants.violations(conn, days)}


def test_every_rule_notices_what_breaks_it(books: Connection) -> None:
    assert DAMAGE.keys() == set(invariants.INVARIANTS)
    assert broken(books) == broken(books, 2) == set()
    for rule, damage in DAMAGE.items():
        attempt = books.begin_nested()
        assert books.execute(text(damage)).rowcount, rule
        assert rule in broken(books)
        assert rule in broken(books, 2)
        attempt.rollback()


def test_what_was_written_off_is_on_its_account(books: Connection) -> None:
    books.execute(text("update enrichment.charge_lines set state = 'written_off'"))
    assert "what a call's lines cost and lost is on the accounts" in broken(books)


def test_calls_of_long_ago_are_looked_at_where_all_of_the_books_are(books: Connection) -> None:
    for statement in LONG_AGO:
        books.execute(text(statement))
    for rule in (*invariants.OF_CALLS, *invariants.OF_PLANS):
        attempt = books.begin_nested()
        books.execute(text(DAMAGE[rule]))
        assert rule in broken(books)
        assert rule not in broken(books, 2)
        attempt.rollback()


def test_what_was_paid_twice_lately_is_found_however_old_the_first_charge(
    books: Connection,
) -> None:
    books.execute(text("set local session_replication_role = replica"))
    charged = "cost_micro > 0 and verdict = 'found'"
    books.execute(
        text(f"""
            with old as (
                insert into enrichment.calls (provider, call_group, state, partition_date, batch,
                    spend_date, run_id, persons, hold_micro, prices, usd_micro_per_credit,
                    lease_until)
                select provider, call_group, state, partition_date - 30, batch, spend_date - 30,
                    'old', persons, 0, prices, usd_micro_per_credit, lease_until
                from enrichment.calls where call_id = (
                    select min(call_id) from enrichment.charge_lines where {charged})
                returning call_id
            )
            insert into enrichment.charge_lines (call_id, item_key, person_id, provider, product,
                options, fields, state, hold_micro, hold_usd_micro, cost_micro, verdict,
                answered_at)
            select old.call_id, item_key, person_id, provider, product, options, fields, state, 0,
                0, cost_micro, verdict, answered_at + interval '1 second'
            from enrichment.charge_lines, old
            where line_id = (select min(line_id) from enrichment.charge_lines where {charged})
        """)  # noqa: S608  (a condition of our own)
    )
    assert len(invariants.paid_twice(books, 90)) == 1
    assert invariants.paid_twice(books, 90, 2) == [], "the later charge is of an old call"
    books.execute(text("update enrichment.calls set partition_date = partition_date + 30"))
    assert len(invariants.paid_twice(books, 90, 2)) == 1


def test_what_is_asked_all_the_time_never_reads_a_table_that_grows_as_a_whole(
    books: Connection,
) -> None:
    with explained(books, SMALL, FEW) as whole:
        invariants.violations(books, 2)
        invariants.paid_twice(books, 90, 2)
        late_results.partitions(books)
    assert not whole, "\n".join(whole)


def test_a_charge_beyond_its_hold_on_a_full_budget_is_recorded_and_exceeds_nothing(
    open_lab: Open,
) -> None:
    lab = open_lab({**only({"work_email": ["prospeo"]}), "budget": {"night_usd": 0.07}})
    lab.sandbox.faults({"provider": "prospeo", "kind": "overcharge", "amount_micro": 5_000_000})
    lab.night(contacts(range(20)))
    assert lab.sql("select cap, spent, overage from enrichment.budgets where scope = 'night'") == [
        (70_000, 70_000, 50_000)
    ]
    with lab.engine.connect() as conn:
        assert invariants.budgets_exceeded(conn) == []


def test_a_budget_that_postgresql_has_stopped_to_guard_is_noticed(books: Connection) -> None:
    books.execute(text("alter table enrichment.budgets drop constraint budgets_check"))
    books.execute(text("update enrichment.budgets set held = cap + 1 where scope = 'night'"))
    (detail,) = invariants.budgets_exceeded(books)
    assert detail.startswith("night all ")
