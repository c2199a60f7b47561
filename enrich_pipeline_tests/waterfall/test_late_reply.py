"""Rules of a reply that its process keeps only after others have settled the call without it."""

from enrich_pipeline.providers.protocol import HttpResponse
from enrich_pipeline.store import calls
from enrich_pipeline.waterfall.claim import Cursor, claim
from enrich_pipeline.waterfall.engine import Partition
from enrich_pipeline.waterfall.send import settle_stored, store
from enrich_pipeline_tests.support.lab import contacts, only

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
