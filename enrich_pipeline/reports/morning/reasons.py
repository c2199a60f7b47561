"""The pipeline's words for why something was not done, in plain language, with what to do.

Words that are not here, of a provider of one's own say, are shown as they are.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

UNAVAILABLE: Final = "unavailable:"


@dataclass(frozen=True, slots=True)
class Reason:
    """`what_to_do` is empty where nothing is; `is_stuck`: it stays so until somebody acts."""

    words: str
    what_to_do: str = ""
    is_stuck: bool = False


_NOT_DONE: Final[Mapping[str, Reason]] = {
    "not_eligible": Reason("a datapoint that it needs is not known"),
    "no_consent": Reason("the person has not consented to a personal e-mail"),
    "suppressed": Reason("the person must not be enriched"),
    "do_not_enrich": Reason("the person must not be enriched"),
    "answered": Reason("answered lately, the answer still holds"),
    "known_miss": Reason("it did not have it lately"),
    "answer_lost": Reason("paid lately, the answer was lost"),
    "other_person": Reason("it answered lately about somebody else"),
    "filtered": Reason("it has it and an option, a price cap or a region withholds it"),
    "invalid_input": Reason("it refused what is known of the person"),
    "written_off": Reason("its last call was written off"),
    "failed_before": Reason("it failed three times for this person"),
    "failed_tonight": Reason("it failed this night, asked again in the next"),
    "asked_already": Reason("another run is asking"),
    "sibling_pending": Reason("a dearer answer of it that brings this one is still out"),
    "below_minimum": Reason("too few persons for its smallest call"),
    "not_sold": Reason("it does not sell this field"),
    "not_configured": Reason(
        "it needs a setting", "set providers.<name>.options for it, see defaults.yaml"
    ),
    "account_consent_missing": Reason(
        "the account has not confirmed consent to personal e-mails",
        "set its option account_consents_to_personal_email once it has",
    ),
    "budget": Reason("no budget was left", "it goes on the next day; or raise budget.night_usd"),
    "person_budget": Reason(
        "the budget of the person is used up", "it goes on later; or raise budget.person_usd"
    ),
    "paused": Reason("sending is paused", "enrich resume"),
}

_NO_CREDITS: Final = Reason("it is out of credits", "buy credits there", is_stuck=True)
_STOPPED: Final[Mapping[str, Reason]] = {
    "no_credits": _NO_CREDITS,
    "insufficient_credits": _NO_CREDITS,
    "unauthorized": Reason("it refuses the key", "check ENRICH_<PROVIDER>_API_KEY", is_stuck=True),
    "account_consent": Reason(
        "its terms are not accepted", "accept them in the account there", is_stuck=True
    ),
    "plan_limit": Reason("the limit of its plan is reached", "look at the plan", is_stuck=True),
    "refused": Reason("it refuses the account", "ask the provider why", is_stuck=True),
    "account_restricted": Reason(
        "it restricted the account", "ask the provider why", is_stuck=True
    ),
    "cost_above_hold": Reason("it charged more than was held", "enrich reconcile", is_stuck=True),
    "rate_limited": Reason("it asks to be left alone for a while"),
    "receiver_unreachable": Reason(
        "no receiver answers at ENRICH_WEBHOOK_PUBLIC_URL", "start enrich webhooks", is_stuck=True
    ),
}

_SET_ASIDE: Final[Mapping[str, Reason]] = {
    "unknown_token": Reason("under an address of no call: guessed, or very late"),
    "differs_from_first": Reason(
        "says something else than the first answer", "ask the provider which holds", is_stuck=True
    ),
    "no_line_of_this_call": Reason(
        "about somebody who was not asked for", "report it to the provider", is_stuck=True
    ),
    "not_understood": Reason(
        "not as documented", "report it: the provider may have changed", is_stuck=True
    ),
}


def not_done(reason: str) -> Reason:
    """Why a field was skipped or waits."""
    if reason.startswith(UNAVAILABLE):
        return stopped(reason.removeprefix(UNAVAILABLE))
    if twice := re.fullmatch(r"would_pay_(\w+)_twice", reason):
        return Reason(f"it would charge {_spoken(twice[1])} a second time")
    return _NOT_DONE.get(reason) or _STOPPED.get(reason) or Reason(_spoken(reason))


def stopped(reason: str) -> Reason:
    """Why a provider, or one of its products, is not asked at all for a while."""
    return _STOPPED.get(reason) or Reason(f"it keeps failing ({_spoken(reason)})")


def set_aside(reason: str) -> Reason:
    """Why a delivery had no effect."""
    return _SET_ASIDE.get(reason) or Reason(
        _spoken(reason), "report it to the provider", is_stuck=True
    )


def _spoken(word: str) -> str:
    return word.replace("_", " ")
