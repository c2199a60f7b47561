"""Every fault of the protocol's tables once, exactly: one process, one call, one thing goes wrong.

The other campaigns draw by lot and look whether all adds up. Here the script says what must have
left, what is in doubt and what is booked afterwards, so that a step taken in the wrong order shows
in the first round already.
"""

from collections.abc import Callable

from . import scene_answers, scene_crashes, scene_locks
from .figures import Figures, Scale, Ticker
from .ground import Ground
from .stage import Stage

SCENES: tuple[Callable[[Stage], None], ...] = (
    scene_crashes.each_crash_point_costs_what_the_table_says,
    scene_crashes.who_slept_past_its_lease_finds_its_call_given_back,
    scene_crashes.who_slept_after_arming_still_settles_its_own_doubt,
    scene_crashes.a_clock_that_runs_ahead_takes_nothing_from_a_living_process,
    scene_crashes.who_slept_past_its_deadline_sends_nothing,
    scene_crashes.who_has_claimed_when_operators_pause_gives_back,
    scene_crashes.who_must_not_be_enriched_between_claim_and_arm_is_not_sent,
    scene_crashes.consent_withdrawn_before_the_reply_is_kept_discards_the_value_only,
    scene_crashes.what_was_held_before_midnight_is_settled_in_the_budget_of_that_day,
    scene_crashes.a_server_that_dies_right_after_an_answer_has_kept_the_intent,
    scene_crashes.what_a_merged_person_waits_for_is_not_bought_for_the_survivor,
    scene_answers.a_lost_reply_is_in_doubt_and_never_asked_for_again,
    scene_answers.a_re_read_of_what_another_call_paid_for_costs_nothing,
    scene_answers.an_answer_about_somebody_else_is_paid_and_never_merged,
    scene_answers.who_is_asked_for_at_a_provider_is_not_asked_for_there_again,
    scene_answers.a_budget_shrinks_calls_and_never_fails_a_run,
    scene_answers.the_database_refuses_what_no_code_may_do,
    scene_answers.a_redirect_is_an_answer_and_leads_nowhere,
    scene_locks.two_settlements_of_the_same_persons_wait_for_each_other,
    scene_locks.a_claim_and_a_settlement_take_the_books_in_one_order,
    scene_locks.two_claims_of_the_same_fields_see_each_other,
    scene_crashes.a_free_re_read_follows_every_doubt_and_nothing_else,
)
_PEOPLE = 40


def run(scale: Scale, seed: int) -> Figures:
    """Each scene once, 20 times in the full form. Nothing is drawn: the seed is not used."""
    figures = Figures()
    total = scale.of(short=1, full=20) * len(SCENES)
    ticker = Ticker(figures, total, "scenes")
    with Ground(_PEOPLE) as ground:
        for number in range(total):
            scene, stage = SCENES[number % len(SCENES)], Stage(ground)
            try:
                scene(stage)
            except Exception as error:  # noqa: BLE001 - a step that fails is what is looked for
                said = f"{type(error).__name__}: {error}"
                stage.violations.append(said.splitlines()[0][:300])
            figures.blame(scene.__name__, stage.violations)
            figures.add("scenes")
            ticker.tick(number + 1)
    return figures
