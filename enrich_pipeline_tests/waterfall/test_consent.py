"""Consent and suppression: checked when claimed, when armed, and when the result is stored."""

import pytest

from enrich_pipeline.domain.enrichment import Attribute, ValueStatus
from enrich_pipeline.providers.protocol import Answer, Disposition, FoundValue, Reply, Verdict
from enrich_pipeline.store import calls, decisions
from enrich_pipeline.store.work import Memory
from enrich_pipeline.waterfall.claim import Cursor, claim, with_larger_answers
from enrich_pipeline.waterfall.engine import Partition
from enrich_pipeline.waterfall.settle import settle

from ..support.lab import contact, contacts, only, sent_alone
from .conftest import Open

LATER = "2026-02-01T00:00:00Z"
STILL_LATER = "2026-02-01T01:00:00Z"


@pytest.mark.parametrize(
    ("field", "provider", "change"),
    [
        ("work_email", "prospeo", {"do_not_enrich": "true"}),
        ("personal_email", "agntdata", {"personal_email_consent": "false"}),
        ("personal_email", "pronto", {"personal_email_consent": "false"}),
        ("personal_email", "apollo", {"personal_email_consent": "false"}),
    ],
)
def test_who_withdraws_between_claim_and_arm_is_not_sent_a_single_byte(
    open_lab: Open, field: str, provider: str, change: dict[str, str]
) -> None:
    lab = open_lab(only({field: [provider]}))
    lab.load(contacts(range(3), personal_email_consent="true"))
    lab.plan()
    partition = Partition(lab.today, 0)
    with lab.waterfall() as waterfall:
        waterfall.reuse(partition)
    with lab.context() as ctx:
        (claimed,) = claim(
            ctx, partition, provider, Cursor(), 1, receiver_ready=True, last_chance=True
        )
        lab.load([contact(1, updated_at=LATER, personal_email_consent="true") | change])
        sent = sent_alone(ctx, partition, claimed)
    assert sent.stopped_reason == "withdrawn"
    assert lab.sandbox.requests()[provider]["count"] == 0
    assert lab.states(provider) == {"released": 1}
    assert lab.account(provider)["held"] == 0
    lab.drain()
    assert lab.sandbox.meter()[provider]["records"] == 2
    lab.assert_exact()


def test_consent_withdrawn_while_pending_posts_the_cost_and_discards_the_value(
    open_lab: Open,
) -> None:
    lab = open_lab(
        {**only({"personal_email": ["pronto"]}), "providers": {"pronto": {"await_seconds": 0.05}}}
    )
    lab.sandbox.faults(
        {"provider": "pronto", "kind": "late_webhook", "seconds": 0.8, "probability": 1}
    )
    lab.night(contacts(range(2), personal_email_consent="true"))
    assert lab.account("pronto")["held"] == 20_000_000
    lab.load([contact(1, updated_at=LATER, personal_email_consent="false")])
    lab.sandbox.wait_for_deliveries()
    lab.drain()
    assert lab.account("pronto")["spent"] == 20_000_000
    assert lab.sql(
        "select c.contact_id, count(o.value), max(t.outcome) from enrichment.contacts as c "
        "left join enrichment.observations as o using (person_id) "
        "join enrichment.attempts as t on t.person_id = c.person_id group by 1 order by 1"
    ) == [("c0000", 1, "found"), ("c0001", 0, "not_found")]
    lab.assert_exact()


def test_who_is_suppressed_after_the_plan_is_blocked_with_the_reason(open_lab: Open) -> None:
    lab = open_lab(only({"work_email": ["prospeo"]}))
    lab.load(contacts(range(3)))
    lab.plan()
    lab.load([contact(2, updated_at=LATER, do_not_enrich="true")])
    stages = lab.drain()
    assert stages["reuse"].skipped == {"suppressed": 1}
    assert lab.sandbox.meter()["prospeo"]["records"] == 2
    assert lab.sql("select provider, reason from enrichment.skips") == [("*", "do_not_enrich")]


def test_whose_rows_were_closed_while_blocked_is_not_left_open(open_lab: Open) -> None:
    """Crash campaign, seed 5342: blocked for a moment, and in that moment rows were closed."""
    lab = open_lab(
        {
            **only({"work_email": ["pronto", "agntdata"]}),
            "providers": {"pronto": {"await_seconds": 0.05}},
        },
        {"pronto.email": 0.0},
    )
    slow = {"provider": "pronto", "kind": "late_webhook", "seconds": 1.5, "probability": 1}
    lab.sandbox.faults(slow)
    lab.load(contacts(range(2)))
    lab.plan()
    lab.drain()
    assert lab.one("select count(*) from enrichment.enrichments where state = 'pending'") == 2
    lab.load([contact(n, updated_at=LATER, do_not_enrich="true") for n in range(2)])
    assert lab.drain()["reuse"].skipped == {"suppressed": 2}
    lab.load([contact(n, updated_at=STILL_LATER, do_not_enrich="false") for n in range(2)])
    lab.sandbox.wait_for_deliveries()
    lab.drain()
    assert lab.sql("select distinct state from enrichment.enrichments") == [("expired",)]
    assert lab.sandbox.requests()["agntdata"]["count"] == 0


def test_consent_withdrawn_after_the_plan_skips_the_provider_with_the_reason(
    open_lab: Open,
) -> None:
    lab = open_lab(only({"personal_email": ["pronto", "agntdata"]}))
    lab.load(contacts(range(2), personal_email_consent="true"))
    lab.plan()
    lab.load([contact(1, updated_at=LATER, personal_email_consent="false")])
    lab.drain()
    assert lab.sql("select provider, reason from enrichment.skips order by 1") == [
        ("agntdata", "no_consent"),
        ("pronto", "no_consent"),
    ]
    assert lab.sandbox.meter()["pronto"]["records"] == 1
    lab.assert_exact()


def test_what_was_bought_with_consent_is_not_bought_again_without(open_lab: Open) -> None:
    lab = open_lab(only({"work_email": ["agntdata"], "personal_email": ["agntdata"]}))
    bought = Memory(7, "posted", "found", None, None, frozenset(), 0)
    memory = {("record", "personal_email"): bought}
    with lab.context() as ctx:
        without = with_larger_answers(ctx, "agntdata", False, memory)
        assert without[("record", "")] is bought
        newer = memory | {("record", ""): Memory(8, "posted", "found", None, None, frozenset(), 0)}
        assert with_larger_answers(ctx, "agntdata", False, newer)[("record", "")].line_id == 8
        assert with_larger_answers(ctx, "agntdata", True, memory) == memory


def test_whose_bought_private_address_is_on_the_list_is_blocked_at_once(open_lab: Open) -> None:
    lab = open_lab(only({"personal_email": ["pronto"]}))
    lab.load([contact(1, personal_email_consent="true")])
    lab.plan()
    with lab.context() as ctx:
        with lab.waterfall() as waterfall:
            waterfall.reuse(Partition(lab.today, 0))
        (claimed,) = claim(
            ctx,
            Partition(lab.today, 0),
            "pronto",
            Cursor(),
            1,
            receiver_ready=True,
            last_chance=True,
        )
        # Whoever objected is known by this address alone, and nobody knows yet whose it is.
        with ctx.engine.begin() as conn:
            decisions.suppress(conn, [("email", "jane@private.org")], "objection")
            stored = calls.load(conn, claimed.call_id, lock=True)
            found = FoundValue(Attribute.PERSONAL_EMAIL, "jane@private.org", ValueStatus.VERIFIED)
            (item,) = stored.items
            answer = Answer(item.key, "personal_email", Verdict.FOUND, (found,))
            settle(conn, ctx, stored, Reply(Disposition.ANSWERED, (answer,)), "submit")
    assert lab.sql("select is_blocked, blocked_reason from enrichment.person_inputs") == [
        (True, "suppressed")
    ]
