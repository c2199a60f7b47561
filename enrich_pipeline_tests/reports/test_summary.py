"""The figures that a night ends with."""

from collections.abc import Iterator
from datetime import date
from decimal import Decimal

import pytest
from sqlalchemy import Connection, Engine

from enrich_pipeline.reports.summary import night_summary
from enrich_pipeline.store import marts
from enrich_pipeline_tests.store import rows

DAY = date(2026, 5, 1)
POLICY = rows.default_policy()
MAXIMA = {"prospeo": 2, "lance": 100}


@pytest.fixture
def conn(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        yield connection


def call_for(conn: Connection, call_id: int, persons: range, **columns: object) -> None:
    rows.call(conn, call_id, "prospeo", DAY, **{"sends": 1, **columns})
    for number in persons:
        rows.line(conn, 100 * call_id + number, call_id, number, "prospeo", state="posted")


def test_a_night_that_never_was_is_all_zeros(conn: Connection) -> None:
    found = night_summary(conn, POLICY, DAY, MAXIMA)

    assert found["contacts_selected"] == 0
    assert set(found["providers"]) == {"prospeo", "agntdata", "pronto", "lance", "apollo"}
    assert found["providers"]["lance"]["spend_usd"] == 0
    assert found["coverage"]["phone"] == {"before": None, "after": None}


def test_requests_stand_beside_the_fewest_possible(conn: Connection) -> None:
    for number in range(1, 6):
        rows.person(conn, number)
    call_for(conn, 1, range(1, 2))
    call_for(conn, 2, range(2, 3))
    call_for(conn, 3, range(3, 4), call_group="mobile")
    call_for(conn, 4, range(4, 5), batch=1)
    call_for(conn, 5, range(5, 6), sends=0, state="released")

    prospeo = night_summary(conn, POLICY, DAY, MAXIMA)["providers"]["prospeo"]

    assert (prospeo["requests"], prospeo["fewest_requests"]) == (4, 3)


def test_providers_add_up_their_fields_and_name_their_skips(conn: Connection) -> None:
    rows.person(conn, 1)
    for number, field in enumerate(("work_email", "profile"), start=1):
        rows.enrichment(conn, number, 1, field, DAY)
        cost = {"cost_micro": 500_000, "cost_usd_micro": 5_000}
        rows.attempt(conn, number, number, 1, field, "prospeo", DAY, **cost)
    skip = {"partition_date": DAY, "person_id": 1, "field": "phone", "recorded_at": f"{DAY}T00:00Z"}
    rows.insert(
        conn,
        "skips",
        [
            skip | {"provider": "lance", "reason": "not_eligible"},
            skip | {"provider": "*", "reason": "suppressed"},
        ],
    )
    marts.refresh(conn, [DAY])

    found = night_summary(conn, POLICY, DAY, MAXIMA)

    assert found["providers"]["prospeo"]["found"] == 2
    assert found["providers"]["lance"]["skipped"] == {"not_eligible": 1}
    assert found["blocked"] == {"suppressed": 1}
    # Nothing was posted to the ledger, so what the attempts claim is taken back as unassigned.
    assert found["providers"]["prospeo"]["spend_usd"] == Decimal(0)
