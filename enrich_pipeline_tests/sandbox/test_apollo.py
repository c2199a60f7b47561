"""What the Apollo documents promise of bulk matching, kept by the sandbox."""

from collections.abc import Callable
from typing import Any

import pytest

from . import people
from .conftest import Client
from .inbox import Inbox

PATH = "/people/bulk_match"


def match(client: Client, details: list[dict[str, str]], **query: str) -> Any:
    response = client.ask("apollo", PATH, {"details": details}, params=query)
    assert response.status_code == 200
    return response.json()


def result(client: Client, request_id: str) -> Any:
    return client.ask("apollo", f"/webhook_result/{request_id}")


def test_matches_answer_details_by_position(usual: Client) -> None:
    details = [people.apollo(n) for n in range(10)]
    reply = match(usual, details)
    matches = reply["matches"]
    assert len(matches) == 10
    assert None in matches
    assert all(m is None or m["linkedin_url"] == people.profile(n) for n, m in enumerate(matches))
    found = sum(m is not None for m in matches)
    assert reply["credits_consumed"] == reply["unique_enriched_records"] == found
    assert reply["missing_records"] == 10 - found
    assert usual.sandbox.meter()["apollo"]["charged_micro"] == found * 1_000_000


def test_the_same_person_is_charged_again(certain: Client) -> None:
    match(certain, [people.apollo(1)])
    match(certain, [people.apollo(1)])
    assert certain.sandbox.meter()["apollo"]["charged_micro"] == 2_000_000
    (row,) = certain.sandbox.double_charges()
    assert (row["provider"], row["product"], row["times"]) == ("apollo", "match", 2)
    assert row["shares_identifier"] is True
    assert len(set(row["calls"])) == 2


def test_mobiles_come_by_webhook_and_are_charged_then(certain: Client, inbox: Inbox) -> None:
    query = {"reveal_phone_number": "true", "webhook_url": inbox.url}
    reply = match(certain, [people.apollo(n) for n in range(3)], **query)
    assert reply["credits_consumed"] == 3
    assert reply["phone_enrichment"]["status"] == "pending"
    (callback,) = inbox.wait_for(1)
    assert [p["id"] for p in callback["people"]] == [m["id"] for m in reply["matches"]]
    assert callback["people"][0]["phone_numbers"][0]["sanitized_number"].startswith("+")
    assert callback["credits_consumed"] == 24
    assert certain.sandbox.meter()["apollo"]["charged_micro"] == 27_000_000
    certain.sandbox.wait_for_deliveries()
    polled = result(certain, reply["phone_enrichment"]["request_id"]).json()
    assert polled["webhook_status"] == "success"
    assert polled["webhook_result"]["people"] == callback["people"]


def test_a_result_is_pending_until_it_is_there(start: Callable[..., Client], inbox: Inbox) -> None:
    client = start("--apollo-delay", "5-5")
    query = {"reveal_phone_number": "true", "webhook_url": inbox.url}
    request_id = match(client, [people.apollo(1)], **query)["phone_enrichment"]["request_id"]
    response = result(client, request_id)
    assert response.status_code == 404
    assert response.json()["error_code"] == "result_pending"
    assert result(client, "77").json()["error_code"] == "request_id_unknown"
    assert result(client, "abc").status_code == 400
    # The same people again while their phones are under way: nothing more will come.
    again = match(client, [people.apollo(1)], **query)
    assert again["phone_enrichment"]["status"] == "skipped"


def test_what_nobody_took_is_stored_without_its_values(start: Callable[..., Client]) -> None:
    client = start("--webhook-attempts", 1)
    query = {"reveal_phone_number": "true", "webhook_url": "http://127.0.0.1:9/hook"}
    request_id = match(client, [people.apollo(1)], **query)["phone_enrichment"]["request_id"]
    client.sandbox.wait_for_deliveries()
    stored = result(client, request_id).json()
    assert stored["webhook_status"] == "failed"
    assert stored["webhook_result"]["credits_consumed"] == 8
    assert "phone_numbers" not in stored["webhook_result"]["people"][0]


def test_a_waterfall_leaves_costs_and_emails_to_its_callback(certain: Client, inbox: Inbox) -> None:
    query = {"run_waterfall_email": "true", "webhook_url": inbox.url}
    reply = match(certain, [people.apollo(1), people.apollo(2)], **query)
    assert reply["waterfall"]["status"] == "accepted"
    assert not {"credits_consumed", "unique_enriched_records", "missing_records"} & set(reply)
    assert all("email" not in m for m in reply["matches"])
    (callback,) = inbox.wait_for(1)
    assert callback["request_id"] == reply["request_id"]
    assert callback["people"][0]["emails"][0]["email"] == people.email(1)
    assert callback["credits_consumed"] == 10
    assert certain.sandbox.meter()["apollo"]["charged_micro"] == 12_000_000


def test_mobiles_and_a_waterfall_come_separately(certain: Client, inbox: Inbox) -> None:
    query = {
        "run_waterfall_email": "true",
        "reveal_phone_number": "true",
        "webhook_url": inbox.url,
    }
    reply = match(certain, [people.apollo(1)], **query)
    assert reply["waterfall"]["status"] == "accepted"
    assert reply["phone_enrichment"]["request_id"] != str(reply["request_id"])
    callbacks = inbox.wait_for(2)
    assert sorted(c["credits_consumed"] for c in callbacks) == [5, 8]
    assert [c for c in callbacks if "request_id" not in c][0]["people"][0]["phone_numbers"]
    assert certain.sandbox.meter()["apollo"]["charged_micro"] == 14_000_000


def test_personal_emails_are_not_revealed_in_gdpr_regions(certain: Client) -> None:
    details = [people.apollo(n) for n in range(10)]
    matches = match(certain, details, reveal_personal_emails="true")["matches"]
    hidden = [m for m in matches if m["country"] in ("Germany", "France", "Spain", "Poland")]
    shown = [m for m in matches if m["country"] in ("United States", "India", "Brazil")]
    assert hidden
    assert shown
    assert all(m["personal_emails"] == [] for m in hidden)
    assert all(m["personal_emails"] for m in shown)
    assert "personal_emails" not in match(certain, details)["matches"][0]


def test_credits_can_be_fractions(start: Callable[..., Client]) -> None:
    client = start("--price", "apollo.match=1500000")
    assert match(client, [people.apollo(1)])["credits_consumed"] == 1.5
    usage = client.ask("apollo", "/usage_stats/credit_usage_stats", {}).json()
    assert usage["credits_used"] == "1.5"
    assert usage["credits_remaining"] == "999999998.5"


HOOK = {"webhook_url": "http://127.0.0.1:9/hook"}


@pytest.mark.parametrize(
    ("details", "query", "rule"),
    [
        ([], {}, "details"),
        ([people.apollo(n) for n in range(11)], {}, "batch_size"),
        ([people.apollo(1, phone="+1")], {}, "unknown_field"),
        ([people.apollo(1, domain="www.copperfox.com")], {}, "malformed_domain"),
        ([people.apollo(1)], {"reveal_phone_number": "true"}, "webhook_missing"),
        ([people.apollo(1)], {"run_waterfall_email": "true"}, "webhook_missing"),
        ([people.apollo(1)], HOOK, "webhook_without_flag"),
        ([people.apollo(1)], {"reveal_personal_emails": "true", **HOOK}, "webhook_without_flag"),
        ([people.apollo(1)], {"reveal_phone_number": "1"}, "flag"),
        ([people.apollo(1)], {"reveal_everything": "true"}, "query_parameter"),
    ],
)
def test_a_broken_rule_is_refused_and_counted(
    certain: Client, details: list[dict[str, str]], query: dict[str, str], rule: str
) -> None:
    response = certain.ask("apollo", PATH, {"details": details}, params=query)
    assert response.status_code == 400
    expected = "RECORD_LIMIT_EXCEEDED" if rule == "batch_size" else "INVALID_REQUEST"
    assert response.json()["error_code"] == expected
    assert certain.rules_broken() == {f"apollo.{rule}": 1}
    assert certain.sandbox.meter()["apollo"]["charged_micro"] == 0


def test_https_can_be_demanded(start: Callable[..., Client]) -> None:
    client = start("--require-https")
    query = {"reveal_phone_number": "true", **HOOK}
    response = client.ask("apollo", PATH, {"details": [people.apollo(1)]}, params=query)
    assert response.status_code == 400
    assert client.rules_broken() == {"apollo.webhook_url": 1}


def test_a_bad_key_is_a_401_in_plain_text(certain: Client) -> None:
    response = certain.ask("apollo", PATH, {"details": []}, headers={"x-api-key": "invalid"})
    assert response.status_code == 401
    assert response.headers["content-type"].startswith("text/plain")
    assert "x-rate-limit-minute" not in response.headers
