"""Rules of calls that are under way while two of their persons turn out to be one."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import event

from enrich_pipeline.providers.protocol import HttpResponse
from enrich_pipeline.store import invariants, ledger
from enrich_pipeline.waterfall import send
from enrich_pipeline.waterfall.claim import Cursor, claim
from enrich_pipeline.waterfall.context import Context
from enrich_pipeline.waterfall.engine import Partition
from enrich_pipeline.waterfall.reserve import Claimed

from ..support.lab import Lab, contact, only, sent_alone
from .conftest import Open

LATER = "2026-02-01T00:00:00Z"
CONSENTS = {"personal_email_consent": "true"}


@contextmanager
def claimed(lab: Lab, provider: str) -> Iterator[tuple[Context, list[Claimed]]]:
    """What is claimed for both contacts of human 0, who are two persons until `unite`."""
    lab.load([contact(0, linkedin_url="", **CONSENTS)])
    lab.load([contact(0, contact_id="d0000", email="", lance_person_id="", **CONSENTS)])
    lab.plan()
    partition = Partition(lab.today, 0)
    with lab.waterfall() as waterfall:
        waterfall.reuse(partition)
    with lab.context() as ctx:
        yield (
            ctx,
            claim(ctx, partition, provider, Cursor(), 2, receiver_ready=True, last_chance=True),
        )


def unite(lab: Lab, **changes: str) -> None:
    """The first contact is completed: it has the second one's profile."""
    lab.load([contact(0, updated_at=LATER, **(CONSENTS | changes))])
    assert lab.one("select count(*) from enrichment.persons where merged_into is null") == 1


def test_a_survivor_who_withdraws_is_not_asked_for_by_the_call_of_the_merged_person(
    open_lab: Open,
) -> None:
    own = only({"work_email": ["agntdata"]})
    lab = open_lab({**own, "providers": {"agntdata": {"batch_size": 1}}})
    with claimed(lab, "agntdata") as (ctx, calls):
        unite(lab, do_not_enrich="true")
        for call in calls:
            sent = sent_alone(ctx, Partition(lab.today, 0), call)
            assert sent.stopped_reason == "withdrawn"
    assert lab.sandbox.requests()["agntdata"]["count"] == 0


def test_a_refused_call_is_halved_without_whom_was_merged_meanwhile(open_lab: Open) -> None:
    lab = open_lab(only({"work_email": ["agntdata"]}))
    with claimed(lab, "agntdata") as (ctx, (call,)):
        assert call.persons == 2
        unite(lab)
        refusal = b'{"success": false, "error": {"code": "VALIDATION_ERROR"}}'
        lab.sql("update enrichment.calls set state = 'sending', sends = 1, armed_at = now()")
        send.store(ctx, call.call_id, "submit", [HttpResponse(400, {}, refusal)])
        send.settle_stored(ctx, Partition(lab.today, 0), call.call_id)
    assert lab.states("agntdata") == {"released": 1}
    lab.plan()
    lab.drain()
    assert lab.sandbox.meter()["agntdata"]["records"] == 1
    lab.assert_exact()


def test_what_is_under_way_for_a_merged_person_uses_the_budget_of_the_survivor(
    open_lab: Open,
) -> None:
    lab = open_lab(only({"work_email": ["agntdata"]}))
    with claimed(lab, "agntdata"):
        unite(lab)
        survivor = lab.one("select person_id from enrichment.persons where merged_into is null")
        with lab.engine.begin() as conn:
            free = ledger.open_person_budgets(conn, [survivor], 100_000, 365)
    assert free == {survivor: 80_000}


def test_a_survivor_is_not_asked_about_again_for_what_the_merged_person_was_told_meanwhile(
    open_lab: Open,
) -> None:
    own = only({"work_email": ["agntdata", "prospeo"]})
    lab = open_lab({**own, "providers": {"agntdata": {"batch_size": 1}}})
    with claimed(lab, "agntdata") as (ctx, calls):
        unite(lab)
        merged = lab.one("select person_id from enrichment.persons where merged_into is not null")
        asked = dict(lab.sql("select call_id, person_id from enrichment.charge_lines"))
        for call in calls:
            if asked[call.call_id] == merged:
                assert sent_alone(ctx, Partition(lab.today, 0), call).settled is not None
            else:
                send.give_back(ctx, call, "stopping")
    known = (
        "select closed_identity = identity from enrichment.enrichments, enrichment.person_inputs "
    )
    assert lab.one(f"{known} where state = 'finished'"), "by what the survivor is known"
    lab.drain()
    assert lab.sent() == dict.fromkeys(lab.sent(), 0) | {"agntdata": 1}
    assert lab.sql(
        "select provider, outcome, person_id = :m from enrichment.attempts "
        "where outcome in ('found', 'reused') order by 2",
        m=merged,
    ) == [("agntdata", "found", True), ("agntdata", "reused", False)]
    assert lab.one("select count(*) from enrichment.enrichments where state <> 'finished'") == 0
    lab.assert_exact()


def test_what_was_claimed_while_the_merge_waited_was_claimed_for_two_persons(
    open_lab: Open,
) -> None:
    """Each paid once for its own; told apart by the moments of the claim and of the merge."""
    lab = open_lab(only({"work_email": ["agntdata"]}))
    lab.night([contact(0, contact_id="d0000", email="", lance_person_id="", **CONSENTS)])
    lab.load([contact(0, linkedin_url="", **CONSENTS)])
    lab.plan()
    partition = Partition(lab.today, 0)
    with lab.waterfall() as waterfall:
        waterfall.reuse(partition)
    merging = threading.Thread(target=unite, args=(lab,))

    def merge_meanwhile(_conn: object, _cursor: object, statement: str, *_: object) -> None:
        if "SKIP LOCKED" in statement and merging.ident is None:
            merging.start()
            lab.until(
                "select count(*) > 0 from pg_stat_activity "
                "where datname = current_database() and wait_event_type = 'Lock'"
            )

    event.listen(lab.engine, "after_cursor_execute", merge_meanwhile)
    with lab.context() as ctx:
        (call,) = claim(
            ctx, partition, "agntdata", Cursor(), 1, receiver_ready=True, last_chance=True
        )
        merging.join()
        assert sent_alone(ctx, partition, call).settled is not None
    lab.plan()
    paid = "select count(*), count(distinct person_id) from enrichment.charge_lines "
    assert lab.sql(f"{paid} where cost_micro > 0") == [(2, 1)]
    with lab.engine.connect() as conn:
        assert invariants.paid_twice(conn, 90) == []
    lab.assert_books()


def test_a_person_budget_below_what_is_used_buys_nothing_more(open_lab: Open) -> None:
    lab = open_lab(only({"work_email": ["prospeo"]}))
    lab.night([contact(1)])
    person = lab.one("select person_id from enrichment.persons")
    with lab.engine.begin() as conn:
        assert ledger.open_person_budgets(conn, [person], 5_000, 365) == {person: 0}
