"""What goes wrong at providers, each time with the meter as the witness."""

from math import ceil, log2
from typing import Any

import pytest

from ..sandbox import people
from ..support.lab import Lab, contact, contacts, only
from .conftest import Open

PROSPEO = only({"work_email": ["prospeo"]})
AGNTDATA = only({"work_email": ["agntdata"]})


def one_at_a_time(provider: str, **terms: Any) -> dict[str, Any]:
    return {"providers": {provider: {"concurrency": 1, **terms}}}


def results(lab: Lab) -> dict[str, int]:
    """Enrichments by state and result."""
    return dict(
        lab.sql(
            "select concat_ws(' ', state, result), count(*) from enrichment.enrichments group by 1"
        )
    )


def breakers(lab: Lab, provider: str) -> dict[str, str]:
    return dict(
        lab.sql(
            "select product, reason from enrichment.provider_states "
            "where provider = :p and opened_at is not null",
            p=provider,
        )
    )


# ---------------------------------------------------------------------------------- lost replies


def test_a_lost_reply_is_read_again_free_of_charge_once_the_first_request_is_over(
    open_lab: Open,
) -> None:
    lab = open_lab(PROSPEO)
    lab.sandbox.faults({"provider": "prospeo", "kind": "charge_then_drop"})
    lab.night(contacts(range(10)))
    assert lab.states("prospeo") == {"in_doubt": 1}
    assert results(lab) == {"in_doubt": 10}
    lab.assert_books()
    lab.drain()
    assert lab.sent()["prospeo"] == 1, "read again while the first request could still be running"
    lab.overdue("lease_until", "prospeo")
    lab.drain()
    assert lab.sent()["prospeo"] == 2
    assert lab.states("prospeo") == {"settled": 1}
    assert results(lab) == {"finished found": 10}
    assert lab.charged()["prospeo"] == 10_000_000
    lab.assert_exact()
    lab.assert_polite()


def test_a_re_read_books_one_charge_for_two_persons_who_are_one_human(open_lab: Open) -> None:
    """Campaign model, seed 1: nothing joins the two contacts, and one call asks about both."""
    lab = open_lab(PROSPEO)
    lab.sandbox.faults({"provider": "prospeo", "kind": "charge_then_drop"})
    same = contact(1, contact_id="d0001", email="", lance_person_id="")
    lab.night([contact(1, linkedin_url=""), same])
    assert lab.sql("select persons, state from enrichment.calls") == [(2, "in_doubt")]
    lab.overdue("lease_until", "prospeo")
    lab.drain()
    assert results(lab) == {"finished found": 2}
    assert lab.charged()["prospeo"] == 1_000_000
    lab.assert_exact()


@pytest.mark.parametrize("kind", ["charge_then_drop", "drop_before"])
def test_a_re_read_posts_what_the_first_request_cost_whether_or_not_it_arrived(
    open_lab: Open, kind: str
) -> None:
    lab = open_lab(
        only({"work_email": ["prospeo"], "phone": ["prospeo"], "profile": ["prospeo"]}),
        {"prospeo.match": 0.7, "prospeo.mobile": 0.3, "prospeo.email": 0.6},
    )
    lab.sandbox.faults({"provider": "prospeo", "kind": kind})
    lab.night(contacts(range(40)))
    assert lab.states("prospeo") == {"in_doubt": 1}
    lab.overdue("lease_until", "prospeo")
    lab.drain()
    assert 40_000_000 < lab.charged()["prospeo"] < 300_000_000
    assert lab.states("prospeo") == {"settled": 1}
    lab.assert_exact()
    lab.assert_polite()


def test_what_may_not_be_sent_again_stays_in_doubt_and_is_written_off_after_its_horizon(
    open_lab: Open,
) -> None:
    lab = open_lab(only({"work_email": ["agntdata", "pronto"]}))
    lab.sandbox.faults({"provider": "agntdata", "kind": "charge_then_drop"})
    lab.night(contacts(range(6)))
    lab.overdue("lease_until", "agntdata")
    lab.drain()
    assert lab.states("agntdata") == {"in_doubt": 1}
    assert lab.sent()["pronto"] == 0, "a later provider was paid while an earlier one may answer"
    lab.overdue("write_off_at", "agntdata")
    lab.drain()
    assert lab.sent()["agntdata"] == 1
    assert lab.states("agntdata") == {"written_off": 1}
    assert lab.outcomes("agntdata") == {"written_off": 6}
    assert lab.account("agntdata")["written_off"] == lab.charged()["agntdata"] == 6_000_000
    assert results(lab) == {"finished found": 6}
    assert lab.outcomes("pronto") == {"found": 6}
    lab.assert_books()


def test_a_written_off_product_is_bought_again_there_only_after_not_found_days(
    open_lab: Open,
) -> None:
    lab = open_lab(AGNTDATA)
    lab.sandbox.faults({"provider": "agntdata", "kind": "charge_then_drop"})
    lab.night(contacts(range(3)))
    lab.overdue("write_off_at", "agntdata")
    lab.sweep()
    for ago, age, expected in ((1, 59, 1), (2, 61, 2)):
        for table, column in (("charge_lines", "settled_at"), ("enrichments", "closed_at")):
            lab.sql(
                f"update enrichment.{table} "  # noqa: S608
                f"set {column} = clock_timestamp() - make_interval(days => {age})"
            )
        lab.plan(lab.day(ago))
        lab.drain(lab.day(ago))
        assert lab.sent()["agntdata"] == expected


def test_pronto_settles_by_webhook_although_the_reply_to_the_request_was_lost(
    open_lab: Open,
) -> None:
    lab = open_lab(only({"work_email": ["pronto"]}))
    lab.sandbox.faults({"provider": "pronto", "kind": "charge_then_drop"})
    lab.night(contacts(range(5)))
    lab.sandbox.wait_for_deliveries()
    lab.drain()
    assert lab.sent()["pronto"] == 1
    assert lab.states("pronto") == {"settled": 1}
    assert results(lab) == {"finished found": 5}
    lab.assert_exact()


def test_lance_is_asked_again_and_answers_with_what_it_holds(open_lab: Open) -> None:
    lab = open_lab(only({"work_email": ["lance"]}))
    lab.sandbox.faults({"provider": "lance", "kind": "charge_then_drop"})
    lab.night(contacts(range(5)))
    assert lab.states("lance") == {"in_doubt": 1}
    lab.overdue("lease_until", "lance")
    lab.drain()
    assert lab.states("lance") == {"settled": 1}
    assert results(lab) == {"finished found": 5}
    lab.assert_exact()
    assert lab.sandbox.double_charges() == []


@pytest.mark.parametrize(
    ("provider", "fault", "keeps_raw"),
    [
        ("prospeo", {"kind": "truncate"}, True),
        ("agntdata", {"kind": "truncate"}, True),
        ("agntdata", {"kind": "html", "status": 502}, True),
        ("agntdata", {"kind": "cut_body"}, False),
        ("apollo", {"kind": "truncate"}, True),
    ],
)
def test_a_reply_that_cannot_be_understood_is_kept_raw_and_in_doubt(
    open_lab: Open, provider: str, fault: dict[str, Any], keeps_raw: bool
) -> None:
    lab = open_lab(only({"work_email": [provider]}))
    lab.sandbox.faults({"provider": provider, **fault})
    lab.night(contacts(range(4)))
    assert lab.states(provider) == {"in_doubt": 1}
    assert lab.charged()[provider] == lab.account(provider)["in_doubt"] == 4_000_000
    kept = lab.sql("select responses->0->>'body' from enrichment.replies")
    assert bool(kept) is keeps_raw
    if keeps_raw:
        assert len(bytes.fromhex(kept[0][0])) > 20
    lab.drain()
    assert lab.sent()[provider] == 1
    lab.assert_books()


def test_a_connection_that_never_opened_releases_the_hold(open_lab: Open) -> None:
    lab = open_lab(
        AGNTDATA, environment={"ENRICH_AGNTDATA_BASE_URL": "http://127.0.0.1:9/agntdata"}
    )
    stages = lab.night(contacts(range(4)))
    assert stages["agntdata"].stopped_reason == "never_sent"
    assert set(lab.states("agntdata")) == {"released"}
    assert results(lab) == {"open": 4}
    assert lab.account("agntdata")["held"] == 0
    assert breakers(lab, "agntdata") == {"*": "never_sent"}
    lab.assert_books()


# ---------------------------------------------------------------------------------- refusals


def test_a_failure_that_costs_nothing_is_released_and_tried_again(open_lab: Open) -> None:
    lab = open_lab(AGNTDATA)
    lab.sandbox.faults({"provider": "agntdata", "kind": "status", "status": 500, "times": 2})
    lab.night(contacts(range(4)))
    assert lab.states("agntdata") == {"released": 2, "settled": 1}
    assert results(lab) == {"finished found": 4}
    lab.assert_exact()


def test_a_storm_of_failures_opens_the_breaker_and_ends(open_lab: Open) -> None:
    lab = open_lab(AGNTDATA)
    lab.sandbox.faults({"provider": "agntdata", "kind": "status", "status": 503, "times": 1000})
    lab.night(contacts(range(4)))
    sent = lab.sent()["agntdata"]
    assert sent <= 5
    assert list(breakers(lab, "agntdata")) == ["*"]
    lab.drain()
    assert lab.sent()["agntdata"] == sent
    assert results(lab) == {"open": 4}
    lab.assert_exact()


@pytest.mark.parametrize("rate", [[], [{"seconds": 1, "limit": 50, "per": "request"}]])
def test_too_many_requests_are_released_and_wait_as_long_as_asked(
    open_lab: Open, rate: list[dict[str, Any]]
) -> None:
    lab = open_lab({**PROSPEO, **one_at_a_time("prospeo", rate=rate)})
    lab.sandbox.faults({"provider": "prospeo", "kind": "429", "seconds": 1})
    lab.night(contacts(range(8)))
    log = lab.sandbox.requests()["prospeo"]
    times = [
        at
        for at, where in zip(log["started_at"], log["endpoint"], strict=True)
        if where == "bulk-enrich-person"
    ]
    assert len(times) == 2
    assert min(b - a for a, b in zip(times, times[1:], strict=False)) >= 0.95
    assert lab.states("prospeo") == {"released": 1, "settled": 1}
    assert results(lab) == {"finished found": 8}
    lab.assert_exact()


def test_a_long_wait_asked_for_is_not_waited_for_but_left_to_a_later_drain(open_lab: Open) -> None:
    lab = open_lab({**PROSPEO, **one_at_a_time("prospeo", batch_size=5)})
    lab.sandbox.faults(
        {"provider": "prospeo", "kind": "429", "seconds": 600, "times": 100},
    )
    lab.night(contacts(range(20)))
    assert lab.sent()["prospeo"] == 1
    assert results(lab) == {"open": 20}
    assert breakers(lab, "prospeo") == {"*": "rate_limited"}
    lab.assert_exact()


def test_an_unproven_receiver_makes_webhook_products_wait(open_lab: Open) -> None:
    lab = open_lab(
        only({"work_email": ["pronto", "prospeo"]}),
        environment={"ENRICH_WEBHOOK_PUBLIC_URL": "http://127.0.0.1:9"},
    )
    stages = lab.night(contacts(range(4)))
    assert stages["pronto"].waiting == {"unavailable:receiver_unreachable": 4}
    assert not any(lab.sent().values())


def test_a_provider_may_be_configured_to_be_passed_while_it_is_unavailable(
    open_lab: Open,
) -> None:
    lab = open_lab(
        {
            **only({"work_email": ["prospeo", "pronto"]}),
            **one_at_a_time("prospeo", on_unavailable="next"),
        }
    )
    lab.sandbox.balance(0, "prospeo")
    lab.night(contacts(range(4)))
    lab.drain()
    assert lab.outcomes("pronto") == {"found": 4}
    assert lab.sql("select distinct provider, reason from enrichment.skips") == [
        ("prospeo", "unavailable:no_credits")
    ]


def test_after_its_pause_a_breaker_lets_one_call_find_out(open_lab: Open) -> None:
    lab = open_lab({**PROSPEO, "providers": {"prospeo": {"batch_size": 5}}})
    lab.sandbox.balance(0, "prospeo")
    lab.load(contacts(range(40)))
    lab.plan()
    lab.drain()
    first = lab.sent()["prospeo"]
    lab.sandbox.latency(50, 0, "prospeo")
    for _ in range(2):
        lab.sql("update enrichment.provider_states set retry_at = now() - interval '1 second'")
        lab.drain()
    assert lab.sent()["prospeo"] == first + 2
    lab.sandbox.balance(10**12, "prospeo")
    lab.sql("update enrichment.provider_states set retry_at = now() - interval '1 second'")
    lab.drain()
    assert results(lab) == {"finished found": 40}
    lab.assert_exact()


def test_without_credits_a_product_waits_nothing_is_bisected_and_others_go_on(
    open_lab: Open,
) -> None:
    lab = open_lab(one_at_a_time("prospeo", batch_size=10))
    lab.sandbox.balance(0, "prospeo")
    lab.night(contacts(range(40), personal_email_consent="true"))
    assert lab.sent()["prospeo"] == 1
    assert set(breakers(lab, "prospeo").values()) == {"no_credits"}
    assert lab.sql(
        "select distinct wait_reason from enrichment.enrichments "
        "where state = 'open' and next_provider = 'prospeo'"
    ) == [("unavailable:no_credits",)]
    assert lab.sent()["pronto"] == 1
    assert lab.outcomes("pronto") == {"found": 40}
    lab.drain()
    assert lab.sent()["prospeo"] == 1
    lab.sandbox.balance(10**12, "prospeo")
    lab.sql("update enrichment.provider_states set retry_at = now() - interval '1 second'")
    lab.drain()
    assert results(lab) == {"finished found": 160}
    assert breakers(lab, "prospeo") == {}
    lab.assert_exact()
    lab.assert_polite()


def test_an_answer_to_an_older_call_does_not_close_a_breaker(open_lab: Open) -> None:
    lab = open_lab({**only({"phone": ["pronto"]}), **one_at_a_time("pronto", batch_size=5)})
    lab.sandbox.balance(50_000_000, "pronto")
    lab.night(contacts(range(20)))
    lab.sandbox.wait_for_deliveries()
    lab.drain()
    assert lab.outcomes("pronto")["found"] == 5
    assert breakers(lab, "pronto") == {"phone": "no_credits"}
    assert lab.sent()["pronto"] == 2
    lab.assert_exact()


def test_a_refused_key_in_plain_text_opens_the_breaker_of_the_provider(open_lab: Open) -> None:
    lab = open_lab(
        {**only({"profile": ["apollo"]}), **one_at_a_time("apollo")},
        environment={"ENRICH_APOLLO_API_KEY": "invalid-key"},
    )
    lab.night(contacts(range(25)))
    assert lab.sent()["apollo"] == 1
    assert breakers(lab, "apollo") == {"*": "unauthorized"}
    assert set(lab.states("apollo")) == {"released"}
    assert results(lab) == {"open": 25}
    lab.drain()
    assert lab.sent()["apollo"] == 1
    lab.assert_exact()


@pytest.mark.parametrize(
    ("provider", "size", "poison"),
    [
        ("prospeo", 50, people.email(17)),
        ("agntdata", 20, people.email(17)),
        ("pronto", 9, people.last(3)),
        ("pronto", 2, people.last(1)),
    ],
)
def test_one_poisoned_record_is_found_by_halving_and_costs_nobody_else_the_answer(
    open_lab: Open, provider: str, size: int, poison: str
) -> None:
    lab = open_lab(only({"work_email": [provider]}))
    lab.sandbox.faults({"provider": provider, "kind": "poison", "match": {"values": [poison]}})
    lab.night(contacts(range(size)))
    assert lab.sent()[provider] <= 1 + 2 * ceil(log2(size))
    assert lab.sandbox.violations()["counts"] == {}
    outcomes = lab.outcomes(provider)
    assert (outcomes["found"], outcomes["invalid_input"]) == (size - 1, 1)
    assert results(lab) == {"finished found": size - 1, "finished not_found": 1}
    sent = lab.sent()
    lab.plan()
    lab.drain()
    assert lab.sent() == sent
    lab.assert_exact()


# ---------------------------------------------------------------------------------- odd replies


@pytest.mark.parametrize(
    ("provider", "kind"),
    [
        ("prospeo", "missing_identifier"),
        ("prospeo", "unknown_identifier"),
        ("agntdata", "missing_identifier"),
        ("agntdata", "unknown_identifier"),
    ],
)
def test_a_record_that_the_reply_lost_is_an_anomaly_and_its_cost_is_still_posted(
    open_lab: Open, provider: str, kind: str
) -> None:
    lab = open_lab(only({"work_email": [provider, "pronto"]}))
    lab.sandbox.faults({"provider": provider, "kind": kind})
    lab.night(contacts(range(10)))
    assert lab.outcomes(provider) == {"found": 9, "error": 1}
    assert lab.sql("select count(*) > 0 from enrichment.anomalies") == [(True,)]
    assert lab.outcomes("pronto") == {"found": 1}
    assert lab.charged()[provider] == 10_000_000
    assert breakers(lab, provider) == {}, "the cost was within the hold"
    lab.assert_exact()


def test_a_duplicate_identifier_is_read_once_and_charged_as_reported(open_lab: Open) -> None:
    lab = open_lab(PROSPEO)
    lab.load(contacts(range(2)))
    lab.plan()
    first, second = (
        f"p{row[0]}" for row in lab.sql("select person_id from enrichment.persons order by 1")
    )
    match = {
        "identifier": first,
        "person": {
            "full_name": f"{people.first(0)} {people.last(0)}",
            "email": {"status": "VERIFIED", "revealed": True, "email": "right@copperfox0.com"},
        },
    }
    body = {
        "error": False, "total_cost": 2, "matched": [match, match], "not_matched": [second],
        "invalid_datapoints": [],
    }  # fmt: skip
    lab.sandbox.faults(
        {"provider": "prospeo", "kind": "charge_then_status", "status": 200, "body": body}
    )
    lab.drain()
    assert lab.outcomes("prospeo") == {"found": 1, "not_found": 1}
    assert (
        lab.one("select count(*) from enrichment.observations where attribute = 'work_email'") == 1
    )
    assert lab.one("select sum(cost_micro) from enrichment.attempts") == 1_000_000
    assert lab.account("prospeo")["spent"] == 2_000_000
    lab.assert_exact()


def test_a_cost_above_the_hold_is_posted_recorded_and_stops_the_provider(open_lab: Open) -> None:
    lab = open_lab({**PROSPEO, **one_at_a_time("prospeo", batch_size=10)})
    lab.sandbox.faults({"provider": "prospeo", "kind": "overcharge", "amount_micro": 5_000_000})
    lab.night(contacts(range(40)))
    assert lab.sent()["prospeo"] == 1
    assert breakers(lab, "prospeo") == {"*": "cost_above_hold"}
    assert lab.account("prospeo")["spent"] == 15_000_000 == lab.charged()["prospeo"]
    assert lab.account("prospeo")["overage_due"] == -5_000_000
    assert lab.one("select overage from enrichment.budgets where scope = 'provider'") == 5_000_000
    assert results(lab) == {"finished found": 10, "open": 30}
    lab.assert_books()


def test_an_overcharge_among_calls_in_flight_leaves_the_breaker_open(open_lab: Open) -> None:
    lab = open_lab({**PROSPEO, "providers": {"prospeo": {"batch_size": 5}}})
    lab.sandbox.latency(50, 100, "prospeo")
    lab.sandbox.faults({"provider": "prospeo", "kind": "overcharge"})
    lab.night(contacts(range(20)))
    assert breakers(lab, "prospeo") == {"*": "cost_above_hold"}
    lab.assert_books()


def test_successes_and_failures_at_the_same_moment_do_not_block_each_other(open_lab: Open) -> None:
    lab = open_lab({**AGNTDATA, "providers": {"agntdata": {"batch_size": 2, "concurrency": 8}}})
    lab.sandbox.faults(
        {"provider": "agntdata", "kind": "status", "status": 500, "probability": 0.4},
        {"provider": "agntdata", "kind": "html", "probability": 0.1},
    )
    lab.load(contacts(range(140)))
    lab.plan()
    # Five failures in a row end a drain, sooner or later: as many drains as successes need.
    for _ in range(12):
        lab.sql("update enrichment.provider_states set retry_at = now() - interval '1 second'")
        lab.drain()
        if lab.outcomes("agntdata").get("found", 0) > 20:
            break
    assert lab.outcomes("agntdata")["found"] > 20
    lab.assert_books()
