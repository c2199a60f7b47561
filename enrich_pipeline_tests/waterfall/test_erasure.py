"""Erasing while the engine is at work: nothing more is sent, everything sent is paid for."""

import pytest

from enrich_pipeline.cli import main
from enrich_pipeline.domain.policy import SourcePolicy
from enrich_pipeline.intake.source import sync_source
from enrich_pipeline.store import erasure
from enrich_pipeline.store.tombstones import Identifier
from enrich_pipeline.waterfall import send
from enrich_pipeline.waterfall.claim import Cursor, claim
from enrich_pipeline.waterfall.engine import Partition

from ..sandbox import people
from ..support.lab import Lab, contact, contacts, only, sent_alone
from .conftest import Open


def erase(lab: Lab, *contact_ids: str) -> erasure.Receipt:
    identifiers: list[Identifier] = [("contact", contact_id) for contact_id in contact_ids]
    with lab.engine.begin() as conn:
        persons = erasure.find(conn, identifiers)
        return erasure.erase(conn, persons, identifiers, lab.now).receipt


@pytest.mark.parametrize(
    ("field", "provider"),
    [("work_email", "prospeo"), ("work_email", "lance"), ("personal_email", "pronto")],
)
def test_who_is_erased_between_claim_and_arm_is_not_sent_a_single_byte(
    open_lab: Open, field: str, provider: str
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
        assert erase(lab, "c0001").open_calls == 1
        sent = sent_alone(ctx, partition, claimed)
    assert sent.stopped_reason == "withdrawn"
    assert lab.sandbox.requests()[provider]["count"] == 0
    lab.drain()
    assert lab.sandbox.meter()[provider]["records"] == 2
    lab.assert_exact()


def test_a_call_in_doubt_is_not_read_again_once_one_of_its_persons_was_erased(
    open_lab: Open,
) -> None:
    lab = open_lab(only({"work_email": ["lance"]}))
    lab.sandbox.faults({"provider": "lance", "kind": "charge_then_drop"})
    lab.night(contacts(range(3)))
    assert lab.states("lance") == {"in_doubt": 1}
    erase(lab, "c0001")
    lab.overdue("lease_until", "lance")
    lab.sweep()
    lab.drain()
    assert lab.sent()["lance"] == 1
    assert lab.states("lance") == {"in_doubt": 1}
    lab.overdue("write_off_at", "lance")
    lab.drain()
    assert lab.states("lance") == {"written_off": 1}
    lab.assert_books()


def test_a_poisoned_call_is_bisected_without_who_was_erased(open_lab: Open) -> None:
    lab = open_lab(only({"work_email": ["prospeo"]}))
    lab.load(contacts(range(5)))
    lab.plan()
    partition = Partition(lab.today, 0)
    lab.sandbox.faults({"provider": "prospeo", "kind": "poison"})
    with lab.waterfall() as waterfall:
        waterfall.reuse(partition)
        with lab.context() as ctx:
            (claimed,) = claim(
                ctx, partition, "prospeo", Cursor(), 1, receiver_ready=True, last_chance=True
            )
            settle = send.settle_stored
            with pytest.MonkeyPatch.context() as patch:

                def erased_meanwhile(*arguments: object) -> send.Sent:
                    erase(lab, "c0001")
                    return settle(*arguments)  # type: ignore[arg-type]

                patch.setattr(send, "settle_stored", erased_meanwhile)
                sent = sent_alone(ctx, partition, claimed)
    assert sum(one.persons for one in sent.successors) == 4
    lab.sweep()
    lab.assert_books()


def test_two_persons_under_one_address_are_not_erased_by_it(
    open_lab: Open, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lab = open_lab()
    shared = "shared.mailbox@copperfox1.com"
    lab.load([contact(1, email=shared), contact(2, email=shared), contact(3)])
    monkeypatch.chdir(lab.folder)
    url = lab.database.render_as_string(hide_password=False)
    monkeypatch.setenv("ENRICH_DATABASE_URL", url)
    assert main.run(("erase", "--email", shared, "--yes")) == 2
    assert "c0001" in capsys.readouterr().err
    assert main.run(("erase", "--contact", "c0003")) == 1, "nobody confirmed it"
    assert lab.one("select count(*) from enrichment.contacts") == 3
    assert main.run(("erase", "--contact", "c0001", "--yes")) == 0
    # Whose address it is as well stays, and may be loaded again.
    summary = lab.load([contact(2, email=shared)])
    assert summary.unchanged == 1
    assert lab.sql("select contact_id from enrichment.contacts order by 1") == [
        ("c0002",), ("c0003",)
    ]  # fmt: skip
    assert main.run(("erase", "--contact", "c0001", "--yes")) == 0
    assert "nothing is left" in capsys.readouterr().out
    assert main.run(("erase", "--contact", "never-there", "--yes")) == 2


def test_rows_of_a_source_of_ones_own_are_read_and_left_out(open_lab: Open) -> None:
    lab = open_lab()
    lab.load(contacts(range(3)))
    lab.sql("create table public.theirs as select * from crm.contacts")
    theirs = SourcePolicy(relation="public.theirs", columns={})
    policy = lab.settings.policy.model_copy(update={"source": theirs})
    erase(lab, "c0001")
    lab.sql("update public.theirs set contact_id = 'renamed' where contact_id = 'c0001'")
    for _ in range(2):
        summary = sync_source(lab.engine, policy, lab.now)
        assert summary.rejected == {"erased": 1}
    assert lab.one("select count(*) from enrichment.contacts") == 2
    assert lab.one("select count(*) from enrichment.persons where erased_at is not null") == 1


def test_what_others_showed_of_the_person_while_they_were_joined_goes(open_lab: Open) -> None:
    lab = open_lab()
    lab.load([contact(1, phone="+4930123456"), contact(1, contact_id="twin", email="")])
    with lab.engine.begin() as conn:
        from enrich_pipeline.store import merge, persons

        persons.split(conn, ["twin"], lab.now)
        merge.remerge(conn, lab.settings.policy, ["twin", "c0001"], lab.now)
    erase(lab, "c0001")
    assert (
        lab.one(
            "select count(*) from analytics.dim_contact_history where work_email = :e",
            e=people.email(1),
        )
        == 0
    )
    assert lab.sql("select contact_id from analytics.dim_contacts") == [("twin",)]
