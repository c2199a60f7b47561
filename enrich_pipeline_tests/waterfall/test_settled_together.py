"""Several calls settled in one transaction: each as if it had been settled alone."""

from typing import Any

import pytest
from sqlalchemy import Connection, text

from enrich_pipeline.providers.protocol import HttpResponse
from enrich_pipeline.store import calls, replies
from enrich_pipeline.waterfall.claim import Cursor, claim
from enrich_pipeline.waterfall.context import Context
from enrich_pipeline.waterfall.engine import Partition
from enrich_pipeline.waterfall.reserve import Claimed
from enrich_pipeline.waterfall.send import send, settle_answered, settle_stored
from enrich_pipeline.waterfall.settle import Settlement, settle, settle_together

from ..support.lab import Lab, contacts
from .conftest import Open

CALLS = 4


def own(provider: str) -> dict[str, Any]:
    """Everything is asked of one provider, two persons at a time."""
    fields = ("work_email", "phone", "personal_email", "profile")
    return {
        "fields": {name: {"waterfall": [provider]} for name in fields},
        "providers": {provider: {"batch_size": 2}},
        "refresh": {"batches": 1},
    }


def claims(lab: Lab, ctx: Context, provider: str) -> list[Claimed]:
    """Reserved calls of tonight's only partition."""
    partition = Partition(lab.today, 0)
    lab.plan()
    with lab.waterfall() as waterfall:
        waterfall.reuse(partition)
    return claim(ctx, partition, provider, Cursor(), CALLS, receiver_ready=True, last_chance=True)


def answered(lab: Lab, ctx: Context, provider: str) -> list[Claimed]:
    """Calls whose replies are kept and not settled."""
    claimed = claims(lab, ctx, provider)
    assert len(claimed) >= CALLS
    for each in claimed:
        assert send(ctx, each).answered == each.call_id
    return claimed


def settlements(conn: Connection, ctx: Context, claimed: list[Claimed]) -> list[Settlement]:
    ids = [each.call_id for each in claimed]
    stored = {s.call_id: s for s in calls.load_all(conn, ids, lock=True)}
    found = []
    for kept in replies.unread(conn, ids):
        call = stored[kept.call_id]
        (r,) = kept.responses
        response = HttpResponse(r["status"], r["headers"], bytes.fromhex(r["body"]))
        reply = ctx.providers[call.provider].read(ctx.wire_call(call), response)
        found.append(Settlement(call, reply, kept.settlement))
    return found


def contents(conn: Connection) -> dict[str, list[str]]:
    """All rows of the package's own tables, but for clocks and numbers that a table gives out."""
    columns: dict[str, list[str]] = {}
    for table, column in conn.execute(
        text("""
            select table_name, column_name from information_schema.columns
            join information_schema.tables using (table_schema, table_name)
            where table_schema = 'enrichment' and table_type = 'BASE TABLE'
              and data_type not like 'timestamp%' and is_identity = 'NO'
            order by 1, 2
        """)
    ):
        columns.setdefault(table, []).append(column)
    return {
        table: sorted(
            str(tuple(row))
            for row in conn.execute(text(f"select {', '.join(names)} from enrichment.{table}"))  # noqa: S608
        )
        for table, names in columns.items()
    }


@pytest.mark.parametrize("provider", ["agntdata", "apollo", "lance", "pronto", "prospeo"])
def test_together_and_one_by_one_leave_the_same_rows(open_lab: Open, provider: str) -> None:
    lab = open_lab(own(provider))
    lab.load(contacts(range(2 * CALLS), personal_email_consent="true"))
    with lab.context() as ctx:
        claimed = answered(lab, ctx, provider)
        with ctx.engine.connect() as conn:
            before = contents(conn)
            conn.rollback()
            for one in settlements(conn, ctx, claimed):
                settle(conn, ctx, one.stored, one.reply, one.name)
            apart = contents(conn)
            conn.rollback()
            left = settlements(conn, ctx, claimed)
            while left:
                done = settle_together(conn, ctx, provider, left)
                assert done
                left = [each for each in left if each.stored.call_id not in done]
            together = contents(conn)
            conn.rollback()
    assert apart != before
    assert together == apart


def test_nobody_is_settled_twice_in_one_transaction(open_lab: Open) -> None:
    """Lance is asked for each product apart: two calls about the same persons."""
    lab = open_lab(own("lance"))
    lab.load(contacts(range(2)))
    with lab.context() as ctx:
        claimed = claims(lab, ctx, "lance")
        assert len(claimed) == 2
        ids = [send(ctx, each).answered for each in claimed]
        with ctx.engine.connect() as conn:
            done = settle_together(conn, ctx, "lance", settlements(conn, ctx, claimed))
            assert list(done) == ids[:1]
            conn.rollback()
        partition = Partition(lab.today, 0)
        sent = list(settle_answered(ctx, partition, [i for i in ids if i is not None]))
    assert len(sent) == 2
    assert all(each.settled is not None for each in sent)
    assert lab.states("lance") == {"accepted": 2}
    lab.drain()
    lab.assert_exact()


def test_a_refused_call_is_settled_beside_the_answered_ones(open_lab: Open) -> None:
    lab = open_lab(own("prospeo"))
    lab.load(contacts(range(2 * CALLS)))
    partition = Partition(lab.today, 0)
    with lab.context() as ctx:
        claimed = claims(lab, ctx, "prospeo")
        send(ctx, claimed[0])
        lab.sandbox.faults({"provider": "prospeo", "kind": "429", "times": 1})
        for each in claimed[1:]:
            send(ctx, each)
        ids = [each.call_id for each in claimed]
        sent = list(settle_answered(ctx, partition, ids))
        assert len(sent) == len(ids)
        for call_id in ids:
            assert settle_stored(ctx, partition, call_id).settled is None, "nothing is left unread"
    assert lab.states("prospeo") == {"settled": len(ids) - 1, "released": 1}
    lab.drain()
    lab.assert_exact()
