"""When a waterfall stops, when it goes on, when it waits, and whom it passes by."""

from dataclasses import replace
from datetime import timedelta

import pytest

from enrich_pipeline.domain.enrichment import Field, ValueStatus
from enrich_pipeline.store.work import AnsweredValue
from enrich_pipeline.waterfall.claim import is_accepted
from enrich_pipeline.waterfall.engine import Partition

from ..support.lab import Lab, contact, contacts, only, opened
from .conftest import Open


def finished(lab: Lab) -> list[tuple[object, ...]]:
    return lab.sql("select state, result, count(*) from enrichment.enrichments group by 1, 2")


def test_a_catch_all_address_keeps_searching_and_stays_a_candidate(open_lab: Open) -> None:
    lab = open_lab(only({"work_email": ["pronto", "lance"]}), {"pronto.catch_all_share": 1})
    lab.night(contacts(range(10)))
    assert lab.outcomes("pronto") == {"found": 10}
    assert lab.outcomes("lance") == {"found": 10}
    assert lab.sql(
        "select provider, status, count(*) from enrichment.observations "
        "where rejected_reason is null group by 1, 2 order by 1"
    ) == [("lance", "verified", 10), ("pronto", "catch_all", 10)]
    assert finished(lab) == [("finished", "found", 10)]
    lab.assert_exact()


def test_a_search_that_ends_with_a_mere_candidate_is_found(open_lab: Open) -> None:
    lab = open_lab(only({"work_email": ["pronto"]}), {"pronto.catch_all_share": 1})
    lab.night(contacts(range(3)))
    assert finished(lab) == [("finished", "found", 3)]


def test_a_verified_address_ends_the_search(open_lab: Open) -> None:
    lab = open_lab(only({"work_email": ["prospeo", "pronto", "lance"]}))
    lab.night(contacts(range(10)))
    assert {k: v for k, v in lab.sent().items() if v} == {"prospeo": 1}
    assert finished(lab) == [("finished", "found", 10)]


@pytest.mark.parametrize(
    ("field", "stops"),
    [
        (Field.WORK_EMAIL, {"verified", "unknown"}),
        (Field.PERSONAL_EMAIL, {"verified", "unknown"}),
        (Field.PHONE, {"verified", "catch_all", "unverified", "unknown"}),
    ],
)
def test_the_status_decides_what_stops_a_search(lab: Lab, field: Field, stops: set[str]) -> None:
    with lab.context() as ctx:
        accepted = {
            s.value
            for s in ValueStatus
            if is_accepted(ctx, field, [AnsweredValue(field.value, s, lab.now)], lab.now)
        }
    assert accepted == stops


def test_an_earlier_answer_that_is_stale_by_now_does_not_end_a_search(lab: Lab) -> None:
    with lab.context() as ctx:
        old = AnsweredValue("work_email", ValueStatus.VERIFIED, lab.now - timedelta(days=730))
        assert not is_accepted(ctx, Field.WORK_EMAIL, [old], lab.now)


def test_a_phone_of_unknown_standing_ends_the_search(open_lab: Open) -> None:
    lab = open_lab(only({"phone": ["lance", "pronto"]}))
    lab.night(contacts(range(5)))
    assert lab.sent()["pronto"] == 0
    assert lab.sql("select distinct status from enrichment.observations") == [("unknown",)]
    assert finished(lab) == [("finished", "found", 5)]


def test_a_pending_field_is_parked_and_nobody_else_is_paid_meanwhile(open_lab: Open) -> None:
    lab = open_lab(
        {
            **only({"work_email": ["pronto", "apollo"]}),
            "providers": {"pronto": {"await_seconds": 0.1}},
        }
    )
    lab.sandbox.faults({"provider": "pronto", "kind": "lose_webhook", "probability": 1})
    stages = lab.night(contacts(range(8)))
    lab.drain()
    assert stages["pronto"].pending == 8
    assert stages["pronto"].held_micro == 8_000_000
    assert lab.sql("select distinct state from enrichment.enrichments") == [("pending",)]
    assert {k: v for k, v in lab.sent().items() if v} == {"pronto": 1}
    lab.assert_books()


def test_a_person_who_lacks_what_a_provider_needs_is_passed_by_with_the_reason(
    open_lab: Open,
) -> None:
    lab = open_lab(only({"work_email": ["lance", "agntdata", "prospeo"]}))
    rows = [
        contact(0, lance_person_id=""),
        contact(1, lance_person_id="", email="", linkedin_url=""),
        contact(2),
    ]
    lab.night(rows)
    assert lab.sql(
        "select c.contact_id, s.provider, s.reason from enrichment.skips as s "
        "join enrichment.contacts as c using (person_id) order by 1, 2"
    ) == [
        ("c0000", "lance", "not_eligible"),
        ("c0001", "agntdata", "not_eligible"),
        ("c0001", "lance", "not_eligible"),
    ]
    assert finished(lab) == [("finished", "found", 3)]
    lab.assert_polite()


def test_what_the_night_found_makes_a_person_eligible_further_down(open_lab: Open) -> None:
    lab = open_lab(
        only({"work_email": ["prospeo", "agntdata"]}), {"prospeo.email": 0, "agntdata.email": 1}
    )
    lab.night([contact(4, email="", linkedin_url="")])
    assert lab.outcomes("prospeo") == {"not_found": 1}
    assert lab.outcomes("agntdata") == {"found": 1}, "the profile's LinkedIn address was not used"


def test_an_answer_about_somebody_else_is_paid_rejected_and_counts_as_a_miss(
    open_lab: Open,
) -> None:
    lab = open_lab(only({"work_email": ["prospeo", "pronto"]}), {"answer.other_person": 1})
    lab.night(contacts(range(12)))
    for provider in ("prospeo", "pronto"):
        assert lab.outcomes(provider) == {"other_person": 12}
        assert lab.charged()[provider] == 12_000_000
    assert lab.sql("select distinct rejected_reason from enrichment.observations") == [
        ("other_person",)
    ]
    assert finished(lab) == [("finished", "not_found", 12)]
    before = lab.sent()
    lab.plan(lab.day(1))
    lab.drain(lab.day(1))
    assert lab.sent() == before
    lab.assert_exact()


def test_the_mobile_of_somebody_else_teaches_no_id(open_lab: Open) -> None:
    """Campaign model, seed 2: a delivery names its subject by the provider's own id only."""
    lab = open_lab(only({"phone": ["apollo"]}), {"answer.other_person": 1})
    lab.night(contacts(range(4)))
    lab.sandbox.wait_for_deliveries()
    lab.drain()
    assert lab.outcomes("apollo") == {"other_person": 4}
    assert lab.sql("select * from enrichment.provider_identities") == []
    lab.assert_exact()


def test_what_a_provider_reports_as_failed_is_bought_anew_in_later_nights_thrice_at_most(
    open_lab: Open,
) -> None:
    lab = open_lab(
        only({"work_email": ["lance", "pronto"]}), {"lance.broken": 1, "pronto.email": 0}
    )
    lab.load(contacts(range(4)))
    sent = []
    for ago in (5, 4, 3, 2):
        lab.plan(lab.day(ago))
        lab.drain(lab.day(ago))
        sent.append(lab.sent()["lance"])
        lab.sql("update enrichment.charge_lines set answered_at = answered_at - interval '1 day'")
    assert sent == [1, 2, 3, 3]
    assert lab.outcomes("lance") == {"error": 12}
    assert lab.sent()["pronto"] == 1, "the miss at a later provider holds meanwhile"
    assert lab.charged()["lance"] == 0
    lab.assert_exact()


def test_a_profile_is_final_at_once_and_a_lost_phone_callback_is_asked_for(open_lab: Open) -> None:
    lab = open_lab(only({"phone": ["apollo"], "profile": ["apollo"]}))
    lab.sandbox.faults({"provider": "apollo", "kind": "lose_webhook", "probability": 1})
    lab.load(contacts(range(8)))
    lab.plan()
    partition = Partition(lab.today, 0)
    slow = lab.settings.policy.providers["apollo"].model_copy(update={"await_seconds": 0})
    policy = lab.settings.policy.model_copy(
        update={"providers": {**lab.settings.policy.providers, "apollo": slow}}
    )
    with opened(lab.engine, replace(lab.settings, policy=policy), "impatient") as waterfall:
        waterfall.reuse(partition)
        stage = waterfall.attempt(partition, "apollo")
    assert (stage.found, stage.pending) == (8, 8)
    assert lab.sql("select field, state from enrichment.enrichments group by 1, 2 order by 1") == [
        ("phone", "pending"),
        ("profile", "finished"),
    ]
    assert lab.account("apollo")["spent"] == 8_000_000
    assert lab.account("apollo")["held"] == 64_000_000
    lab.assert_books()
    lab.drain()
    assert finished(lab) == [("finished", "found", 16)]
    assert lab.sandbox.webhooks()["delivered"] == 0
    lab.assert_exact()
    lab.assert_polite()
