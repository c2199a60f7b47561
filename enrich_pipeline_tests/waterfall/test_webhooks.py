"""Deliveries: late, twice, forged, early, contradicting; and replies that come after the doubt."""

import json
import threading
from typing import Any

from enrich_pipeline.providers.protocol import HttpResponse
from enrich_pipeline.waterfall import send

from ..sandbox import people
from ..support.lab import Lab, contact, contacts, only
from .conftest import Open

PRONTO = {
    **only({"work_email": ["pronto", "prospeo"]}),
    "providers": {"pronto": {"await_seconds": 0.1}},
}


def delivery(number: int, ref: str, email: str | None = None) -> dict[str, Any]:
    """What Pronto delivers for a found address."""
    return {
        "enrichment_id": "5d1c1f5e-0000-4000-8000-000000000000",
        "first_name": people.first(number),
        "last_name": people.last(number),
        "status": "finished",
        "email": email or people.email(number),
        "email_status": "deliverable",
        "custom": {"ref": ref},
    }


def inbox(lab: Lab) -> list[tuple[Any, ...]]:
    return lab.sql(
        "select state, reason, deliveries, count(*) from enrichment.inbox "
        "group by 1, 2, 3 order by 1, 2, 3"
    )


def refs(lab: Lab) -> dict[str, tuple[int, str]]:
    """Contact -> (call, its name there, which Pronto echoes) of its latest line."""
    return {
        contact: (call, f"{key}.{call}")
        for contact, call, key in lab.sql(
            "select c.contact_id, l.call_id, l.item_key from enrichment.charge_lines as l "
            "join enrichment.contacts as c using (person_id) order by l.line_id"
        )
    }


def test_a_lost_delivery_becomes_doubt_at_its_deadline_then_is_written_off_and_moves_on(
    open_lab: Open,
) -> None:
    lab = open_lab(PRONTO)
    lab.sandbox.faults({"provider": "pronto", "kind": "lose_webhook"})
    lab.night(contacts(range(6)))
    lab.sandbox.wait_for_deliveries()
    lab.drain()
    assert lab.states("pronto") == {"accepted": 1}
    assert lab.account("pronto")["held"] == 1_000_000
    lab.overdue("deadline_at", "pronto")
    lab.drain()
    assert lab.states("pronto") == {"in_doubt": 1}
    assert lab.sent()["prospeo"] == 0
    lab.assert_books()
    lab.overdue("write_off_at", "pronto")
    lab.drain()
    assert lab.states("pronto") == {"written_off": 1}
    assert lab.outcomes("prospeo") == {"found": 1}
    assert lab.sent()["pronto"] == 1
    lab.assert_books()

    late = lab.sql(
        "select l.call_id, l.item_key, right(c.contact_id, 4)::int "
        "from enrichment.charge_lines as l join enrichment.contacts as c using (person_id) "
        "where l.state = 'written_off'"
    )
    ((call_id, key, number),) = late
    lab.deliver(call_id, delivery(number, f"{key}.{call_id}"))
    lab.drain()
    assert lab.states("pronto") == {"settled": 1}
    assert (
        lab.one("select count(*) from enrichment.ledger_entries where entry_type = 'recover'") == 1
    )
    assert lab.one("select count(*) from enrichment.observations where provider = 'pronto'") == 6
    lab.assert_exact()


def test_each_of_several_written_off_contacts_recovers_by_its_own_late_delivery(
    open_lab: Open,
) -> None:
    lab = open_lab(PRONTO)
    lab.sandbox.faults({"provider": "pronto", "kind": "lose_webhook", "probability": 1})
    lab.night(contacts(range(3)))
    lab.sandbox.wait_for_deliveries()
    for clock in ("deadline_at", "write_off_at"):
        lab.overdue(clock, "pronto")
        lab.sweep()
    assert lab.account("pronto")["written_off"] == 3_000_000
    places = refs(lab)
    for number in range(3):
        call_id, key = places[f"c{number:04d}"]
        lab.deliver(call_id, delivery(number, key))
        lab.sweep()
        lab.assert_books()
        assert lab.account("pronto")["spent"] == (number + 1) * 1_000_000
    lab.assert_exact()


def test_a_repeated_delivery_has_no_effect(open_lab: Open) -> None:
    lab = open_lab(only({"work_email": ["pronto"]}))
    lab.sandbox.faults({"provider": "pronto", "kind": "duplicate_webhook", "probability": 1})
    lab.night(contacts(range(6)))
    lab.sandbox.wait_for_deliveries()
    lab.drain()
    assert lab.sandbox.webhooks()["duplicated"] == 6
    assert inbox(lab) == [("applied", None, 2, 6)]
    assert lab.one("select count(*) from enrichment.observations") == 6
    lab.assert_exact()


def test_somebody_else_is_still_known_when_a_closed_call_is_answered_again(open_lab: Open) -> None:
    """Campaign model, seed 1: by then only its lines know by which id the provider calls whom."""
    lab = open_lab(only({"phone": ["apollo"]}), {"answer.other_person": 1})
    lab.night(contacts(range(3)))
    assert lab.outcomes("apollo") == {"other_person": 3}
    call_id, body = lab.sql(
        "select c.call_id, convert_from(i.body, 'UTF8') from enrichment.inbox as i "
        "join enrichment.calls as c using (token_hash) where c.state = 'settled'"
    )[0]
    lab.deliver(call_id, {**json.loads(body), "sent": "again"})
    lab.sweep()
    assert ("ignored", "repeated", 1, 1) in inbox(lab)
    lab.assert_exact()


def test_a_second_answer_that_differs_is_set_aside_and_overwrites_nothing(open_lab: Open) -> None:
    lab = open_lab(only({"work_email": ["pronto"]}))
    lab.night(contacts(range(2)))
    before = lab.sql("select * from enrichment.observations")
    call_id, key = refs(lab)["c0001"]
    lab.deliver(call_id, delivery(1, key, "somebody.else@copperfox1.com"))
    lab.sweep()
    assert ("quarantined", "differs_from_first", 1, 1) in inbox(lab)
    assert lab.sql("select * from enrichment.observations") == before
    lab.assert_exact()


def test_an_unknown_token_has_no_effect(open_lab: Open) -> None:
    lab = open_lab(PRONTO)
    lab.sandbox.faults({"provider": "pronto", "kind": "lose_webhook", "probability": 1})
    lab.night(contacts(range(2)))
    call_id, key = refs(lab)["c0000"]
    lab.deliver(call_id, delivery(0, key), token="0" * 64)
    lab.sql("update enrichment.inbox set received_at = received_at - interval '11 minutes'")
    lab.sweep()
    assert inbox(lab) == [("quarantined", "unknown_token", 1, 1)]
    assert lab.one("select count(*) from enrichment.observations") == 0
    assert lab.account("pronto")["held"] == 2_000_000


def test_an_item_of_another_call_is_quarantined(open_lab: Open) -> None:
    lab = open_lab({**PRONTO, "providers": {"pronto": {"await_seconds": 0.1, "batch_size": 2}}})
    lab.sandbox.faults({"provider": "pronto", "kind": "lose_webhook", "probability": 1})
    lab.night(contacts(range(4)))
    places = refs(lab)
    call_id = places["c0000"][0]
    other = next(n for n in range(4) if places[f"c{n:04d}"][0] != call_id)
    lab.deliver(call_id, delivery(other, places[f"c{other:04d}"][1]))
    lab.sweep()
    assert [row[0] for row in inbox(lab)] == ["quarantined"]
    assert lab.account("pronto")["held"] == 4_000_000
    lab.assert_books()


def test_an_item_of_another_call_about_the_same_person_is_quarantined(open_lab: Open) -> None:
    waterfalls = {"work_email": ["pronto"], "phone": ["pronto"]}
    lab = open_lab({**only(waterfalls), "providers": {"pronto": {"await_seconds": 0.1}}})
    lab.sandbox.faults({"provider": "pronto", "kind": "lose_webhook", "probability": 1})
    lab.night(contacts(range(2)))
    (emails, sent), (phones, _) = lab.sql(
        "select call_id, request_body from enrichment.calls order by call_group"
    )
    first = json.loads(bytes(sent))["contacts"][0]
    # Of a failure nothing else tells which call it belongs to.
    lab.deliver(phones, {"status": "failed", "custom": first["custom"]})
    lab.sweep()
    assert [row[0] for row in inbox(lab)] == ["quarantined"]
    assert lab.account("pronto")["held"] == 22_000_000
    lab.deliver(emails, {"status": "failed", "custom": first["custom"]})
    lab.sweep()
    assert lab.account("pronto")["held"] == 21_000_000


def test_a_delivery_before_the_reply_to_the_request_settles_while_it_is_still_being_sent(
    open_lab: Open,
) -> None:
    lab = open_lab(only({"work_email": ["pronto"]}))
    lab.sandbox.faults({"provider": "pronto", "kind": "slow", "seconds": 1.0})
    lab.load(contacts(range(4)))
    lab.plan()
    worker = threading.Thread(target=lab.drain)
    worker.start()
    lab.until("select count(*) = 4 from enrichment.inbox")
    assert lab.states("pronto") == {"sending": 1}
    lab.sweep()
    assert lab.account("pronto")["spent"] == 4_000_000
    assert inbox(lab) == [("applied", None, 1, 4)]
    worker.join()
    assert lab.states("pronto") == {"settled": 1}
    assert lab.outcomes("pronto") == {"found": 4}
    lab.assert_exact()


def test_the_late_reply_of_a_worker_that_slept_past_its_lease_still_settles(
    open_lab: Open,
) -> None:
    lab = open_lab(only({"work_email": ["agntdata"]}))
    lab.sandbox.faults({"provider": "agntdata", "kind": "slow", "seconds": 0.8})
    lab.load(contacts(range(4)))
    lab.plan()
    worker = threading.Thread(target=lab.drain)
    worker.start()
    lab.until("select count(*) = 1 from enrichment.calls where state = 'sending'")
    lab.overdue("lease_until", "agntdata")
    lab.sweep()
    assert lab.states("agntdata") == {"in_doubt": 1}
    worker.join()
    assert lab.states("agntdata") == {"settled": 1}
    assert lab.outcomes("agntdata") == {"found": 4}
    assert lab.sent()["agntdata"] == 1
    lab.assert_exact()


def test_a_stored_reply_is_used_although_its_call_was_in_doubt_and_its_worker_died(
    open_lab: Open,
) -> None:
    lab = open_lab(only({"work_email": ["agntdata"]}))
    lab.sandbox.faults({"provider": "agntdata", "kind": "charge_then_drop"})
    lab.night(contacts(range(2)))
    assert lab.states("agntdata") == {"in_doubt": 1}
    call_id = lab.one("select call_id from enrichment.calls")
    keys = [key for (key,) in lab.sql("select item_key from enrichment.charge_lines order by 1")]
    body = {
        "success": True,
        "data": {
            "results": [
                {
                    "identifier": key,
                    "matched": True,
                    "person": {"email": f"{key}@copperfox0.com"},
                    "cost_cents": 1,
                }
                for key in keys
            ]
        },
        "meta": {"costCents": 2},
    }
    with lab.context() as ctx:
        # What a worker that was paused past its lease does last before it is killed.
        response = HttpResponse(
            200, {"content-type": "application/json"}, json.dumps(body).encode()
        )
        send.store(ctx, call_id, "submit", [response])
    lab.sweep()
    assert lab.states("agntdata") == {"settled": 1}
    assert lab.outcomes("agntdata") == {"found": 2}
    lab.assert_exact()


def test_persons_who_turn_out_to_be_one_keep_what_is_under_way_for_both(open_lab: Open) -> None:
    lab = open_lab(PRONTO)
    lab.sandbox.faults(
        {"provider": "pronto", "kind": "late_webhook", "seconds": 0.8, "probability": 1}
    )
    by_mail = contact(1, linkedin_url="", lance_person_id="")
    by_profile = contact(1, contact_id="other", email="", lance_person_id="")
    lab.night([by_mail, by_profile])
    assert lab.one("select count(*) from enrichment.charge_lines where state = 'held'") == 2
    lab.load([contact(1, contact_id="both")])
    assert lab.one("select count(*) from enrichment.persons where merged_into is null") == 1
    lab.sandbox.wait_for_deliveries()
    lab.sweep()
    # Campaign model, seed 11: before the next plan, what was asked for both is still the other's.
    again = "select convert_from(body, 'UTF8') from enrichment.inbox where state = 'applied'"
    call_id = lab.one("select call_id from enrichment.calls where state = 'settled'")
    for (body,) in lab.sql(again):
        lab.deliver(call_id, {**json.loads(body), "sent": "again"})
    lab.sweep()
    assert inbox(lab) == [("applied", None, 1, 2), ("ignored", "repeated", 1, 2)]
    lab.plan()
    lab.drain()
    assert lab.states("pronto") == {"settled": 1}
    assert lab.one("select count(distinct person_id) from enrichment.observations") == 1
    assert lab.sent()["prospeo"] == 0
    lab.assert_exact()
