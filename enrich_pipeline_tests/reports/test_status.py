"""The status that programs read: exact names, all providers, exact money."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import Connection, Engine

from enrich_pipeline.reports.status import status, usd
from enrich_pipeline.store import breakers, switch
from enrich_pipeline.store.merge import remerge
from enrich_pipeline_tests.store import rows

DAY = date(2026, 5, 1)
NOW = datetime(2026, 5, 1, 3, tzinfo=UTC)
POLICY = rows.default_policy()


@pytest.fixture
def conn(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        yield connection


def test_an_empty_database_has_a_status_of_zeros(conn: Connection) -> None:
    found = status(conn, POLICY, NOW)

    nothing = {"filled": 0, "verified": 0, "stale": 0}
    unspent = {
        "posted_micro_credits": 0,
        "held_micro_credits": 0,
        "in_doubt_micro_credits": 0,
        "posted_usd": "0.00",
    }
    assert found == {
        "as_of": "2026-05-01T03:00:00+00:00",
        "contacts": 0,
        "persons": 0,
        "coverage": dict.fromkeys(("work_email", "phone", "personal_email", "profile"), nothing),
        "pending": 0,
        "in_doubt": 0,
        "spend": dict.fromkeys(("prospeo", "agntdata", "pronto", "lance", "apollo"), unspent),
        "paused": None,
        "breakers": [],
    }
    assert json.loads(json.dumps(found)) == found


def test_coverage_counts_contacts_and_open_work_counts_person_and_field(conn: Connection) -> None:
    rows.person(conn, 1)
    rows.person(conn, 2)
    fresh, old = NOW - timedelta(days=5), NOW - timedelta(days=100)
    rows.contact(conn, "c1", 1, email="a@acme.com", email_verified_at=fresh, job_title="CTO")
    rows.contact(conn, "c2", 1, email="b@acme.com", email_verified_at=old)
    rows.contact(
        conn,
        "c3",
        2,
        email="c@acme.com",
        job_title="CTO",
        company_name="A",
        profile_verified_at=old,
    )
    remerge(conn, POLICY, ["c1", "c2", "c3"], NOW)
    open_state = {"result": None, "closed_at": None}
    rows.enrichment(conn, 1, 1, "phone", DAY, state="pending", **open_state)
    rows.enrichment(conn, 2, 2, "phone", DAY, state="in_doubt", **open_state)
    rows.enrichment(conn, 3, 2, "profile", DAY, state="pending", **open_state)

    found = status(conn, POLICY, NOW)

    assert (found["contacts"], found["persons"]) == (3, 2)
    assert found["coverage"]["work_email"] == {"filled": 3, "verified": 2, "stale": 2}
    assert found["coverage"]["profile"] == {"filled": 1, "verified": 1, "stale": 3}
    assert (found["pending"], found["in_doubt"]) == (2, 1)


def test_spend_is_what_the_ledger_holds_since_the_beginning(conn: Connection) -> None:
    kinds = ("available", "held", "in_doubt", "spent", "written_off")
    balances = (-8_000_000, 2_000_000, 1_000_000, 5_000_000, 0)
    rows.insert(
        conn,
        "accounts",
        [
            {"account_id": n, "provider": "lance", "kind": kind, "balance": balance}
            for n, (kind, balance) in enumerate(zip(kinds, balances, strict=True), start=1)
        ],
    )
    for call_id, day in ((1, DAY), (2, date(2025, 1, 1))):
        rows.call(conn, call_id, "lance", day)
        rows.ledger_entry(
            conn, call_id, call_id, "lance", day, debit=4, credit=2, micro=2_500_000, usd=75_125
        )

    assert status(conn, POLICY, NOW)["spend"]["lance"] == {
        "posted_micro_credits": 5_000_000,
        "held_micro_credits": 2_000_000,
        "in_doubt_micro_credits": 1_000_000,
        "posted_usd": "0.15025",
    }


def test_the_pause_and_every_breaker_are_shown(conn: Connection) -> None:
    switch.pause(conn, "invoice looks wrong")
    breakers.trip(conn, "apollo", ["phone"], "no_credits", 1800)
    breakers.trip(conn, "lance", ["*"], "unauthorized", 0)
    breakers.count_failure(conn, "prospeo", "transient", threshold=5, pause_seconds=300)

    found = status(conn, POLICY, NOW)

    assert found["paused"]["reason"] == "invoice looks wrong"
    shown = [(b["provider"], b["product"], b["state"], b["reason"]) for b in found["breakers"]]
    assert shown == [
        ("apollo", "phone", "open", "no_credits"),
        ("lance", "*", "probing", "unauthorized"),
        ("prospeo", "*", "closed", "transient"),
    ]
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("micro", "shown"),
    [(0, "0.00"), (1, "0.000001"), (1_500_000, "1.50"), (123_456_789_012, "123456.789012")],
)
def test_dollars_are_exact(micro: int, shown: str) -> None:
    assert usd(micro) == shown
