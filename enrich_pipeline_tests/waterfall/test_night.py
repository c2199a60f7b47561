"""A whole night over all five providers: the ledger is the meter."""

from enrich_pipeline.store import person_inputs
from enrich_pipeline.waterfall.engine import Partition

from ..support.lab import Lab, contact, contacts, only
from .conftest import Open

USUAL = {
    "prospeo.match": 0.6, "prospeo.email": 0.5, "prospeo.verified_share": 0.7,
    "prospeo.mobile": 0.3, "agntdata.record": 0.6, "agntdata.email": 0.5,
    "agntdata.personal_email": 0.3, "pronto.email": 0.5, "pronto.phone": 0.4,
    "pronto.personal_email": 0.4, "lance.emails": 0.5, "lance.phones": 0.4, "apollo.profile": 0.7,
    "apollo.email": 0.5, "apollo.personal_email": 0.5, "apollo.phone": 0.4,
    "answer.other_person": 0.03, "answer.respelled": 0.05,
}  # fmt: skip


def fewest_possible(lab: Lab, after: int) -> dict[str, int]:
    """Per provider what the calls after this one would be if every one but the last were full."""
    fewest: dict[str, int] = {}
    for provider, persons in lab.sql(
        "select provider, sum(persons) from enrichment.calls where call_id > :after "
        "group by provider, batch, call_group",
        after=after,
    ):
        maximum = lab.settings.providers[provider].limits.maximum
        fewest[provider] = fewest.get(provider, 0) + -(-persons // maximum)
    return fewest


def test_a_night_posts_what_the_meters_charged_in_the_fewest_calls_and_only_once(
    open_lab: Open,
) -> None:
    lab = open_lab({"refresh": {"batches": 2}}, USUAL)
    lab.load(contacts(range(120), personal_email_consent="true") + contacts(range(120, 220)))
    lab.plan()
    fewest: dict[str, int] = {}
    summed = {"found": 0, "spent_micro": 0, "calls": 0}
    for batch in range(2):
        partition = Partition(lab.today, batch)
        with lab.waterfall() as waterfall:
            waterfall.reuse(partition)
            for op in lab.chain:
                last = lab.one("select coalesce(max(call_id), 0) from enrichment.calls")
                stage = waterfall.attempt(partition, op)
                assert (stage.pending, stage.in_doubt, stage.held_micro) == (0, 0, 0)
                for name in summed:
                    summed[name] += getattr(stage, name)
                for provider, calls in fewest_possible(lab, last).items():
                    fewest[provider] = fewest.get(provider, 0) + calls
    sent, charged = lab.sent(), lab.charged()
    assert all(charged.values()), charged
    assert all(sent[provider] <= 1.02 * fewest[provider] for provider in sent), (sent, fewest)
    assert summed["calls"] == sum(sent.values())
    assert summed["spent_micro"] == sum(charged.values())
    assert summed["found"] == lab.one(
        "select count(*) from enrichment.attempts where outcome = 'found'"
    )
    lab.assert_exact()
    lab.assert_polite()
    assert all(row.difference_micro == 0 for row in lab.reconcile().values())

    before = lab.sql("select * from enrichment.enrichments order by enrichment_id")
    lab.drain()
    assert (lab.sent(), lab.charged()) == (sent, charged)
    assert lab.sql("select * from enrichment.enrichments order by enrichment_id") == before


def test_every_attempt_of_a_night_has_its_call_its_times_and_its_outcome(open_lab: Open) -> None:
    lab = open_lab(shares=USUAL)
    lab.night(contacts(range(60), personal_email_consent="true"))
    assert lab.one("select count(*) from enrichment.attempts") > 100
    assert (
        lab.sql(
            "select * from enrichment.attempts where outcome in ('pending', 'in_doubt') "
            "or responded_at is null or (outcome <> 'reused' and "
            "(call_id is null or requested_at is null or responded_at < requested_at))"
        )
        == []
    )
    assert lab.sql(
        "select state, items is null, request_body is null from enrichment.calls group by 1, 2, 3"
    ) == [("settled", True, True)]
    lab.assert_exact()


def test_after_a_night_what_may_be_sent_of_everybody_is_what_can_be_worked_out(
    open_lab: Open,
) -> None:
    """Settlements work it out only of whom they learnt something new."""
    lab = open_lab(shares=USUAL)
    lab.load(contacts(range(60), personal_email_consent="true", company_domain="", email=""))
    lab.load(contacts(range(60, 120), linkedin_url=""))
    before = lab.sql("select * from enrichment.person_inputs order by person_id")
    lab.plan()
    lab.drain()
    after = lab.sql("select * from enrichment.person_inputs order by person_id")
    assert after != before
    with lab.engine.begin() as conn:
        person_inputs.refresh_inputs(conn, [row[0] for row in after])
    assert lab.sql("select * from enrichment.person_inputs order by person_id") == after


def test_a_provider_that_was_turned_off_needs_no_key(open_lab: Open) -> None:
    off = {"apollo": {"enabled": False}}
    lab = open_lab(
        {**only({"work_email": ["prospeo", "apollo"]}), "providers": off},
        environment={"ENRICH_APOLLO_API_KEY": ""},
    )
    lab.night(contacts(range(3)))
    assert lab.outcomes("prospeo") == {"found": 3}
    lab.assert_books()


def test_two_persons_under_one_id_are_asked_for_one_after_the_other(open_lab: Open) -> None:
    lab = open_lab(only({"work_email": ["lance"]}))
    # Whose names contradict are not one person, whatever the CRM wrote into the column.
    lab.night([contact(1), contact(2, lance_person_id=contact(1)["lance_person_id"]), contact(3)])
    assert lab.sql("select persons from enrichment.calls") == [(2,)]
    assert lab.sql("select distinct wait_reason from enrichment.enrichments") == [
        (None,),
        ("asked_already",),
    ]
    lab.drain()
    assert lab.states("lance") == {"settled": 2}
    lab.assert_exact()


def test_what_a_provider_made_for_us_is_paid_though_its_clock_is_behind(open_lab: Open) -> None:
    patience = {"lance": {"await_seconds": 0}}
    lab = open_lab({**only({"work_email": ["lance"]}), "providers": patience})
    lab.night(contacts(range(3)))
    assert lab.states("lance") == {"accepted": 1}
    lab.sql("update enrichment.calls set armed_at = armed_at + interval '3 minutes'")
    lab.until("select now() > accepted_at + interval '1 second' from enrichment.calls")
    lab.overdue("next_poll_at", "lance")
    lab.drain()
    assert lab.account("lance")["spent"] == 3_000_000
    lab.assert_exact()
