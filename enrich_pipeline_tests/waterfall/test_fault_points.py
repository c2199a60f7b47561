"""What the campaigns found: each once more, at the very step at which it happened."""

import re
import threading
import time
from pathlib import Path
from typing import get_args

import pytest
import sqlalchemy
from sqlalchemy import text

import enrich_pipeline.waterfall
from enrich_pipeline.domain.errors import EnrichError
from enrich_pipeline.store import calls, invariants
from enrich_pipeline.waterfall import fault_points
from enrich_pipeline.waterfall.claim import Cursor, claim
from enrich_pipeline.waterfall.context import Context
from enrich_pipeline.waterfall.engine import Partition
from enrich_pipeline.waterfall.in_doubt import resolve
from enrich_pipeline.waterfall.reserve import Claimed
from enrich_pipeline.waterfall.send import settle_stored, store

from ..support.lab import Lab, contact, contacts, only, sent_alone
from .conftest import AtLabel, Died, Open, die

LATER = "2026-02-01T00:00:00Z"


def one_call(lab: Lab, ctx: Context, provider: str) -> Claimed:
    with lab.waterfall() as waterfall:
        waterfall.reuse(Partition(lab.today, 0))
    (claimed,) = claim(
        ctx, Partition(lab.today, 0), provider, Cursor(), 1, receiver_ready=True, last_chance=True
    )
    return claimed


def test_every_label_is_a_point_of_the_protocol() -> None:
    folder = Path(enrich_pipeline.waterfall.__file__).parent
    used = [
        label
        for path in folder.glob("*.py")
        for label in re.findall(r'\breached\("(\w+)"\)', path.read_text())
    ]
    assert set(used) == set(get_args(fault_points.Label))


def test_who_was_blocked_in_flight_leaves_no_field_open_that_nobody_would_come_upon(
    open_lab: Open,
) -> None:
    lab = open_lab(only({"work_email": ["prospeo", "agntdata"]}))
    lab.load(contacts(range(3)))
    lab.plan()
    with lab.context() as ctx:
        claimed = one_call(lab, ctx, "prospeo")
        lab.load([contact(1, updated_at=LATER, do_not_enrich="true")])
        with lab.waterfall() as waterfall:
            waterfall.reuse(Partition(lab.today, 0))
        assert sent_alone(ctx, Partition(lab.today, 0), claimed).settled is None
    assert lab.sql("select state, count(*) from enrichment.enrichments group by 1 order by 1") == [
        ("expired", 1),
        ("open", 2),
    ]


def test_a_process_that_slept_past_its_deadline_sends_nothing(
    open_lab: Open, at_label: AtLabel
) -> None:
    quick = {"connect_timeout_seconds": 0.2, "timeout_seconds": 0.2}
    lab = open_lab({**only({"work_email": ["prospeo"]}), "providers": {"prospeo": quick}})
    lab.load(contacts(range(3)))
    lab.plan()
    at_label("armed", lambda: time.sleep(0.5))
    with lab.context() as ctx:
        claimed = one_call(lab, ctx, "prospeo")
        sent = sent_alone(ctx, Partition(lab.today, 0), claimed)
    assert sent.stopped_reason == "never_sent"
    assert lab.sandbox.requests()["prospeo"]["count"] == 0
    assert lab.states("prospeo") == {"released": 1}
    lab.assert_exact()


def test_a_process_asleep_inside_a_transaction_loses_its_locks(open_lab: Open) -> None:
    lab = open_lab()
    assert lab.one("show idle_in_transaction_session_timeout") == "5min"


def test_a_reply_is_kept_while_the_database_is_away(open_lab: Open, at_label: AtLabel) -> None:
    lab = open_lab(only({"work_email": ["prospeo"]}))
    lab.load(contacts(range(3)))
    lab.plan()
    server = sqlalchemy.create_engine(
        lab.database.set(database="postgres"), isolation_level="AUTOCOMMIT"
    )
    name = lab.database.database

    def say(*statements: str) -> None:
        with server.connect() as conn:
            for statement in statements:
                conn.execute(text(statement), {"name": name})

    def go_away() -> None:
        say(
            f"alter database {name} allow_connections false",
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = :name",
        )
        come_back = f"alter database {name} allow_connections true"
        threading.Timer(0.6, lambda: say(come_back)).start()

    at_label("answered", go_away)
    with lab.context() as ctx:
        claimed = one_call(lab, ctx, "prospeo")
        sent = sent_alone(ctx, Partition(lab.today, 0), claimed)
    server.dispose()
    assert sent.settled is not None
    assert lab.states("prospeo") == {"settled": 1}
    lab.assert_exact()


def test_the_kept_answer_of_a_poll_is_used_although_its_process_died(
    open_lab: Open, at_label: AtLabel
) -> None:
    lab = open_lab(only({"work_email": ["lance"]}))
    lab.load(contacts(range(3)))
    lab.plan()
    at_label("poll_stored", die)
    with pytest.raises(Died):
        lab.drain()
    asked = lab.sandbox.requests()["lance"]["count"]
    lab.sweep()
    assert lab.sandbox.requests()["lance"]["count"] == asked
    assert lab.states("lance") == {"settled": 1}
    assert lab.one("select count(*) from enrichment.replies where applied_at is null") == 0
    lab.assert_exact()


def test_the_poll_after_one_whose_process_died_is_booked_too(
    open_lab: Open, at_label: AtLabel
) -> None:
    lab = open_lab(only({"work_email": ["lance"]}))
    lab.load(contacts(range(3)))
    lab.plan()
    # One of the three is not told by the first poll, whose process dies.
    lab.sandbox.faults(
        {"provider": "lance", "kind": "429", "match": {"endpoint": "entities/persons/{personId}"}}
    )
    at_label("poll_stored", die)
    with pytest.raises(Died):
        lab.drain()
    lab.sweep()
    assert lab.states("lance") == {"accepted": 1}
    assert lab.account("lance")["spent"] == 2_000_000
    lab.overdue("next_poll_at", "lance")
    lab.drain()
    assert lab.states("lance") == {"settled": 1}
    lab.assert_exact()


def test_a_process_that_slept_past_its_deadline_repeats_nothing(
    open_lab: Open, at_label: AtLabel
) -> None:
    quick = {"connect_timeout_seconds": 0.2, "timeout_seconds": 0.2}
    lab = open_lab({**only({"work_email": ["prospeo"]}), "providers": {"prospeo": quick}})
    lab.sandbox.faults({"provider": "prospeo", "kind": "charge_then_drop"})
    lab.night(contacts(range(3)))
    assert lab.states("prospeo") == {"in_doubt": 1}
    lab.overdue("lease_until", "prospeo")
    at_label("armed_again", lambda: time.sleep(0.5))
    lab.sweep()
    assert lab.sent()["prospeo"] == 1
    assert lab.states("prospeo") == {"in_doubt": 1}
    lab.overdue("lease_until", "prospeo")
    lab.sweep()
    assert lab.states("prospeo") == {"settled": 1}
    lab.assert_exact()


def test_a_late_refusal_gives_nothing_back_while_a_repetition_is_out(
    open_lab: Open, at_label: AtLabel
) -> None:
    lab = open_lab(only({"work_email": ["prospeo"]}))
    lab.load(contacts(range(3)))
    lab.plan()
    partition = Partition(lab.today, 0)
    with lab.context() as ctx:
        claimed = one_call(lab, ctx, "prospeo")
        with ctx.engine.begin() as conn:
            assert calls.arm(conn, claimed.call_id, 60)
        lab.sandbox.faults({"provider": "prospeo", "kind": "429"})
        refused = ctx.clients["prospeo"].send(
            claimed.request, body=claimed.body, deadline_seconds=20
        )
        # Its process sleeps; others doubt the call and repeat it, which is charged.
        lab.overdue("lease_until", "prospeo")
        lab.sweep()
        lab.overdue("lease_until", "prospeo")

        def wake() -> None:
            store(ctx, claimed.call_id, "submit", [refused])
            settle_stored(ctx, partition, claimed.call_id)
            assert lab.states("prospeo") == {"in_doubt": 1}
            with pytest.raises(EnrichError, match="asked about again"):
                resolve(ctx, claimed.call_id, "not_charged", "nobody was charged")

        at_label("answered_again", wake)
        lab.sweep()
    assert lab.states("prospeo") == {"settled": 1}
    assert lab.account("prospeo")["spent"] == lab.charged()["prospeo"] > 0
    lab.assert_exact()


def test_what_two_persons_bought_before_they_turned_out_to_be_one_was_not_paid_twice(
    open_lab: Open,
) -> None:
    lab = open_lab(only({"work_email": ["agntdata"]}))
    by_profile = contact(1, contact_id="other", email="", lance_person_id="")
    lab.night([contact(1, linkedin_url=""), by_profile])
    assert lab.sent()["agntdata"] == 1
    assert lab.account("agntdata")["spent"] == 2_000_000
    lab.load([contact(1, updated_at=LATER)])
    assert lab.one("select count(*) from enrichment.persons where merged_into is null") == 1
    with lab.engine.connect() as conn:
        assert invariants.paid_twice(conn, 90) == []
    lab.sql("update enrichment.calls set claimed_at = clock_timestamp()")
    with lab.engine.connect() as conn:
        assert len(invariants.paid_twice(conn, 90)) == 1


def test_what_was_discarded_is_not_missed_when_consent_is_given_again(open_lab: Open) -> None:
    lab = open_lab(
        {**only({"personal_email": ["pronto"]}), "providers": {"pronto": {"await_seconds": 0.05}}}
    )
    late = {"kind": "late_webhook", "seconds": 0.5, "probability": 1}
    lab.sandbox.faults({"provider": "pronto", **late})
    lab.night(contacts(range(2), personal_email_consent="true"))
    lab.load([contact(1, updated_at=LATER, personal_email_consent="false")])
    lab.sandbox.wait_for_deliveries()
    lab.drain()
    assert lab.one("select count(*) from enrichment.observations") == 1
    lab.load([contact(1, updated_at="2026-03-01T00:00:00Z", personal_email_consent="true")])
    lab.assert_exact()


def test_a_re_read_of_what_another_call_paid_for_costs_nothing(open_lab: Open) -> None:
    lab = open_lab(only({"work_email": ["prospeo"]}))
    lab.night([contact(1, linkedin_url="")])
    spent = lab.account("prospeo")["spent"]
    assert spent == lab.charged()["prospeo"] > 0
    # The same human once more, as a contact that shares no identifier with the first.
    lab.load([contact(1, contact_id="other", email="", lance_person_id="")])
    lab.plan()
    lab.sandbox.faults({"provider": "prospeo", "kind": "charge_then_drop"})
    lab.drain()
    assert lab.states("prospeo") == {"settled": 1, "in_doubt": 1}
    lab.overdue("lease_until", "prospeo")
    lab.sweep()
    assert lab.states("prospeo") == {"settled": 2}
    assert lab.account("prospeo")["spent"] == spent
    lab.assert_exact()
