"""Scenes in which a process or the server dies, or a process sleeps, at one step of the protocol.

What is durable at that step, and so what must follow, is the protocol's table of crash points.
"""

import time

from enrich_pipeline.store import person_inputs, switch

from ..support.lab import Lab, contact, contacts
from . import checks, dbcrash, schedules
from .stage import Stage, alone

_CREW = 2
"""Persons per call."""
LATER = "2026-02-01T00:00:00Z"

_CRASH_POINTS = {
    "claiming": (0, 0),
    "claimed": (0, 0),
    "arming": (0, 0),
    "armed": (0, 1),
    "answered": (1, 1),
    "stored": (1, 0),
    "settling": (1, 0),
    "settled": (1, 0),
}
"""Label -> (requests that left before it, calls that are in doubt because of it)."""


def each_crash_point_costs_what_the_table_says(stage: Stage) -> None:
    _crash_points(stage, "agntdata", asks_again=False)


def a_free_re_read_follows_every_doubt_and_nothing_else(stage: Stage) -> None:
    _crash_points(stage, "prospeo", asks_again=True)


def _crash_points(stage: Stage, provider: str, *, asks_again: bool) -> None:
    own = alone(provider, refresh={"batches": len(_CRASH_POINTS)})
    with stage.lab(own) as lab:
        lab.load(contacts(range(_CREW * len(_CRASH_POINTS))))
        lab.plan()
        lab.sql("update enrichment.plan_rows set batch = right(contact_id, 4)::int / :n", n=_CREW)
        for batch, (label, (left, doubts)) in enumerate(_CRASH_POINTS.items()):
            sent, doubted = lab.sent()[provider], checks.doubts(lab.engine)
            with stage.struck(lab, label, "kill", batch):
                pass
            stage.blame(f"killed at {label}", checks.ledger(lab.engine))
            stage.blame(f"killed at {label}", checks.unrecorded(lab.engine, lab.sandbox))
            stage.expect(f"requests, killed at {label}", lab.sent()[provider] - sent, left)
            stage.drain(lab, batch)
            schedules.advance(lab, "leases")
            stage.drain(lab, batch)
            # What never left is sent now; what is in doubt only where a repetition is free.
            wanted = left + 1 if doubts and asks_again else left if doubts else 1
            stage.expect(f"in doubt after {label}", checks.doubts(lab.engine) - doubted, doubts)
            stage.expect(f"requests in all, {label}", lab.sent()[provider] - sent, wanted)
        stage.end(lab, range(len(_CRASH_POINTS)))


def _one_call(lab: Lab, **changes: str) -> None:
    lab.load(contacts(range(_CREW), **changes))
    lab.plan()


def who_slept_past_its_lease_finds_its_call_given_back(stage: Stage) -> None:
    with stage.lab(alone("agntdata")) as lab:
        _one_call(lab)
        with stage.struck(lab, "claimed", "stop") as sleeper:
            schedules.advance(lab, "leases")
            stage.drain(lab)
            stage.expect("requests while it sleeps", lab.sent()["agntdata"], 1)
            stage.finish(sleeper)
        stage.expect("requests", lab.sent()["agntdata"], 1)
        stage.end(lab)


def who_slept_after_arming_still_settles_its_own_doubt(stage: Stage) -> None:
    with stage.lab(alone("agntdata")) as lab:
        _one_call(lab)
        with stage.struck(lab, "armed", "stop") as sleeper:
            schedules.advance(lab, "leases")
            stage.drain(lab)
            stage.expect("in doubt while it sleeps", checks.doubts(lab.engine), 1)
            stage.finish(sleeper)
        stage.expect("requests", lab.sent()["agntdata"], 1)
        stage.expect("spent", lab.account("agntdata")["spent"], lab.charged()["agntdata"])
        stage.end(lab)


def a_clock_that_runs_ahead_takes_nothing_from_a_living_process(stage: Stage) -> None:
    with stage.lab(alone("agntdata")) as lab:
        _one_call(lab)
        with stage.struck(lab, "armed", "stop") as sleeper, stage.worker(lab) as hasty:
            hasty.give(stage.job(lab, clock_ahead_seconds=3600))
            stage.finish(hasty)
            stage.expect("in doubt", checks.doubts(lab.engine), 0)
            stage.finish(sleeper)
        stage.expect("requests", lab.sent()["agntdata"], 1)
        stage.end(lab)


def who_slept_past_its_deadline_sends_nothing(stage: Stage) -> None:
    own = alone("agntdata")
    own["providers"]["agntdata"] |= {"timeout_seconds": 2, "connect_timeout_seconds": 0.5}
    with stage.lab(own) as lab:
        _one_call(lab)
        with stage.struck(lab, "armed", "stop") as sleeper:
            schedules.advance(lab, "leases")
            lab.sweep()
            time.sleep(2.6)
            stage.finish(sleeper)
        # It gives its own doubt back, as nothing has left, and the call is made anew.
        stage.expect("requests", lab.sent()["agntdata"], 1)
        stage.expect("sends", lab.one("select max(call_id) from enrichment.calls"), 2)
        stage.end(lab)


def who_has_claimed_when_operators_pause_gives_back(stage: Stage) -> None:
    with stage.lab(alone("agntdata")) as lab:
        _one_call(lab)
        with stage.struck(lab, "claimed", "stop") as sleeper:
            with lab.engine.begin() as conn:
                switch.pause(conn, "a scene")
            stage.finish(sleeper)
        stage.expect("requests", lab.sent()["agntdata"], 0)
        stage.expect("held", lab.account("agntdata")["held"], 0)


def who_must_not_be_enriched_between_claim_and_arm_is_not_sent(stage: Stage) -> None:
    with stage.lab(alone("agntdata")) as lab:
        _one_call(lab)
        with stage.struck(lab, "claimed", "stop") as sleeper:
            _withdraw(lab, "do_not_enrich = true")
            stage.finish(sleeper)
        stage.expect("requests", lab.sent()["agntdata"], 0)
        stage.end(lab)


def consent_withdrawn_before_the_reply_is_kept_discards_the_value_only(stage: Stage) -> None:
    with stage.lab(alone("agntdata", "personal_email")) as lab:
        _one_call(lab, personal_email_consent="true")
        with stage.struck(lab, "answered", "stop") as sleeper:
            _withdraw(lab, "personal_email_consent = false")
            stage.finish(sleeper)
        stage.expect("spent", lab.account("agntdata")["spent"], lab.charged()["agntdata"])
        stage.expect(
            "personal addresses kept",
            lab.one(
                "select count(*) from enrichment.observations where attribute = 'personal_email'"
            ),
            0,
        )
        stage.end(lab)


def _withdraw(lab: Lab, change: str) -> None:
    lab.sql(f"update enrichment.contacts set {change}")  # noqa: S608
    persons = [int(p) for (p,) in lab.sql("select person_id from enrichment.persons")]
    with lab.engine.begin() as conn:
        person_inputs.refresh_inputs(conn, persons)


def what_was_held_before_midnight_is_settled_in_the_budget_of_that_day(stage: Stage) -> None:
    with stage.lab(alone("agntdata")) as lab:
        _one_call(lab)
        with stage.struck(lab, "armed", "stop") as sleeper:
            lab.sql("update enrichment.calls set spend_date = spend_date - 1")
            lab.sql("update enrichment.budgets set day = day - 1")
            stage.finish(sleeper)
        stage.expect(
            "budgets (days ago, held, spent)",
            lab.sql(
                "select :today - day, held, spent > 0 from enrichment.budgets order by scope",
                today=lab.today,
            ),
            [(1, 0, True), (1, 0, True)],
        )
        stage.end(lab)


def a_server_that_dies_right_after_an_answer_has_kept_the_intent(stage: Stage) -> None:
    with stage.lab(alone("agntdata")) as lab:
        _one_call(lab)
        with stage.struck(lab, "answered", "stop") as sleeper:
            dbcrash.restart(stage.ground)
            lab.engine.dispose()
            sleeper.kill()
        stage.blame("after the restart", checks.unrecorded(lab.engine, lab.sandbox))
        stage.drain(lab)
        stage.expect("in doubt", checks.doubts(lab.engine), 1)
        stage.expect("requests", lab.sent()["agntdata"], 1)
        stage.end(lab)


def what_a_merged_person_waits_for_is_not_bought_for_the_survivor(stage: Stage) -> None:
    with stage.lab(alone("agntdata", refresh={"batches": 2})) as lab:
        by_mail = contact(1, linkedin_url="")
        by_profile = contact(1, contact_id="other", email="", lance_person_id="")
        lab.load([by_mail])
        lab.load([by_profile])
        lab.plan()
        lab.sql("update enrichment.plan_rows set batch = (contact_id <> 'other')::int")
        # Opened before the other is bought, the survivor's field comes to the provider after it.
        with stage.struck(lab, "opened", "kill", batch=1):
            lab.sandbox.faults({"provider": "agntdata", "kind": "charge_then_drop"})
            stage.drain(lab, 0)
            lab.load([contact(1, updated_at=LATER)])
        stage.expect("requests for the first", lab.sent()["agntdata"], 1)
        stage.drain(lab, 1)
        stage.expect("requests", lab.sent()["agntdata"], 1)
        stage.end(lab, (0, 1))
