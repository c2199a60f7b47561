"""What the Prospeo API reference promises of bulk enrichment, kept by the sandbox."""

from typing import Any

import pytest

from . import people
from .conftest import Client

PATH = "/bulk-enrich-person"


def enrich(client: Client, items: list[dict[str, str]], **flags: bool) -> Any:
    response = client.ask("prospeo", PATH, {"data": items, **flags})
    assert response.status_code == 200
    return response.json()


def test_a_match_costs_one_credit_and_is_free_ever_after(certain: Client) -> None:
    items = [people.prospeo(n) for n in range(50)]
    assert enrich(certain, items)["total_cost"] == 50
    again = enrich(certain, items)
    assert again["total_cost"] == 0
    assert len(again["matched"]) == 50
    assert certain.sandbox.meter()["prospeo"]["charged_micro"] == 50_000_000


def test_a_later_mobile_costs_the_difference(certain: Client) -> None:
    items = [people.prospeo(1)]
    assert enrich(certain, items)["total_cost"] == 1
    reply = enrich(certain, items, enrich_mobile=True)
    assert reply["total_cost"] == 9
    assert reply["matched"][0]["person"]["mobile"]["revealed"] is True
    assert enrich(certain, items, enrich_mobile=True)["total_cost"] == 0
    assert certain.sandbox.double_charges() == []


def test_a_mobile_that_was_not_asked_for_is_masked(certain: Client) -> None:
    mobile = enrich(certain, [people.prospeo(1)])["matched"][0]["person"]["mobile"]
    assert mobile["revealed"] is False
    assert "*" in mobile["mobile"]


def test_the_three_lists_together_are_what_was_submitted(usual: Client) -> None:
    items = [people.prospeo(n) for n in range(49)]
    items.append({"identifier": "poor", "full_name": "Brandon Stering"})
    reply = enrich(usual, items)
    answered = [m["identifier"] for m in reply["matched"]]
    answered += reply["not_matched"] + reply["invalid_datapoints"]
    assert sorted(answered) == sorted(item["identifier"] for item in items)
    assert reply["invalid_datapoints"] == ["poor"]
    assert reply["not_matched"]
    assert reply["total_cost"] == len(reply["matched"])


@pytest.mark.parametrize(
    "item",
    [
        {"first_name": "Ada", "last_name": "Tester", "company_name": "Copperfox"},
        {"full_name": "Ada Tester", "company_website": "copperfox.com"},
        {"full_name": "Ada Tester", "company_linkedin_url": "https://linkedin.com/company/young"},
        {"linkedin_url": "https://www.linkedin.com/in/ada-tester"},
        {"email": "ada.tester@copperfox.com"},
        {"person_id": "6f564548455488874f48e"},
    ],
)
def test_every_documented_minimum_is_enough(certain: Client, item: dict[str, str]) -> None:
    assert enrich(certain, [{"identifier": "1", **item}])["invalid_datapoints"] == []


def test_only_verified_email_leaves_the_others_unmatched_and_free(usual: Client) -> None:
    items = [people.prospeo(n) for n in range(50)]
    strict = enrich(usual, items, only_verified_email=True)
    assert all(m["person"]["email"]["status"] == "VERIFIED" for m in strict["matched"])
    assert strict["total_cost"] == len(strict["matched"])
    assert enrich(usual, items)["total_cost"] > 0


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ({"data": []}, "batch_size"),
        ({"data": [people.prospeo(n) for n in range(51)]}, "batch_size"),
        ({"data": [people.prospeo(1), people.prospeo(1)]}, "duplicate_identifier"),
        ({"data": [people.prospeo(1, identifier="a b")]}, "identifier"),
        ({"data": [people.prospeo(1, phone="+1")]}, "unknown_field"),
        ({"data": [{**people.prospeo(1), "email": None}]}, "not_a_string"),
        ({"data": [people.prospeo(1)], "page": 1}, "unknown_field"),
        ({"data": [people.prospeo(1)], "enrich_mobile": "yes"}, "flag"),
    ],
)
def test_a_broken_rule_refuses_the_call_and_is_counted(
    certain: Client, body: dict[str, Any], rule: str
) -> None:
    response = certain.ask("prospeo", PATH, body)
    assert response.status_code == 400
    assert response.json() == {"error": True, "error_code": "INVALID_REQUEST"}
    assert certain.rules_broken() == {f"prospeo.{rule}": 1}
    assert certain.sandbox.meter()["prospeo"]["charged_micro"] == 0


def test_another_content_type_is_refused(certain: Client) -> None:
    response = certain.http.post(
        certain.sandbox.base_url("prospeo") + PATH, content="{}", headers={"X-KEY": "k"}
    )
    assert response.json()["error_code"] == "INVALID_REQUEST"
    assert certain.rules_broken() == {"prospeo.content_type": 1}


def test_a_call_dearer_than_the_balance_is_refused_whole(certain: Client) -> None:
    certain.sandbox.balance(3_000_000, "prospeo")
    refused = certain.ask("prospeo", PATH, {"data": [people.prospeo(n) for n in range(4)]})
    assert refused.status_code == 400
    assert refused.json()["error_code"] == "INSUFFICIENT_CREDITS"
    assert enrich(certain, [people.prospeo(n) for n in range(3)])["total_cost"] == 3
    account = certain.ask("prospeo", "/account-information").json()
    assert account["response"]["remaining_credits"] == 0
    assert certain.rules_broken() == {}
