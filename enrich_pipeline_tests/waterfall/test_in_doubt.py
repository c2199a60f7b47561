"""What is in doubt is listed, and settled by evidence that the ledger keeps; reconciliation."""

import httpx
import pytest

from enrich_pipeline.domain.errors import EnrichError
from enrich_pipeline.waterfall import in_doubt

from ..sandbox import people
from ..support.lab import Lab, contacts, only
from ..support.sandbox import AUTH
from .conftest import Open

AGNTDATA = only({"work_email": ["agntdata", "pronto"]})


def doubts(lab: Lab) -> list[in_doubt.Doubt]:
    with lab.engine.connect() as conn:
        return in_doubt.list_doubts(conn)


def resolve(
    lab: Lab, call_id: int, resolution: in_doubt.Resolution, micro: int | None = None
) -> None:
    with lab.context() as ctx:
        in_doubt.resolve(ctx, call_id, resolution, "statement of 12 March, line 7", micro)


def test_what_is_in_doubt_is_listed_with_its_amount_and_its_horizon(open_lab: Open) -> None:
    lab = open_lab(AGNTDATA)
    lab.sandbox.faults({"provider": "agntdata", "kind": "charge_then_drop"})
    lab.night(contacts(range(5)))
    (doubt,) = doubts(lab)
    assert (doubt.provider, doubt.persons, doubt.products) == ("agntdata", 5, ("record",))
    assert doubt.amount_micro == 5_000_000
    assert doubt.written_off_at is not None
    assert round((doubt.written_off_at - doubt.since).total_seconds() / 3600) == 24


def test_evidence_of_no_charge_gives_the_hold_back_and_the_fields_are_bought(
    open_lab: Open,
) -> None:
    lab = open_lab(AGNTDATA)
    lab.sandbox.faults({"provider": "agntdata", "kind": "drop_before"})
    lab.night(contacts(range(5)))
    (doubt,) = doubts(lab)
    resolve(lab, doubt.call_id, "not_charged")
    assert doubts(lab) == []
    assert lab.account("agntdata")["in_doubt"] == 0
    assert lab.sql(
        "select entry_type, evidence from enrichment.ledger_entries where evidence is not null"
    ) == [("doubt_release", "statement of 12 March, line 7")]
    lab.drain()
    assert lab.outcomes("agntdata") == {"error": 5, "found": 5}
    lab.assert_exact()
    lab.assert_polite()


@pytest.mark.parametrize("micro", [None, 5_000_000])
def test_evidence_of_a_charge_posts_it_and_the_fields_move_on(
    open_lab: Open, micro: int | None
) -> None:
    lab = open_lab(AGNTDATA)
    lab.sandbox.faults({"provider": "agntdata", "kind": "charge_then_drop"})
    lab.night(contacts(range(5)))
    (doubt,) = doubts(lab)
    resolve(lab, doubt.call_id, "charged", micro)
    lab.drain()
    assert lab.sent()["agntdata"] == 1
    assert lab.outcomes("pronto") == {"found": 5}
    assert lab.sql(
        "select entry_type, cost_source, evidence from enrichment.ledger_entries "
        "where evidence is not null"
    ) == [("doubt_post", "operator", "statement of 12 March, line 7")]
    lab.assert_exact()


def test_what_was_charged_and_lost_is_not_bought_again_there(open_lab: Open) -> None:
    lab = open_lab(only({"work_email": ["agntdata"]}))
    lab.sandbox.faults({"provider": "agntdata", "kind": "charge_then_drop"})
    lab.night(contacts(range(5)))
    (doubt,) = doubts(lab)
    resolve(lab, doubt.call_id, "charged")
    lab.plan(lab.day(1))
    lab.drain(lab.day(1))
    assert lab.sent()["agntdata"] == 1
    lab.assert_exact()


def test_a_field_not_in_doubt_goes_on_and_the_answer_it_buys_serves_the_others(
    open_lab: Open,
) -> None:
    own = only({"profile": ["prospeo", "agntdata"], "personal_email": ["agntdata"]})
    lab = open_lab(own, {"prospeo.match": 0.0, "agntdata.personal_email": 1.0})
    lab.sandbox.faults({"provider": "prospeo", "kind": "drop_before"})
    lab.night(contacts(range(5), personal_email_consent="true"))
    (doubt,) = doubts(lab)
    assert doubt.provider == "prospeo"
    assert lab.outcomes("agntdata") == {"found": 5}, "personal e-mails"
    resolve(lab, doubt.call_id, "not_charged")
    lab.drain()
    assert lab.outcomes("agntdata") == {"found": 5, "reused": 5}, "and profiles"
    assert lab.sent()["agntdata"] == 1
    lab.assert_exact()


def test_only_a_call_in_doubt_is_resolved_and_never_above_its_hold(open_lab: Open) -> None:
    lab = open_lab(AGNTDATA)
    lab.sandbox.faults({"provider": "agntdata", "kind": "charge_then_drop"})
    lab.night(contacts(range(5)))
    (doubt,) = doubts(lab)
    with pytest.raises(EnrichError, match="holds 5000000"):
        resolve(lab, doubt.call_id, "charged", 5_000_001)
    with pytest.raises(EnrichError, match="unknown"):
        resolve(lab, doubt.call_id + 1000, "charged")
    resolve(lab, doubt.call_id, "charged")
    with pytest.raises(EnrichError, match="not in doubt"):
        resolve(lab, doubt.call_id, "not_charged")
    lab.assert_exact()


def test_reconciliation_says_equal_explained_and_unexplained(open_lab: Open) -> None:
    lab = open_lab(
        only({"work_email": ["agntdata"], "phone": ["lance"], "profile": ["prospeo", "agntdata"]})
    )
    lab.sandbox.faults({"provider": "agntdata", "kind": "charge_then_drop"})
    lab.night(contacts(range(5)))
    rows = lab.reconcile()
    assert (rows["lance"].difference_micro, rows["lance"].explanation) == (0, "equal")
    assert rows["prospeo"].charged_micro == rows["prospeo"].posted_micro == 5_000_000
    assert rows["agntdata"].difference_micro == rows["agntdata"].in_doubt_micro == 5_000_000
    assert rows["agntdata"].is_explained
    assert (rows["apollo"].charged_micro, rows["apollo"].is_explained) == (0, True)

    # Somebody else spends on the same account.
    name, value = AUTH["prospeo"]
    httpx.post(
        f"{lab.sandbox.base_url('prospeo')}/bulk-enrich-person",
        json={"enrich_mobile": False, "data": [people.prospeo(500)]},
        headers={name: value},
        trust_env=False,
    ).raise_for_status()
    row = lab.reconcile()["prospeo"]
    assert (row.difference_micro, row.is_explained) == (1_000_000, False)


def test_a_balance_that_was_topped_up_is_compared_from_there_on(open_lab: Open) -> None:
    lab = open_lab(only({"profile": ["prospeo"]}))
    lab.night(contacts(range(5)))
    lab.sandbox.balance(2_000_000_000_000_000, "prospeo")
    row = lab.reconcile()["prospeo"]
    assert (row.charged_micro, row.posted_micro, row.explanation) == (0, 0, "equal")
    lab.night(contacts(range(5, 8)))
    row = lab.reconcile()["prospeo"]
    assert (row.charged_micro, row.difference_micro, row.is_explained) == (3_000_000, 0, True)
