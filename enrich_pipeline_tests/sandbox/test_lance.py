"""What the Lance documents promise of batch enrichment, kept by the sandbox."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from . import people
from .conftest import Client

BATCH, QUERY = "/operations/enrichment/batch", "/operations/enrichment/batch/query"


def batch(client: Client, numbers: range, field: str = "emails") -> list[dict[str, Any]]:
    ids = [people.lance(n) for n in numbers]
    response = client.ask("lance", BATCH, {"personIds": ids, "field": field})
    assert response.status_code == 200
    rows: list[dict[str, Any]] = response.json()
    return rows


def query(client: Client, numbers: range, field: str = "emails") -> list[dict[str, Any]]:
    tasks = [{"entityId": people.lance(n), "field": field, "entityType": "person"} for n in numbers]
    rows: list[dict[str, Any]] = client.ask("lance", QUERY, {"tasks": tasks}).json()
    return rows


def finished(client: Client, numbers: range, field: str = "emails") -> list[dict[str, Any]]:
    deadline = time.monotonic() + 5
    rows = query(client, numbers, field)
    while any(row["status"] == "pending" for row in rows):
        assert time.monotonic() < deadline
        time.sleep(0.02)
        rows = query(client, numbers, field)
    return rows


def test_an_enrichment_is_pending_then_finished_and_charged_then(certain: Client) -> None:
    rows = batch(certain, range(5))
    assert {(row["status"], row["dataFound"]) for row in rows} == {("pending", None)}
    assert [row["entityId"] for row in rows] == [people.lance(n) for n in range(5)]
    assert certain.sandbox.meter()["lance"]["charged_micro"] == 0
    rows = finished(certain, range(5))
    assert {(row["status"], row["dataFound"]) for row in rows} == {("finished", True)}
    assert certain.sandbox.meter()["lance"]["charged_micro"] == 5_000_000


def test_records_of_one_batch_finish_at_different_times(start: Callable[..., Client]) -> None:
    client = start("--lance-delay", "0-0.5")
    batch(client, range(20))
    took = [lasted(row) for row in finished(client, range(20))]
    assert 0 <= min(took) < 0.2 < 0.3 < max(took) <= 0.5
    assert len(set(took)) > 10
    client.sandbox.reset()
    batch(client, range(20))
    again = [lasted(row) for row in finished(client, range(20))]
    assert again == pytest.approx(took, abs=0.002)


def lasted(row: dict[str, Any]) -> float:
    created, updated = (datetime.fromisoformat(row[name]) for name in ("createdAt", "updatedAt"))
    return (updated - created).total_seconds()


def test_pending_and_finished_ones_are_reused_for_nothing(certain: Client) -> None:
    first = batch(certain, range(3))
    assert [row["id"] for row in batch(certain, range(3))] == [row["id"] for row in first]
    finished(certain, range(3))
    mixed = batch(certain, range(5))
    assert [row["status"] for row in mixed] == ["finished"] * 3 + ["pending"] * 2
    finished(certain, range(5))
    assert certain.sandbox.meter()["lance"]["charged_micro"] == 5_000_000
    assert certain.sandbox.double_charges() == []


def test_values_are_read_at_the_person_once_finished(certain: Client) -> None:
    batch(certain, range(1), "phones")
    path = f"/entities/persons/{people.lance(0)}"
    assert certain.ask("lance", path).json()["phones"] == []
    finished(certain, range(1), "phones")
    person = certain.ask("lance", path).json()
    assert person["phones"][0]["number"].startswith("+")
    assert person["emails"] == []
    assert certain.sandbox.meter()["lance"]["charged_micro"] == 10_000_000


def test_an_unknown_person_has_no_page(certain: Client) -> None:
    assert certain.ask("lance", f"/entities/persons/{people.lance(9)}").status_code == 404


def test_a_broken_enrichment_is_free_and_created_anew(start: Callable[..., Client]) -> None:
    client = start("--rate", "lance.broken=1")
    first = batch(client, range(20))
    rows = finished(client, range(20))
    assert {row["status"] for row in rows} == {"failed", "timed_out", "cancelled"}
    assert {row["dataFound"] for row in rows} == {None}
    again = batch(client, range(20))
    assert not {row["id"] for row in again} & {row["id"] for row in first}
    assert client.sandbox.meter()["lance"]["charged_micro"] == 0


def test_a_query_returns_only_what_exists(certain: Client) -> None:
    batch(certain, range(2))
    assert len(query(certain, range(10))) == 2
    assert query(certain, range(2), "phones") == []


@pytest.mark.parametrize(
    ("path", "sent", "rule"),
    [
        (BATCH, {"personIds": [], "field": "emails"}, "batch_size"),
        (BATCH, {"personIds": [people.lance(n) for n in range(101)], "field": "emails"},
         "batch_size"),
        (BATCH, {"personIds": [people.lance(1)], "field": "email"}, "field"),
        (BATCH, {"personIds": ["6ba7b810-9dad-11d1-80b4-00c04fd430c8"], "field": "emails"},
         "not_a_uuid"),
        (BATCH, {"personIds": [people.lance(1)] * 2, "field": "emails"}, "duplicate_identifier"),
        (BATCH, {"personIds": [people.lance(1)], "field": "emails", "force": True},
         "unknown_field"),
        (QUERY, {"tasks": [{"entityId": people.lance(1), "field": "emails",
                            "entityType": "person"}] * 201}, "batch_size"),
        (QUERY, {"tasks": [{"entityId": people.lance(1), "field": "emails"}]}, "task"),
    ],
)  # fmt: skip
def test_a_broken_rule_is_refused_and_counted(
    certain: Client, path: str, sent: dict[str, Any], rule: str
) -> None:
    response = certain.ask("lance", path, sent)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "VALIDATION_ERROR"
    assert certain.rules_broken() == {f"lance.{rule}": 1}


def test_credits_are_checked_for_new_enrichments_only(certain: Client) -> None:
    certain.sandbox.balance(2_000_000, "lance")
    batch(certain, range(2))
    refused = certain.ask("lance", BATCH, {"personIds": [people.lance(7)], "field": "emails"})
    assert refused.status_code == 402
    assert refused.json()["error"]["code"] == "INSUFFICIENT_CREDITS"
    finished(certain, range(2))
    assert len(batch(certain, range(2))) == 2
    balance = certain.ask("lance", "/operations/credits/balance").json()
    assert balance["balance"] == 0


def test_a_bad_key_is_a_401_that_says_validation_error(certain: Client) -> None:
    response = certain.ask("lance", "/operations/credits/balance", headers={})
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "VALIDATION_ERROR"
