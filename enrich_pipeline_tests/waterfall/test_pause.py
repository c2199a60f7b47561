"""Rules of the operators' switch and of a graceful end: nothing new leaves, all else goes on."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine

from enrich_pipeline.store import switch
from enrich_pipeline.waterfall.claim import Cursor, claim
from enrich_pipeline.waterfall.engine import Partition, Waterfall
from enrich_pipeline.waterfall.send import send
from enrich_pipeline_tests.support.lab import Lab, contacts, only

from .conftest import Open


def pause(lab: Lab) -> None:
    with lab.engine.begin() as conn:
        switch.pause(conn, "a test")


def resume(lab: Lab) -> None:
    with lab.engine.begin() as conn:
        switch.resume(conn)


def waiting(lab: Lab) -> set[str | None]:
    return {
        reason
        for (reason,) in lab.sql(
            "select distinct wait_reason from enrichment.enrichments where state = 'open'"
        )
    }


def test_paused_nothing_is_sent_and_every_field_says_why_until_it_is_resumed(
    open_lab: Open,
) -> None:
    lab = open_lab()
    pause(lab)
    stages = lab.night(contacts(range(6), personal_email_consent="true"))
    assert sum(lab.sent().values()) == 0
    assert lab.one("select count(*) from enrichment.calls") == 0
    assert waiting(lab) == {"paused"}
    assert all(stages[name].paused for name in lab.chain)

    resume(lab)
    lab.drain()
    assert sum(lab.sent().values()) > 0
    assert waiting(lab) == set()
    lab.assert_exact()
    lab.assert_polite()


def test_a_provider_that_is_passed_when_unavailable_is_not_passed_while_paused(
    open_lab: Open,
) -> None:
    terms = {"providers": {"prospeo": {"on_unavailable": "next"}}}
    lab = open_lab({**only({"work_email": ("prospeo", "lance")}), **terms})
    pause(lab)
    lab.night(contacts(range(3)))
    stands = lab.sql("select distinct next_provider, state from enrichment.enrichments")
    assert stands == [("prospeo", "open")]


def test_a_call_that_was_reserved_before_the_pause_is_given_back(open_lab: Open) -> None:
    lab = open_lab(only({"work_email": ("prospeo",)}))
    lab.load(contacts(range(3)))
    lab.plan()
    partition = Partition(lab.today, 0)
    with lab.waterfall() as waterfall:
        waterfall.reuse(partition)
    with lab.context() as ctx:
        (claimed,) = claim(
            ctx, partition, "prospeo", Cursor(), 2, receiver_ready=True, last_chance=True
        )
        pause(lab)
        assert send(ctx, claimed).stopped_reason == "paused"
    assert lab.sent()["prospeo"] == 0
    assert lab.states("prospeo") == {"released": 1}
    assert waiting(lab) == {"paused"}
    lab.assert_exact()


def test_what_was_accepted_before_the_pause_settles_during_it(open_lab: Open) -> None:
    terms = {"providers": {"pronto": {"await_seconds": 0}, "lance": {"await_seconds": 0}}}
    own = {**only({"work_email": ("pronto",), "phone": ("lance",)}), **terms}
    lab = open_lab(own)
    lab.night(contacts(range(4)))
    assert lab.states("pronto") == lab.states("lance") == {"accepted": 1}
    pause(lab)
    lab.sandbox.wait_for_deliveries()
    lab.overdue("next_poll_at", "lance")
    lab.until("select count(*) > 0 from enrichment.inbox where state = 'new'")
    time.sleep(0.2)
    lab.drain()
    assert lab.states("pronto") == lab.states("lance") == {"settled": 1}
    lab.assert_exact()


def test_a_call_in_doubt_is_not_sent_again_while_paused(open_lab: Open) -> None:
    lab = open_lab(only({"work_email": ("prospeo",)}))
    lab.sandbox.faults({"provider": "prospeo", "kind": "charge_then_drop", "times": 1})
    lab.night(contacts(range(3)))
    assert lab.states("prospeo") == {"in_doubt": 1}
    lab.overdue("lease_until", "prospeo")
    pause(lab)
    lab.sweep()
    assert lab.sent()["prospeo"] == 1
    resume(lab)
    lab.sweep()
    assert lab.states("prospeo") == {"settled": 1}
    lab.assert_exact()


def test_a_pause_waits_for_those_who_were_told_that_they_may_send(engine: Engine) -> None:
    with engine.connect() as arming:
        assert switch.may_send(arming)
        with engine.begin() as conn:
            switch.pause(conn, "")
        with engine.begin() as conn:
            assert not switch.outlast_senders(conn, 0.2)
            conn.rollback()
        arming.commit()
        assert not switch.may_send(arming)
        arming.rollback()
    with engine.begin() as conn:
        assert switch.outlast_senders(conn, 5)


def test_a_pause_keeps_its_beginning(engine: Engine) -> None:
    with engine.begin() as conn:
        first = switch.pause(conn, "one")
        assert switch.pause(conn, "") == first
        assert switch.pause(conn, "two").since == first.since
        assert switch.resume(conn) is not None
        assert switch.resume(conn) is None


@contextmanager
def stopped_when_sent(lab: Lab, waterfall: Waterfall, calls: int) -> Iterator[None]:
    """Has the engine stop as soon as so many calls have left."""

    def stop() -> None:
        armed = "select count(*) from enrichment.calls where armed_at is not null"
        lab.until(f"select ({armed}) >= {calls}")
        waterfall.stop()

    stopping = threading.Thread(target=stop)
    stopping.start()
    yield
    stopping.join()


def test_stopped_in_the_middle_it_settles_what_is_in_flight_and_gives_the_rest_back(
    open_lab: Open,
) -> None:
    terms = {"providers": {"prospeo": {"batch_size": 2, "concurrency": 2}}}
    lab = open_lab({**only({"work_email": ("prospeo",)}), **terms})
    lab.load(contacts(range(40)))
    lab.plan()
    lab.sandbox.latency(600, provider="prospeo")
    partition = Partition(lab.today, 0)
    with lab.waterfall() as waterfall:
        waterfall.reuse(partition)
        with stopped_when_sent(lab, waterfall, 2):
            summary = waterfall.attempt(partition, "prospeo")
    assert summary.stopped_reason == "stopped"
    states = lab.states("prospeo")
    assert set(states) == {"settled", "released"}
    assert lab.sent()["prospeo"] == states["settled"] <= 6
    lab.assert_exact()

    lab.sandbox.latency(0, provider="prospeo")
    lab.drain()
    assert waiting(lab) == set()
    lab.assert_exact()
    lab.assert_polite()


def test_stopped_while_it_waits_for_its_turn_it_ends_at_once(open_lab: Open) -> None:
    # One request is the reading of the balance.
    slow = {"rate": [{"seconds": 600, "limit": 2, "per": "request"}], "batch_size": 2}
    own = {**only({"work_email": ("prospeo",)}), "providers": {"prospeo": slow}}
    lab = open_lab(own)
    lab.load(contacts(range(8)))
    lab.plan()
    partition = Partition(lab.today, 0)
    with lab.waterfall() as waterfall:
        waterfall.reuse(partition)
        with stopped_when_sent(lab, waterfall, 1):
            waterfall.attempt(partition, "prospeo")
    assert lab.sent()["prospeo"] == 1
    assert set(lab.states("prospeo")) == {"settled", "released"}
    lab.assert_exact()
