"""What the agntdata documents promise of bulk enrichment, kept by the sandbox."""

from typing import Any

import pytest

from . import people
from .conftest import Client

PATH = "/people/bulk-enrich"
FIELDS = ["email", "phone", "job_title", "linkedin_url"]


def body(*items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"inputs": list(items), "fields": FIELDS, **more}


def test_a_matched_record_costs_one_cent(certain: Client) -> None:
    response = certain.ask("agntdata", PATH, body(*[people.agntdata(n) for n in range(100)]))
    reply = response.json()
    assert reply["success"] is True
    assert reply["meta"]["costCents"] == 100
    assert [r["identifier"] for r in reply["data"]["results"]][:2] == ["row-0", "row-1"]
    assert set(reply["data"]["results"][0]["person"]) == set(FIELDS)
    left = certain.ask("agntdata", "/credits").json()["purchasedBalanceCents"]
    assert left == reply["meta"]["purchasedBalanceCents"] == 1_000_000_000 - 100


def test_a_miss_is_free(usual: Client) -> None:
    reply = usual.ask("agntdata", PATH, body(*[people.agntdata(n) for n in range(100)])).json()
    matched = [r for r in reply["data"]["results"] if r["matched"]]
    missed = [r for r in reply["data"]["results"] if not r["matched"]]
    assert missed
    assert all(r["person"] is None and r["cost_cents"] == 0 for r in missed)
    assert reply["meta"]["costCents"] == len(matched)
    assert usual.sandbox.meter()["agntdata"]["charged_micro"] == len(matched) * 1_000_000


def test_a_record_dearer_than_the_cap_is_a_free_miss(certain: Client) -> None:
    reply = certain.ask("agntdata", PATH, body(people.agntdata(1), max_cost_cents_per_record=0))
    assert reply.json()["data"]["results"][0]["matched"] is False
    assert reply.json()["meta"]["costCents"] == 0


def test_identifiers_may_be_nested(certain: Client) -> None:
    item = {"identifier": "a", "identifiers": {"email": people.email(1)}}
    assert certain.ask("agntdata", PATH, body(item)).json()["data"]["results"][0]["matched"]


@pytest.mark.parametrize(
    ("sent", "rule"),
    [
        (body(), "batch_size"),
        (body(*[people.agntdata(n) for n in range(101)]), "batch_size"),
        (body(people.agntdata(1, first_name="Ada")), "forbidden_input"),
        (body(people.agntdata(1, domain="copperfox.com")), "forbidden_input"),
        (body(people.agntdata(1, company="Copperfox")), "unknown_field"),
        (body({"identifier": "a"}), "missing_datapoint"),
        (body({"linkedin_url": people.profile(1)}), "identifier"),
        (body(people.agntdata(1), people.agntdata(1)), "duplicate_identifier"),
        (body({"identifier": "a", "email": "nobody"}), "malformed_email"),
        (body({"identifier": "a", "linkedin_url": "x.com/a"}), "malformed_linkedin_url"),
        ({**body(people.agntdata(1)), "fields": ["age"]}, "fields"),
        (body(people.agntdata(1), max_cost_cents_per_record="5"), "cost_cap"),
    ],
)
def test_a_broken_rule_refuses_the_call_and_is_counted(
    certain: Client, sent: dict[str, Any], rule: str
) -> None:
    response = certain.ask("agntdata", PATH, sent)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "VALIDATION_ERROR"
    assert certain.rules_broken() == {f"agntdata.{rule}": 1}


def test_without_money_the_answer_is_402(certain: Client) -> None:
    certain.sandbox.balance(500_000, "agntdata")
    response = certain.ask("agntdata", PATH, body(people.agntdata(1)))
    assert response.status_code == 402
    assert response.json()["error"]["code"] == "INSUFFICIENT_CREDITS"
