"""What was bought is not bought again: fields, contacts, dates and processes share it."""

from ..support.lab import contacts, only
from .conftest import Open


def test_one_call_serves_several_fields_and_costs_once_on_the_first_asked(open_lab: Open) -> None:
    lab = open_lab(only({"work_email": ["prospeo"], "profile": ["prospeo"]}))
    lab.night(contacts(range(10)))
    assert lab.sent()["prospeo"] == 1
    assert lab.sql(
        "select field, outcome, count(*), sum(cost_micro) from enrichment.attempts "
        "group by 1, 2 order by 1"
    ) == [("profile", "found", 10, 0), ("work_email", "found", 10, 10_000_000)]
    lab.assert_exact()


def test_a_field_that_nobody_asked_for_is_served_later_at_no_cost(open_lab: Open) -> None:
    lab = open_lab(
        only({"work_email": ["agntdata"], "profile": ["prospeo", "agntdata"]}),
        {"prospeo.match": 0},
    )
    lab.load(contacts(range(10)))
    lab.plan()
    lab.drain(chain=("agntdata", "prospeo", "agntdata"))
    assert lab.sent()["agntdata"] == 1
    assert lab.sql(
        "select field, outcome, call_id is null, requested_at is null, sum(cost_micro), count(*) "
        "from enrichment.attempts where provider = 'agntdata' group by 1, 2, 3, 4 order by 1"
    ) == [
        ("profile", "reused", True, True, 0, 10),
        ("work_email", "found", False, False, 10_000_000, 10),
    ]
    assert lab.sql("select distinct state, result from enrichment.enrichments") == [
        ("finished", "found")
    ]
    lab.assert_exact()


def test_a_known_miss_is_not_asked_again_at_a_later_stage_of_the_night(open_lab: Open) -> None:
    lab = open_lab(
        only({"work_email": ["agntdata"], "profile": ["prospeo", "agntdata"]}),
        {"prospeo.match": 0, "agntdata.record": 0},
    )
    lab.load(contacts(range(10)))
    lab.plan()
    lab.drain(chain=("agntdata", "prospeo", "agntdata"))
    assert lab.sent()["agntdata"] == 1
    assert lab.sql("select distinct field, provider, reason from enrichment.skips") == [
        ("profile", "agntdata", "known_miss")
    ]
    lab.assert_exact()


def test_a_match_that_was_missed_is_held_and_kept_when_a_mobile_brings_it(open_lab: Open) -> None:
    before = open_lab(only({"work_email": ["prospeo"]}), {"prospeo.match": 0})
    before.load(contacts(range(3)))
    before.plan(before.day(1))
    before.drain(before.day(1))
    assert before.outcomes("prospeo") == {"not_found": 3}

    lab = open_lab(only({"phone": ["prospeo"]}))
    lab.plan()
    lab.drain()
    assert lab.charged()["prospeo"] == 3 * 10_000_000
    assert lab.sql(
        "select product, verdict, count(*), sum(hold_micro), sum(cost_micro) "
        "from enrichment.charge_lines group by 1, 2 order by 1, 2"
    ) == [
        ("match", "found", 3, 3_000_000, 3_000_000),
        ("match", "not_found", 3, 3_000_000, 0),
        ("mobile", "found", 3, 27_000_000, 27_000_000),
    ]
    told = "select count(distinct person_id) from enrichment.observations where attribute = "
    assert lab.one(f"{told} 'work_email'") == 3
    assert lab.one(f"{told} 'linkedin_url'") == 3
    assert lab.sql("select * from enrichment.provider_states where opened_at is not null") == []
    lab.assert_exact()


def test_contacts_of_one_person_are_bought_once(open_lab: Open) -> None:
    lab = open_lab()
    twins = [{**row, "contact_id": f"twin-{row['contact_id']}"} for row in contacts(range(20))]
    lab.night(contacts(range(20)) + twins)
    assert lab.one("select count(*) from enrichment.plan_rows") == 2 * 3 * 20
    assert lab.one("select count(*) from enrichment.enrichments") == 3 * 20
    assert lab.sandbox.meter()["prospeo"]["records"] == 20
    lab.assert_exact()
    lab.assert_polite()


def test_a_date_planned_before_another_finished_is_answered_by_it(open_lab: Open) -> None:
    lab = open_lab({"refresh": {"batches": 2}})
    lab.load(contacts(range(20)))
    lab.plan(lab.day(1))
    lab.plan()
    lab.drain(lab.day(1))
    sent, charged = lab.sent(), lab.charged()
    lab.drain()
    assert (lab.sent(), lab.charged()) == (sent, charged)
    day = lab.today
    assert lab.sql(
        "select state, count(*) from enrichment.plan_rows where partition_date = :d group by 1",
        d=day,
    ) == [("reused", 60)]
    assert lab.sql(
        "select outcome, count(*), sum(cost_micro), count(call_id) from enrichment.attempts "
        "where partition_date = :d group by 1",
        d=day,
    ) == [("reused", 60, 0, 0)]
    lab.assert_exact()


def test_two_processes_and_two_dates_at_once_never_charge_anybody_twice(open_lab: Open) -> None:
    lab = open_lab({"refresh": {"batches": 2}})
    lab.sandbox.latency(5, 30)
    lab.load(contacts(range(120), personal_email_consent="true"))
    days = [lab.day(1), lab.today]
    for day in days:
        lab.plan(day)
    children = [lab.child(days), lab.child(days[::-1]), lab.child(days)]
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    for day in days:
        lab.drain(day)
    assert lab.sql("select state, count(*) from enrichment.enrichments group by 1") == [
        ("finished", 480)
    ]
    assert {day for (day,) in lab.sql("select distinct partition_date from enrichment.calls")} <= {
        *days
    }
    assert lab.one("select count(distinct run_id) from enrichment.calls") > 1
    lab.assert_exact()
    lab.assert_polite()
