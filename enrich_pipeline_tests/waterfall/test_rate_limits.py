"""Stages keep to rate windows; a provider that makes wait for long is left to a later drain."""

from enrich_pipeline_tests.support.lab import contacts, only

from .conftest import Open


def rate(*windows: tuple[int, int]) -> dict[str, object]:
    listed = [{"seconds": s, "limit": limit, "per": "request"} for s, limit in windows]
    return {"providers": {"prospeo": {"rate": listed, "batch_size": 1}}}


def test_a_used_up_day_leaves_the_rest_to_a_later_drain(open_lab: Open) -> None:
    lab = open_lab({**only({"profile": ("prospeo",)}), **rate((86400, 4))})
    lab.night(contacts(range(8)))
    assert lab.sent()["prospeo"] == 3, "and the reading of the balance"
    assert lab.account("prospeo").get("held", 0) == 0
    waiting = "select distinct wait_reason from enrichment.enrichments where state = 'open'"
    assert lab.sql(waiting) == [("unavailable:rate_limited",)]
    lab.drain()
    assert lab.sent()["prospeo"] == 3
    lab.sql("delete from enrichment.rate_windows")
    lab.sql("delete from enrichment.provider_states")
    lab.drain()
    assert lab.sent()["prospeo"] == 7
    lab.assert_exact()


def test_a_provider_that_wants_minutes_of_peace_is_left_to_a_later_drain(open_lab: Open) -> None:
    lab = open_lab({**only({"profile": ("prospeo",)}), **rate((60, 1000))})
    lab.sandbox.faults({"provider": "prospeo", "kind": "429", "seconds": 400, "times": 1})
    lab.night(contacts(range(8)))
    assert lab.sent()["prospeo"] < 8
    assert lab.one("select count(*) from enrichment.enrichments where state = 'open'") > 0
    lab.assert_exact()


def test_two_runs_share_the_concurrency_of_a_provider(open_lab: Open) -> None:
    own = {**only({"profile": ("prospeo",)}), **rate(), "refresh": {"batches": 2}}
    own["providers"]["prospeo"] |= {"concurrency": 2}
    lab = open_lab(own)
    lab.sandbox.latency(100, provider="prospeo")
    lab.load(contacts(range(24)))
    lab.plan()
    children = [lab.child([lab.today]) for _ in range(2)]
    for child in children:
        child.join()
    log = lab.sandbox.requests()["prospeo"]
    spans = [
        (start, start + lasted)
        for name, start, lasted in zip(
            log["endpoint"], log["started_at"], log["seconds"], strict=True
        )
        if "enrich" in name
    ]
    assert len(spans) == 24
    assert max(sum(1 for a, b in spans if a <= start < b) for start, _ in spans) <= 2
    lab.assert_exact()
