"""The daily marts: sums that equal the ledger, however often they are made."""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, Row, text

from enrich_pipeline.store import marts, nights
from enrich_pipeline_tests.store import rows

DAY = date(2026, 5, 1)


@pytest.fixture
def conn(engine: Engine) -> Iterator[Connection]:
    """One person, one Prospeo call: e-mail found for 1.5 credits, 0.5 credits unexplained."""
    with engine.connect() as connection:
        rows.person(connection, 1)
        rows.call(connection, 1, "prospeo", DAY)
        kinds = ("available", "held", "in_doubt", "spent", "written_off")
        rows.insert(
            connection,
            "accounts",
            [
                {"account_id": n, "provider": "prospeo", "kind": kind, "balance": 0}
                for n, kind in enumerate(kinds, start=1)
            ],
        )
        rows.enrichment(connection, 1, 1, "work_email", DAY)
        rows.attempt(
            connection,
            1,
            1,
            1,
            "work_email",
            "prospeo",
            DAY,
            call_id=1,
            is_verified=True,
            cost_micro=1_500_000,
            cost_usd_micro=15_000,
        )
        spent(connection, 1, micro=2_000_000, usd=20_000)
        yield connection


def spent(conn: Connection, entry_id: int, *, micro: int, usd: int) -> None:
    rows.ledger_entry(conn, entry_id, 1, "prospeo", DAY, debit=4, credit=2, micro=micro, usd=usd)


def provider_rows(conn: Connection) -> dict[tuple[str, str], Row[Any]]:
    marts.refresh(conn, [DAY])
    query = text("select *, xmin from analytics.mart_provider_daily where date = :day")
    return {(r.provider, r.field): r for r in conn.execute(query, {"day": DAY})}


def test_spend_adds_up_to_what_the_ledger_posted(conn: Connection) -> None:
    found = provider_rows(conn)

    asked, unassigned = found["prospeo", "work_email"], found["prospeo", marts.UNASSIGNED]
    assert (asked.spend_micro_credits, asked.spend_usd) == (1_500_000, Decimal("0.015"))
    assert (unassigned.spend_micro_credits, unassigned.spend_usd) == (500_000, Decimal("0.005"))
    assert (unassigned.attempts, unassigned.usd_per_found) == (0, None)
    assert nights.spend_differences(conn, DAY) == []


def test_cost_that_is_explained_later_leaves_no_unassigned_row(conn: Connection) -> None:
    provider_rows(conn)
    conn.execute(
        text("update enrichment.attempts set cost_micro = 2000000, cost_usd_micro = 20000")
    )

    assert set(provider_rows(conn)) == {("prospeo", "work_email")}


def test_what_was_spent_and_given_back_is_not_spent(conn: Connection) -> None:
    rows.ledger_entry(
        conn, 2, 1, "prospeo", DAY, debit=2, credit=4, micro=500_000, usd=5_000,
        entry_type="recover_release",
    )  # fmt: skip

    assert set(provider_rows(conn)) == {("prospeo", "work_email")}


def test_reuse_is_counted_apart_and_costs_nothing(conn: Connection) -> None:
    rows.enrichment(conn, 2, 1, "phone", DAY)
    rows.attempt(conn, 2, 2, 1, "phone", "lance", DAY, outcome="reused")

    row = provider_rows(conn)["lance", "phone"]

    assert (row.attempts, row.found, row.reused, row.spend_micro_credits) == (0, 0, 1, 0)
    assert row.usd_per_found is None


def test_attempts_are_counted_by_outcome(conn: Connection) -> None:
    outcomes = ("found", "not_found", "other_person", "error", "pending")
    for number, outcome in enumerate(outcomes, start=10):
        rows.person(conn, number)
        rows.enrichment(conn, number, number, "work_email", DAY)
        rows.attempt(conn, number, number, number, "work_email", "prospeo", DAY, outcome=outcome)

    row = provider_rows(conn)["prospeo", "work_email"]

    assert (row.attempts, row.found, row.not_found, row.verified) == (6, 2, 2, 1)
    assert row.usd_per_found == Decimal("0.0075")


def test_refreshing_twice_rewrites_no_row(conn: Connection) -> None:
    assert provider_rows(conn) == provider_rows(conn)


def test_a_night_without_stale_contacts_has_its_row(conn: Connection) -> None:
    night = {"partition_date": DAY, "as_of": "2026-05-01T00:00:00Z", "contacts_cap": 10}
    more = {
        "batches": 4,
        "contacts_stale": 0,
        "coverage_before": {},
        "planned_at": "2026-05-01T00:00Z",
    }
    rows.insert(conn, "plan_nights", [night | more])

    marts.refresh(conn, [DAY])

    row = nights.refresh_day(conn, DAY)
    assert row is not None
    assert (row["contacts_stale"], row["spend_usd"]) == (0, Decimal("0.02"))
    assert row["work_email_coverage_before"] is None


def test_other_dates_are_left_alone(conn: Connection) -> None:
    marts.refresh(conn, [date(2026, 4, 30)])

    assert conn.execute(text("select count(*) from analytics.mart_provider_daily")).scalar() == 0
