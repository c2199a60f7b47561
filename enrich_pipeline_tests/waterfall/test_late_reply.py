"""Rules of a reply that its process keeps only after others have settled the call without it."""

import json

import pytest

from enrich_pipeline.providers.protocol import HttpResponse
from enrich_pipeline.store import calls
from enrich_pipeline.waterfall.claim import Cursor, claim
from enrich_pipeline.waterfall.engine import Partition
from enrich_pipeline.waterfall.in_doubt import resolve
from enrich_pipeline.waterfall.send import settle_stored, store
from enrich_pipeline_tests.support.lab import Lab, contacts, only

from .conftest import Open


def test_a_reply_kept_after_its_free_repetition_was_settled_is_not_booked_twice(
    open_lab: Open,
) -> None:
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
        with ctx.engine.begin() as conn:
            assert calls.arm(conn, claimed.call_id, 60)
        heard: HttpResponse = ctx.clients["prospeo"].send(
            claimed.request, body=claimed.body, deadline_seconds=20
        )
        # Its process is taken for dead: the call falls into doubt and is asked again.
        lab.overdue("lease_until", "prospeo")
        lab.sweep()
        lab.overdue("lease_until", "prospeo")
        lab.sweep()
        assert lab.states("prospeo") == {"settled": 1}
        lab.assert_exact()

        store(ctx, claimed.call_id, "submit", [heard])
        settle_stored(ctx, partition, claimed.call_id)
    lab.assert_exact()


GARBAGE = HttpResponse(200, {}, b'{"truncated": ')
REFUSAL = HttpResponse(402, {}, b'{"success": false, "error": {"code": "INSUFFICIENT_CREDITS"}}')


def _armed(lab: Lab) -> int:
    """A call of two persons whose process has sent it, and sleeps."""
    lab.load(contacts(range(2)))
    lab.plan()
    partition = Partition(lab.today, 0)
    with lab.waterfall() as waterfall:
        waterfall.reuse(partition)
    with lab.context() as ctx:
        (claimed,) = claim(
            ctx, partition, "agntdata", Cursor(), 2, receiver_ready=True, last_chance=True
        )
        with ctx.engine.begin() as conn:
            assert calls.arm(conn, claimed.call_id, 60)
    return claimed.call_id


def _keep(lab: Lab, call_id: int, reply: HttpResponse) -> None:
    with lab.context() as ctx:
        store(ctx, call_id, "submit", [reply])
        settle_stored(ctx, Partition(lab.today, 0), call_id)


def test_a_reply_that_says_nothing_leaves_a_written_off_call_open_for_a_better_one(
    open_lab: Open,
) -> None:
    lab = open_lab(only({"work_email": ("agntdata",)}))
    call_id = _armed(lab)
    for clock in ("lease_until", "write_off_at"):
        lab.overdue(clock, "agntdata")
        lab.sweep()
    assert lab.states("agntdata") == {"written_off": 1}
    _keep(lab, call_id, GARBAGE)
    assert lab.states("agntdata") == {"written_off": 1}
    assert lab.one("select items is not null from enrichment.calls")


def test_a_refusal_that_comes_late_leaves_a_call_that_was_settled_by_hand_settled(
    open_lab: Open,
) -> None:
    lab = open_lab(only({"work_email": ("agntdata",)}))
    call_id = _armed(lab)
    lab.overdue("lease_until", "agntdata")
    lab.sweep()
    with lab.context() as ctx:
        resolve(ctx, call_id, "charged", "the invoice")
    assert lab.states("agntdata") == {"settled": 1}
    _keep(lab, call_id, REFUSAL)
    assert lab.states("agntdata") == {"settled": 1}
    assert lab.account("agntdata")["spent"] == 2_000_000


@pytest.mark.parametrize("is_one_known", [False, True])
def test_a_delivery_that_outruns_the_reply_waits_for_the_ids_in_it(
    open_lab: Open, is_one_known: bool
) -> None:
    lab = open_lab(only({"phone": ("apollo",)}))
    lab.load(contacts(range(2)))
    lab.plan()
    partition = Partition(lab.today, 0)
    with lab.waterfall() as waterfall:
        waterfall.reuse(partition)
    with lab.context() as ctx:
        (claimed,) = claim(
            ctx, partition, "apollo", Cursor(), 2, receiver_ready=True, last_chance=True
        )
        with ctx.engine.begin() as conn:
            assert calls.arm(conn, claimed.call_id, 60)
        heard: HttpResponse = ctx.clients["apollo"].send(
            claimed.request, body=claimed.body, deadline_seconds=20
        )
        if is_one_known:
            # Of the two people in the delivery one was found under the same id before.
            lab.sql(
                "update enrichment.charge_lines set external_id = :known where item_key = "
                "(select min(item_key) from enrichment.charge_lines)",
                known=json.loads(heard.body)["matches"][0]["id"],
            )
        lab.sandbox.wait_for_deliveries()
        lab.sweep()
        assert lab.sql("select distinct state from enrichment.inbox") == [("new",)]
        store(ctx, claimed.call_id, "submit", [heard])
        settle_stored(ctx, partition, claimed.call_id)
    lab.sweep()
    assert lab.sql("select distinct state from enrichment.inbox") == [("applied",)]
    assert lab.states("apollo") == {"settled": 1}
    lab.assert_exact()
