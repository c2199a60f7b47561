"""Two persons turn out to be one while something bought for one of them is still under way."""

from typing import Any

from ..sandbox import people
from ..support.lab import Lab, contact, only
from .conftest import Open

LATER = "2026-02-01T00:00:00Z"
ONE_BY_ONE: dict[str, Any] = {
    **only({"work_email": ["agntdata", "lance"]}),
    "providers": {"agntdata": {"batch_size": 1, "concurrency": 1}},
}


def _in_doubt_when_united(lab: Lab) -> None:
    """The older person was answered; the younger one's call is in doubt when both are united."""
    lab.load([contact(1, linkedin_url="")])
    lab.load([contact(1, contact_id="other", email="", lance_person_id="")])
    profile = {"values": [people.profile(1)]}
    lab.sandbox.faults({"provider": "agntdata", "kind": "charge_then_drop", "match": profile})
    lab.plan()
    lab.drain(chain=["agntdata"])
    assert lab.states("agntdata") == {"settled": 1, "in_doubt": 1}
    lab.load([contact(1, updated_at=LATER)])
    assert lab.one("select count(*) from enrichment.persons where merged_into is null") == 1


def _write_off(lab: Lab) -> None:
    lab.overdue("write_off_at", "agntdata")
    lab.sweep()
    assert lab.states("agntdata") == {"settled": 1, "written_off": 1}


def _searches(lab: Lab) -> int:
    live = "select count(*) from enrichment.enrichments where state in ('open', 'pending')"
    return int(lab.one(live))


def test_a_search_for_a_merged_person_ends_where_the_survivor_was_answered_meanwhile(
    open_lab: Open,
) -> None:
    lab = open_lab(ONE_BY_ONE)
    _in_doubt_when_united(lab)
    _write_off(lab)
    lab.plan()
    lab.drain()
    assert _searches(lab) == 0
    assert lab.sent()["lance"] == 0
    lab.assert_books()


def test_a_search_for_a_merged_person_is_not_left_open_when_no_row_waits_for_it(
    open_lab: Open,
) -> None:
    lab = open_lab(ONE_BY_ONE)
    _in_doubt_when_united(lab)
    lab.sql("update enrichment.plan_rows set state = 'done', closed_at = clock_timestamp()")
    _write_off(lab)
    lab.plan()
    lab.drain()
    assert _searches(lab) == 0
    assert lab.sent()["lance"] == 0


def test_a_search_for_a_merged_person_goes_on_for_a_survivor_whom_nothing_has_answered(
    open_lab: Open,
) -> None:
    lab = open_lab(ONE_BY_ONE, {"agntdata.record": 0.0})
    lab.load([contact(1, linkedin_url="")])
    lab.load([contact(1, contact_id="other", email="", lance_person_id="")])
    lab.sandbox.faults({"provider": "agntdata", "kind": "charge_then_drop"})
    lab.plan()
    # The older person's turn has not come: its batch is drained by nobody here.
    lab.sql(
        "update enrichment.plan_rows set batch = 1 "
        "where person_id = (select min(person_id) from enrichment.persons)"
    )
    lab.drain(chain=["agntdata"])
    assert lab.states("agntdata") == {"in_doubt": 1}
    lab.load([contact(1, updated_at=LATER)])
    lab.overdue("write_off_at", "agntdata")
    lab.sweep()
    lab.plan()
    lab.drain()
    assert _searches(lab) == 0
    assert lab.sent()["lance"] == 1


def test_what_a_provider_told_of_a_merged_person_counts_as_sent_to_it(open_lab: Open) -> None:
    lab = open_lab(
        {**only({"phone": ["prospeo"]}), "providers": {"prospeo": {"batch_size": 1}}},
        {"prospeo.mobile": 0.0},
    )
    lab.load([contact(1, linkedin_url="")])
    lab.load([contact(1, contact_id="other", email="", lance_person_id="")])
    lab.sandbox.faults({"provider": "prospeo", "kind": "charge_then_drop", "probability": 1})
    lab.plan()
    lab.drain()
    assert lab.states("prospeo") == {"in_doubt": 2}
    lab.load([contact(1, updated_at=LATER)])
    lab.sandbox.clear_faults()
    lab.overdue("lease_until", "prospeo")
    lab.sweep()
    assert lab.states("prospeo") == {"settled": 2}
    # The provider's own id is kept with the survivor, and both missed phones were asked for by it.
    assert lab.sql(
        "select l.verdict, count(*) from enrichment.charge_lines as l "
        "join enrichment.provider_identities as i using (provider) "
        "where l.product = 'mobile' "
        "and enrichment.identity_hash('prospeo_id', i.external_id) = any(l.sent_identity) "
        "group by l.verdict"
    ) == [("not_found", 2)]
    lab.assert_books()
