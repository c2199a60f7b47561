"""SIGKILL in the middle of calls: the next drain finds the books in order and goes on."""

import random
import threading
import time

import pytest

from enrich_pipeline.waterfall import fault_points
from enrich_pipeline.waterfall.engine import Partition
from enrich_pipeline.waterfall.in_doubt import list_doubts

from ..support.lab import Lab, contacts, only
from .conftest import Open

CONCURRENCY = 3


def all_settled(lab: Lab) -> bool:
    return bool(
        lab.one(
            "select count(*) = 0 from enrichment.enrichments "
            "where state in ('open', 'pending', 'in_doubt')"
        )
    )


@pytest.mark.parametrize("seed", range(2))
def test_a_killed_run_loses_no_stored_reply_and_leaves_few_calls_in_doubt(
    open_lab: Open, seed: int
) -> None:
    lab = open_lab(
        {"providers": {p: {"concurrency": CONCURRENCY, "batch_size": 10} for p in
                       ("prospeo", "agntdata", "pronto", "lance", "apollo")}},
        {"prospeo.match": 0.5, "prospeo.mobile": 0.3, "agntdata.record": 0.5, "pronto.phone": 0.4},
    )  # fmt: skip
    lab.sandbox.latency(20, 60)
    lab.load(contacts(range(60), personal_email_consent="true"))
    lab.plan()
    throw = random.Random(seed)
    kills = 0
    for _ in range(2):
        child = lab.child([lab.today])
        known = lab.one("select count(*) from enrichment.calls")
        lab.until(
            "select count(*) > "  # noqa: S608
            f"{known} from enrichment.calls where state <> 'reserved'"
        )
        time.sleep(throw.random() * 1.2)
        child.kill()
        child.join()
        kills += child.exitcode != 0
        with lab.waterfall() as waterfall:
            waterfall.sweep()
        in_doubt = lab.one("select count(*) from enrichment.calls where state = 'in_doubt'")
        assert in_doubt <= kills * CONCURRENCY
        assert not lab.sql(
            "select * from enrichment.calls where state in ('reserved', 'sending', 'responded')"
        )
        assert not lab.sql(
            "select * from enrichment.replies "
            "where applied_at is null and settlement not like 'poll:%'"
        )
        with lab.engine.connect() as conn:
            assert len(list_doubts(conn)) == in_doubt
        lab.sandbox.wait_for_deliveries()
        lab.assert_books()
    assert kills
    lab.drain()
    lab.assert_books()
    for clock in ("lease_until", "write_off_at"):
        lab.overdue(clock, "prospeo")
        lab.overdue(clock, "lance")
        lab.drain()
    for provider in ("agntdata", "pronto", "apollo"):
        lab.overdue("write_off_at", provider)
    for _ in range(2):
        lab.sandbox.wait_for_deliveries()
        lab.drain()
    assert all_settled(lab)
    lab.assert_books()
    lab.assert_polite()


def test_a_reply_survives_the_loss_of_all_database_connections(open_lab: Open) -> None:
    lab = open_lab(only({"work_email": ["agntdata"]}))
    lab.sandbox.faults({"provider": "agntdata", "kind": "slow", "seconds": 0.8})
    lab.load(contacts(range(4)))
    lab.plan()
    worker = threading.Thread(target=lab.drain)
    worker.start()
    lab.until("select count(*) = 1 from enrichment.calls where state = 'sending'")
    lab.sql(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where datname = current_database() and pid <> pg_backend_pid()"
    )
    worker.join()
    lab.drain()
    assert lab.states("agntdata") == {"settled": 1}
    assert lab.sent()["agntdata"] == 1
    lab.assert_exact()


def test_who_takes_over_a_step_begins_with_what_its_dead_predecessor_left(open_lab: Open) -> None:
    one_at_once = {"providers": {"prospeo": {"concurrency": 1, "batch_size": 5}}}
    lab = open_lab(only({"work_email": ["prospeo"]}) | one_at_once)
    lab.load(contacts(range(20)))
    lab.plan()
    lab.sandbox.latency(2000)
    child = lab.child([lab.today])
    lab.until("select count(*) = 1 from enrichment.calls where state = 'sending'")
    child.kill()
    child.join()
    lab.sandbox.latency(0)
    reserved = lab.states("prospeo").get("reserved", 0)
    assert reserved
    with lab.waterfall(lab.one("select distinct run_id from enrichment.calls")) as waterfall:
        recovered = waterfall.resume()
        assert (recovered.doubted, recovered.released) == (1, reserved)
        waterfall.attempt(Partition(lab.today, 0), "prospeo")
    assert lab.states("prospeo") == {"in_doubt": 1, "released": reserved, "settled": 3}
    lab.assert_books()


def test_who_takes_over_a_step_applies_the_answer_that_its_dead_predecessor_had_kept(
    open_lab: Open,
) -> None:
    lab = open_lab(only({"work_email": ["prospeo", "agntdata"]}), {"prospeo.match": 0.0})
    lab.load(contacts(range(5)))
    lab.plan()
    lab.child([lab.today], "stored").join()
    assert lab.states("prospeo") == {"responded": 1}
    with lab.waterfall("of another batch, say") as waterfall:
        assert waterfall.resume().settled == 0, "its process may be alive"
    with lab.waterfall(lab.one("select run_id from enrichment.calls")) as waterfall:
        assert waterfall.resume().settled == 1
        waterfall.attempt(Partition(lab.today, 0), "agntdata")
    assert lab.states("prospeo") == {"settled": 1}
    assert (lab.sent()["prospeo"], lab.sent()["agntdata"]) == (1, 1), "nobody waited for a sweep"
    lab.assert_exact()


@pytest.mark.parametrize(("dies_at", "left"), [("claimed", "reserved"), ("stored", "responded")])
def test_what_a_dead_run_left_waits_and_the_answer_another_field_buys_serves_it(
    open_lab: Open, dies_at: fault_points.Label, left: str
) -> None:
    own = only({"profile": ["prospeo", "agntdata"], "personal_email": ["agntdata"]})
    lab = open_lab(own, {"prospeo.match": 0.0, "agntdata.personal_email": 1.0})
    lab.load(contacts(range(5), personal_email_consent="true"))
    lab.plan()
    lab.child([lab.today], dies_at).join()
    assert lab.states("prospeo") == {left: 1}
    with lab.waterfall("one that the sensor asked for") as waterfall:
        for provider in ("prospeo", "agntdata"):
            waterfall.attempt(Partition(lab.today, 0), provider)
    assert lab.outcomes("agntdata") == {"found": 5}, "personal e-mails"
    lab.drain()
    assert "in_doubt" not in lab.states("prospeo")
    assert lab.outcomes("agntdata") == {"found": 5, "reused": 5}, "and profiles"
    assert (lab.sent()["prospeo"], lab.sent()["agntdata"]) == (1, 1)
    lab.assert_exact()
