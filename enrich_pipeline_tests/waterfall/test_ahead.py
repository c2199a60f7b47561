"""Rules of working ahead: no provider idles while persons wait, and none is asked too soon."""

from collections import Counter
from collections.abc import Sequence

from enrich_pipeline.waterfall.ahead import queue_of
from enrich_pipeline.waterfall.engine import Partition

from ..support.lab import Lab, contacts, only
from .conftest import Open

CHAIN = ("prospeo", "agntdata")
ONE_AT_A_TIME = {
    "providers": {
        "prospeo": {"concurrency": 1, "batch_size": 5, "rate": []},
        "agntdata": {"concurrency": 1, "batch_size": 4, "rate": []},
        "lance": {"concurrency": 1, "batch_size": 5, "rate": [], "poll_seconds": 0.5},
    }
}
PERSONS = 60


def night(lab: Lab, chain: Sequence[str] = CHAIN) -> Counter[str]:
    """One run that works ahead; calls by provider."""
    lab.load(contacts(range(PERSONS)))
    lab.plan()
    with lab.waterfall() as waterfall:
        waterfall.reuse(Partition(lab.today, 0))
        for place, provider in enumerate(chain, start=1):
            waterfall.attempt(Partition(lab.today, 0), provider, later=chain[place:])
    return Counter({name: meter["calls"] for name, meter in lab.sandbox.meter().items()})


def started(lab: Lab, provider: str) -> list[float]:
    return sorted(lab.sandbox.requests()[provider]["started_at"])


def test_the_next_provider_works_while_the_first_one_still_does(open_lab: Open) -> None:
    lab = open_lab({**only({"work_email": CHAIN}), **ONE_AT_A_TIME}, {"prospeo.match": 0.0})
    lab.sandbox.latency(300, provider="prospeo")
    calls = night(lab)
    assert calls["prospeo"] == PERSONS / 5
    assert calls["agntdata"] == PERSONS / 4, "in full calls"
    ahead = [at for at in started(lab, "agntdata") if at < started(lab, "prospeo")[-1]]
    assert len(ahead) >= calls["agntdata"] / 3
    lab.assert_exact()


def test_nobody_is_asked_about_ahead_for_whom_an_earlier_provider_may_find_out_more(
    open_lab: Open,
) -> None:
    """The profile comes from the first provider, the address is the second one's from the start."""
    own = only({"profile": ("prospeo",), "work_email": ("agntdata",)})
    lab = open_lab({**own, **ONE_AT_A_TIME}, {"prospeo.match": 1.0})
    lab.sandbox.latency(300, provider="prospeo")
    night(lab)
    profiles = lab.sql(
        "select max(c.responded_at) from enrichment.calls as c join enrichment.charge_lines as l "
        "using (call_id) where c.provider = 'prospeo' group by l.person_id"
    )
    assert len(profiles) == PERSONS
    too_soon = """
        select count(*) from enrichment.charge_lines as l join enrichment.calls as c using (call_id)
        join enrichment.charge_lines as earlier using (person_id)
        join enrichment.calls as before on before.call_id = earlier.call_id
        where c.provider = 'agntdata' and before.provider = 'prospeo'
          and c.armed_at < before.responded_at
    """
    assert lab.one(too_soon) == 0
    lab.assert_exact()


def test_a_field_that_comes_by_later_holds_nobody_up(open_lab: Open) -> None:
    """Phones come to Lance from a provider after it: its addresses need not wait for them."""
    wanted = {"profile": ("agntdata",), "work_email": ("lance",), "phone": ("prospeo", "lance")}
    lab = open_lab({**only(wanted), **ONE_AT_A_TIME}, {"prospeo.mobile": 0.0})
    lab.sandbox.latency(300, provider="agntdata")
    night(lab, ("agntdata", "lance", "prospeo", "lance"))
    profiles, addresses = started(lab, "agntdata"), started(lab, "lance")
    assert addresses[0] < profiles[len(profiles) // 2]
    assert started(lab, "prospeo")[0] < profiles[-1], "nor do its phones wait for Lance's own turn"
    lab.assert_exact()


def test_what_comes_late_is_collected_while_its_stage_still_sends(open_lab: Open) -> None:
    """Lance is asked for everybody and answers when polled; who was not found goes on at once."""
    chain = ("lance", "agntdata")
    lab = open_lab({**only({"work_email": chain}), **ONE_AT_A_TIME}, {"lance.emails": 0.0})
    lab.sandbox.latency(500, provider="lance")
    night(lab, chain)
    assert lab.one(
        "select min(armed_at) filter (where provider = 'agntdata')"
        " < max(armed_at) filter (where provider = 'lance') from enrichment.calls"
    )
    lab.assert_exact()


def test_what_comes_late_to_the_last_stage_is_collected_while_it_sends(open_lab: Open) -> None:
    """What its calls hold is needed for others, and nothing is left to do when all are sent."""
    lab = open_lab({**only({"work_email": ("lance",)}), **ONE_AT_A_TIME}, {"lance.emails": 0.0})
    lab.sandbox.latency(500, provider="lance")
    night(lab, ("lance",))
    assert lab.one("select min(closed_at) < max(armed_at) from enrichment.calls")
    lab.assert_exact()


def test_each_later_provider_waits_for_those_before_it() -> None:
    assert queue_of("a", ("b", "a", "c", "b")) == [
        ("b", frozenset("a")),
        ("c", frozenset("ab")),
    ]
