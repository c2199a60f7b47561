"""Scenes in which two processes meet at the same rows, one of them asleep with its locks."""

from enrich_pipeline.store import ledger
from enrich_pipeline.waterfall.engine import Partition

from ..support.lab import contacts, only
from .stage import Stage, alone

_PERSONS = 4


def two_settlements_of_the_same_persons_wait_for_each_other(stage: Stage) -> None:
    own = only({"work_email": ["agntdata"], "phone": ["lance"]})
    halt = "FROM enrichment.persons WHERE person_id = ANY"
    with stage.lab(own) as lab:
        lab.load(contacts(range(_PERSONS)))
        lab.plan()
        with lab.waterfall() as waterfall:
            waterfall.reuse(Partition(lab.today, 0))
        # What one call lists first, the other lists last.
        lab.sql("update enrichment.enrichments set rank = 1000 - rank where field = 'phone'")
        with (
            # Both have swept: neither settles for the other.
            stage.struck(lab, "claimed", "stop", chain=("lance",)) as other,
            stage.struck(lab, "stored", "stop", chain=("agntdata",), halt_after=halt) as one,
        ):
            one.go_on()
            stage.await_stop(one)
            stage.await_block(lab, other)
            stage.finish(one)
            stage.finish(other)
        stage.end(lab)


def a_claim_and_a_settlement_take_the_books_in_one_order(stage: Stage) -> None:
    with stage.lab(alone("agntdata", refresh={"batches": 2})) as lab:
        lab.load(contacts(range(_PERSONS)))
        lab.plan()
        lab.sql("update enrichment.plan_rows set batch = right(contact_id, 1)::int % 2")
        halt = "FROM enrichment.budgets"
        with (
            # It has swept: it does not settle for the other.
            stage.struck(lab, "opened", "stop", batch=1, halt_after=halt) as claiming,
            stage.struck(lab, "stored", "stop", batch=0) as settling,
        ):
            claiming.go_on()
            stage.await_stop(claiming)
            stage.await_block(lab, settling)
            stage.finish(claiming)
            stage.finish(settling)
        stage.expect("requests", lab.sent()["agntdata"], 2)
        stage.end(lab, (0, 1))


def two_claims_of_the_same_fields_see_each_other(stage: Stage) -> None:
    with stage.lab(alone("agntdata")) as lab:
        lab.load(contacts(range(_PERSONS)))
        lab.plan()
        with lab.engine.begin() as conn:
            # The very first claim at a provider would keep all others waiting until it is over.
            ledger.open_accounts(conn, "agntdata")
        with stage.struck(lab, "opened", "stop") as late, stage.worker(lab) as first:
            # It has read what was bought before, and is about to buy.
            first.give(stage.job(lab, halt_after="AS failures"))
            stage.await_stop(first)
            stage.await_block(lab, late)
            stage.finish(first)
            stage.finish(late)
        stage.expect("requests", lab.sent()["agntdata"], 1)
        stage.end(lab)
