"""What the Pronto documents promise of contact enrichment, kept by the sandbox."""

from typing import Any

import pytest

from . import people
from .conftest import Client
from .inbox import Inbox

BULK, SINGLE = "/contacts/bulk_enrich", "/contacts/single_enrich"


def body(url: str, *contacts: dict[str, Any], kind: str = "email", **more: Any) -> dict[str, Any]:
    return {"contacts": list(contacts), "enrichment_type": [kind], "webhook_url": url, **more}


def test_every_contact_is_delivered_with_its_custom_fields(certain: Client, inbox: Inbox) -> None:
    accepted = certain.ask("pronto", BULK, body(inbox.url, *map(people.pronto, range(5))))
    assert accepted.status_code == 202
    job = accepted.json()["enrichment_id"]
    delivered = inbox.wait_for(5)
    assert sorted(d["custom"]["row"] for d in delivered) == ["0", "1", "2", "3", "4"]
    assert {d["enrichment_id"] for d in delivered} == {job}
    assert all(d["status"] == "finished" for d in delivered)
    assert all(d["email_status"] == "deliverable" and "@" in d["email"] for d in delivered)
    assert certain.sandbox.meter()["pronto"]["charged_micro"] == 5_000_000


@pytest.mark.parametrize(("kind", "price"), [("phone", 10), ("personal_email", 10), ("email", 1)])
def test_the_price_is_due_for_each_contact_found(
    usual: Client, inbox: Inbox, kind: str, price: int
) -> None:
    usual.ask("pronto", BULK, body(inbox.url, *map(people.pronto, range(40)), kind=kind))
    delivered = inbox.wait_for(40)
    found = [d for d in delivered if d[kind]]
    assert 0 < len(found) < 40
    assert usual.sandbox.meter()["pronto"]["charged_micro"] == len(found) * price * 1_000_000
    left = usual.ask("pronto", "/credits").json()["credits"]
    assert left == 1_000_000_000 - len(found) * price


def test_phones_are_restricted_to_the_countries_named(certain: Client, inbox: Inbox) -> None:
    contacts = list(map(people.pronto, range(30)))
    sent = body(inbox.url, *contacts, kind="phone", phone_country_codes=["FR"])
    certain.ask("pronto", BULK, sent)
    found = [d["phone"] for d in inbox.wait_for(30) if d["phone"]]
    assert found
    assert all(numbers[0].startswith("+33") for numbers in found)
    assert len(found) < 30


def test_a_lone_contact_is_polled(certain: Client) -> None:
    sent = {**people.pronto(1), "enrichment_type": ["email"]}
    job = certain.ask("pronto", SINGLE, sent).json()["enrichment_id"]
    certain.sandbox.wait_for_deliveries()
    result = certain.ask("pronto", f"/contacts/{job}").json()
    assert result["status"] == "finished"
    assert result["custom"] == {"row": "1"}
    assert "@" in result["email"]


def test_a_bulk_job_cannot_be_polled(certain: Client, inbox: Inbox) -> None:
    sent = body(inbox.url, people.pronto(1), people.pronto(2))
    job = certain.ask("pronto", BULK, sent).json()["enrichment_id"]
    assert certain.ask("pronto", f"/contacts/{job}").status_code == 404


def test_a_delivery_is_tried_again_until_it_is_taken(certain: Client, inbox: Inbox) -> None:
    inbox.answers = [500, 503]
    certain.ask("pronto", SINGLE, {**body(inbox.url), **people.pronto(1)} | {"contacts": []})
    assert inbox.bodies == []
    sent = {**people.pronto(1), "enrichment_type": ["email"], "webhook_url": inbox.url}
    certain.ask("pronto", SINGLE, sent)
    deliveries = inbox.wait_for(3)
    assert deliveries[0] == deliveries[1] == deliveries[2]
    assert certain.sandbox.meter()["pronto"]["charged_micro"] == 1_000_000


def _pair(**more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return people.pronto(1), people.pronto(2, **more)


URL = "http://127.0.0.1:9/hook"


@pytest.mark.parametrize(
    ("sent", "rule"),
    [
        (body(URL, people.pronto(1)), "batch_size"),
        (body(URL, *map(people.pronto, range(101))), "batch_size"),
        (body(URL, *_pair(), kind="fax"), "enrichment_type"),
        ({**body(URL, *_pair()), "enrichment_type": ["email", "phone"]}, "enrichment_type"),
        ({**body(URL, *_pair()), "webhook_url": None}, "webhook_missing"),
        (body("http://example.com/hook", *_pair()), "webhook_url"),
        (body(URL, *_pair(), phone_country_codes=["FRA"]), "country_codes"),
        (body(URL, *_pair(lastname="")), "missing_datapoint"),
        (body(URL, *_pair(domain="")), "missing_datapoint"),
        (body(URL, *_pair(linkedin_url=""), kind="phone"), "missing_datapoint"),
        (body(URL, *_pair(linkedin_url="x")), "malformed_linkedin_url"),
        (body(URL, *_pair(email="a@b.com")), "unknown_field"),
        (body(URL, *_pair(custom="row")), "custom"),
        (body(URL, *_pair(), priority=1), "unknown_field"),
    ],
)
def test_a_broken_rule_refuses_the_batch_and_is_counted(
    certain: Client, sent: dict[str, Any], rule: str
) -> None:
    assert certain.ask("pronto", BULK, sent).status_code == 422
    assert certain.rules_broken() == {f"pronto.{rule}": 1}
    assert certain.sandbox.webhooks()["waiting"] == 0


def test_personal_emails_need_the_accounts_consent(certain: Client, inbox: Inbox) -> None:
    certain.sandbox.account(pronto_consent=False)
    response = certain.ask("pronto", BULK, body(inbox.url, *_pair(), kind="personal_email"))
    assert response.status_code == 422
    assert "consent" in response.json()["error"]
    assert certain.rules_broken() == {}


def test_credits_are_checked_for_the_whole_batch_with_what_is_under_way(
    certain: Client, inbox: Inbox
) -> None:
    certain.sandbox.balance(3_000_000, "pronto")
    assert certain.ask("pronto", BULK, body(inbox.url, *_pair())).status_code == 202
    refused = certain.ask("pronto", BULK, body(inbox.url, people.pronto(3), people.pronto(4)))
    assert refused.status_code == 422
    assert "credits" in refused.json()["error"]
    assert len(inbox.wait_for(2)) == 2
    assert certain.ask("pronto", "/credits").json() == {"credits": 1}
