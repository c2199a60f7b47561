"""Budgets: PostgreSQL refuses what does not fit, and calls shrink to what does."""

from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from ..sandbox import people
from ..support.lab import Lab, contacts, only
from .conftest import AtLabel, Died, Open, die

EMAIL = only({"work_email": ["prospeo"]})


def night_used(lab: Lab) -> list[tuple[Any, ...]]:
    return lab.sql(
        "select cap, held, in_doubt, spent from enrichment.budgets where scope = 'night'"
    )


def test_a_budget_of_nothing_sends_nothing_and_says_so(open_lab: Open) -> None:
    lab = open_lab({"budget": {"night_usd": 0}})
    stages = lab.night(contacts(range(10), personal_email_consent="true"))
    assert not any(lab.sent().values())
    assert stages["prospeo"].waiting == {"budget": 30}
    assert lab.sql("select distinct state, wait_reason from enrichment.enrichments") == [
        ("open", "budget")
    ]
    lab.assert_exact()


def test_a_small_budget_shrinks_the_call_and_is_never_exceeded(open_lab: Open) -> None:
    lab = open_lab({**EMAIL, "budget": {"night_usd": 0.07}})
    stages = lab.night(contacts(range(20)))
    assert lab.sql("select persons from enrichment.calls") == [(7,)]
    assert night_used(lab) == [(70_000, 0, 0, 70_000)]
    assert stages["prospeo"].waiting == {"budget": 13}
    lab.drain()
    assert lab.sent()["prospeo"] == 1
    lab.assert_exact()


def test_what_misses_give_back_is_spent_on_others_in_the_same_night(open_lab: Open) -> None:
    lab = open_lab({**EMAIL, "budget": {"night_usd": 0.1}}, {"prospeo.match": 0.5})
    lab.night(contacts(range(60)))
    assert lab.sent()["prospeo"] > 1
    assert night_used(lab) == [(100_000, 0, 0, 100_000)]
    lab.assert_exact()


def test_a_budget_covers_all_calls_in_flight_together(open_lab: Open) -> None:
    lab = open_lab(
        {**EMAIL, "budget": {"night_usd": 0.25}, "providers": {"prospeo": {"batch_size": 5}}}
    )
    lab.sandbox.latency(20, 40)
    lab.night(contacts(range(60)))
    assert lab.charged()["prospeo"] == 25_000_000
    assert night_used(lab) == [(250_000, 0, 0, 250_000)]
    lab.assert_exact()


def test_backfilled_dates_share_the_budget_of_the_day_on_which_they_are_bought(
    open_lab: Open,
) -> None:
    lab = open_lab({**EMAIL, "budget": {"night_usd": 0.05}, "refresh": {"contacts_per_night": 4}})
    lab.load(contacts(range(20)))
    for ago in (2, 1, 0):
        lab.plan(lab.day(ago))
        lab.drain(lab.day(ago))
    assert lab.one("select count(distinct day) from enrichment.budgets where scope = 'night'") == 1
    assert lab.charged()["prospeo"] <= 5_000_000
    lab.assert_exact()


def test_a_provider_has_a_budget_of_its_own_in_its_own_unit(open_lab: Open) -> None:
    lab = open_lab({**EMAIL, "providers": {"prospeo": {"budget_credits": 6}}})
    lab.night(contacts(range(20)))
    assert lab.charged()["prospeo"] == 6_000_000
    assert lab.sql(
        "select cap, held, in_doubt, spent from enrichment.budgets where scope = 'provider'"
    ) == [(6_000_000, 0, 0, 6_000_000)]
    lab.assert_exact()


def test_a_person_whose_budget_is_short_waits_and_others_are_bought_for(open_lab: Open) -> None:
    lab = open_lab(
        {**only({"phone": ["pronto"], "work_email": ["pronto"]}), "budget": {"person_usd": 0.1}}
    )
    stages = lab.night(contacts(range(5)))
    assert stages["pronto"].waiting == {"person_budget": 10}
    assert lab.sent()["pronto"] == 0
    assert lab.sql("select distinct wait_reason from enrichment.enrichments") == [
        ("person_budget",)
    ]
    lab.assert_exact()


def test_credits_in_doubt_and_written_off_stay_used(open_lab: Open) -> None:
    lab = open_lab({**only({"work_email": ["agntdata"]}), "budget": {"night_usd": 0.06}})
    lab.sandbox.faults({"provider": "agntdata", "kind": "charge_then_drop"})
    lab.night(contacts(range(20)))
    assert night_used(lab) == [(60_000, 0, 60_000, 0)]
    lab.overdue("write_off_at", "agntdata")
    lab.drain()
    assert night_used(lab) == [(60_000, 0, 0, 60_000)]
    assert lab.sent()["agntdata"] == 1
    lab.assert_books()


def test_a_refused_record_found_by_a_sweep_of_another_day_leaves_no_hold_without_a_budget(
    open_lab: Open, at_label: AtLabel
) -> None:
    lab = open_lab(EMAIL)
    lab.load(contacts(range(4)))
    lab.plan()
    poison = people.email(2)
    lab.sandbox.faults({"provider": "prospeo", "kind": "poison", "match": {"values": [poison]}})
    at_label("stored", die)
    with pytest.raises(Died):
        lab.drain()
    lab.sql("update enrichment.calls set spend_date = spend_date - 1")
    lab.sql("update enrichment.budgets set day = day - 1")
    lab.sweep()
    assert lab.states("prospeo") == {"released": 1}
    lab.drain()
    assert lab.outcomes("prospeo")["found"] == 3
    lab.overdue("lease_until", "prospeo")
    lab.sweep()
    lab.assert_exact()


def test_the_database_itself_refuses_what_exceeds_a_budget(open_lab: Open) -> None:
    lab = open_lab({**EMAIL, "budget": {"night_usd": 0.07}})
    lab.night(contacts(range(20)))
    with pytest.raises(IntegrityError, match="budgets_check"):
        lab.sql("update enrichment.budgets set held = held + 1 where scope = 'night'")


def test_the_ledger_cannot_be_rewritten(open_lab: Open) -> None:
    lab = open_lab(EMAIL)
    lab.night(contacts(range(2)))
    for statement in (
        "update enrichment.ledger_entries set amount_micro = 1",
        "delete from enrichment.ledger_entries",
        "truncate enrichment.ledger_entries",
    ):
        with pytest.raises(Exception, match="append-only"):
            lab.sql(statement)
