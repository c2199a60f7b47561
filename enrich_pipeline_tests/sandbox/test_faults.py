"""Scripted faults happen as scripted, and the meter knows what they cost."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import sleep
from typing import Any

import httpx
import pytest

from . import people
from .conftest import Client
from .inbox import Inbox

PATH = "/bulk-enrich-person"


def send(client: Client, count: int = 3) -> httpx.Response:
    return client.ask("prospeo", PATH, {"data": [people.prospeo(n) for n in range(count)]})


def charged(client: Client, provider: str = "prospeo") -> int:
    return client.sandbox.meter()[provider]["charged_micro"] // 1_000_000


def script(client: Client, kind: str, **more: Any) -> None:
    client.sandbox.faults({"provider": "prospeo", "kind": kind, **more})


@pytest.mark.parametrize(("kind", "credits"), [("charge_then_drop", 3), ("drop_before", 0)])
def test_a_dropped_connection_brings_no_reply(certain: Client, kind: str, credits: int) -> None:
    script(certain, kind)
    with pytest.raises(httpx.RemoteProtocolError):
        send(certain)
    assert charged(certain) == credits
    assert send(certain).status_code == 200
    assert certain.sandbox.requests()["prospeo"]["by_outcome"] == {f"fault:{kind}": 1, "ok": 1}


def test_what_was_under_way_at_a_reset_is_charged_neither_before_nor_after_it(
    certain: Client,
) -> None:
    certain.sandbox.latency(1000, provider="prospeo")
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(send, certain)
        sleep(0.3)
        certain.sandbox.reset()
        assert isinstance(asked.exception(), httpx.RemoteProtocolError)
    assert charged(certain) == 0
    assert certain.sandbox.requests()["prospeo"]["count"] == 0


def test_a_body_can_be_cut_in_the_middle(certain: Client) -> None:
    script(certain, "cut_body")
    with pytest.raises(httpx.RemoteProtocolError):
        send(certain)
    assert charged(certain) == 3


def test_truncated_json_and_html_and_other_types_are_charged(certain: Client) -> None:
    script(certain, "truncate")
    with pytest.raises(ValueError, match="."):
        send(certain).json()
    assert charged(certain) == 3
    script(certain, "html")
    assert send(certain, 4).headers["content-type"].startswith("text/html")
    assert charged(certain) == 4
    script(certain, "wrong_content_type")
    reply = send(certain, 5)
    assert reply.headers["content-type"].startswith("text/plain")
    assert reply.json()["total_cost"] == 1


def test_statuses_charge_nothing_unless_they_say_so(certain: Client) -> None:
    script(certain, "status", status=503)
    assert send(certain).status_code == 503
    assert charged(certain) == 0
    script(certain, "status", status=422, body={"error": "plan limit"})
    assert send(certain).json() == {"error": "plan limit"}
    script(certain, "charge_then_status", status=502)
    assert send(certain).status_code == 502
    assert charged(certain) == 3


def test_429_and_insufficient_speak_the_providers_words(certain: Client) -> None:
    script(certain, "429", seconds=7)
    assert send(certain).json()["error_code"] == "RATE_LIMITED"
    script(certain, "insufficient")
    assert send(certain).json()["error_code"] == "INSUFFICIENT_CREDITS"
    assert certain.rules_broken() == {}


def test_poison_refuses_every_call_that_holds_it(certain: Client) -> None:
    script(certain, "poison", match={"values": ["row-2"]})
    assert send(certain, 3).json()["error_code"] == "INVALID_REQUEST"
    assert send(certain, 3).status_code == 400
    assert send(certain, 2).status_code == 200
    assert certain.rules_broken() == {}


def test_poison_can_be_a_share_of_all_humans(certain: Client) -> None:
    script(certain, "poison", match={"share": 0.2})
    answers = [
        certain.ask("prospeo", PATH, {"data": [people.prospeo(n)]}).status_code for n in range(60)
    ]
    assert 2 <= answers.count(400) <= 28


def test_identifiers_can_be_missing_unknown_or_in_another_order(certain: Client) -> None:
    script(certain, "missing_identifier")
    assert len(send(certain).json()["matched"]) == 2
    script(certain, "unknown_identifier")
    assert send(certain).json()["matched"][0]["identifier"] == "unknown-to-the-caller"
    script(certain, "reorder")
    assert [m["identifier"] for m in send(certain).json()["matched"]] == ["row-2", "row-1", "row-0"]


def test_an_overcharge_is_reported_and_metered(certain: Client) -> None:
    script(certain, "overcharge", amount_micro=4_000_000)
    assert send(certain).json()["total_cost"] == 7
    assert charged(certain) == 7


def test_times_and_probability_are_kept(certain: Client) -> None:
    script(certain, "429", times=2)
    assert [send(certain).status_code for _ in range(3)] == [429, 429, 200]
    script(certain, "429", probability=0.5)
    statuses = [send(certain).status_code for _ in range(40)]
    assert 5 < statuses.count(429) < 35
    certain.sandbox.clear_faults()
    assert send(certain).status_code == 200


def test_balances_and_polls_are_spared_unless_named(certain: Client) -> None:
    script(certain, "status", status=500)
    assert certain.ask("prospeo", "/account-information").status_code == 200
    certain.sandbox.clear_faults()
    script(certain, "status", status=500, match={"endpoint": "account-information"})
    assert certain.ask("prospeo", "/account-information").status_code == 500


def test_an_unknown_fault_is_refused(certain: Client) -> None:
    with pytest.raises(httpx.HTTPStatusError):
        script(certain, "explode")


@pytest.mark.parametrize(
    ("kind", "deliveries", "counted"),
    [
        ("duplicate_webhook", 2, "duplicated"),
        ("late_webhook", 1, "late"),
        ("lose_webhook", 0, "lost"),
    ],
)
def test_webhooks_can_be_doubled_late_or_lost(
    certain: Client, inbox: Inbox, kind: str, deliveries: int, counted: str
) -> None:
    certain.sandbox.faults({"provider": "pronto", "kind": kind, "seconds": 0.2})
    sent = {**people.pronto(1), "enrichment_type": ["email"], "webhook_url": inbox.url}
    certain.ask("pronto", "/contacts/single_enrich", sent)
    certain.sandbox.wait_for_deliveries()
    assert len(inbox.bodies) == deliveries
    assert certain.sandbox.webhooks()[counted] == 1
    assert charged(certain, "pronto") == 1


@pytest.mark.parametrize(
    ("provider", "header"),
    [("agntdata", "retry-after"), ("pronto", "retry-after"), ("apollo", "retry-after"),
     ("prospeo", "x-minute-request-left")],
)  # fmt: skip
def test_more_than_the_rate_is_refused_with_the_documented_header(
    start: Callable[..., Client], provider: str, header: str
) -> None:
    client = start("--limit", f"{provider}=-/2")
    path = {"agntdata": "/credits", "pronto": "/credits", "prospeo": "/account-information",
            "apollo": "/webhook_result/1"}[provider]  # fmt: skip
    statuses = [client.ask(provider, path).status_code for _ in range(3)]
    assert statuses[2] == 429
    assert 429 not in statuses[:2]
    assert header in client.ask(provider, path).headers
    assert client.sandbox.requests()[provider]["by_outcome"]["rate_limited"] == 2
