"""The words of the model campaign: what providers say, and how it looks in their replies."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from enrich_pipeline.providers.protocol import HttpResponse

from ..sandbox import people

MICRO = 1_000_000
PRICES: Mapping[str, Mapping[str, int]] = {
    "prospeo": {"match": 1, "mobile": 9},
    "agntdata": {"record": 1},
    "pronto": {"email": 1, "phone": 10, "personal_email": 10},
    "lance": {"emails": 1, "phones": 10},
    "apollo": {"match": 1, "mobile": 8},
}
"""In credits; a credit is a dollar in this campaign, so that dollars need no rounding."""

Fate = str
FATES = ("found", "weak", "miss", "empty", "stranger", "failed")
"""What a provider has of a person: accepted values, unaccepted ones, none, a match without any,
somebody else's, or only a failure of its own."""

Outcome = str
OUTCOMES = (
    "replies", "silent_about_one", "states_no_cost", "charges_more", "drops_reply", "never_arrives",
    "unsent", "garbles", "garbles_unpaid", "throttled", "transient", "no_credits", "unauthorized",
    "invalid",
)  # fmt: skip
"""What becomes of one exchange."""
REFUSALS = frozenset({"throttled", "transient", "no_credits", "unauthorized", "invalid"})

Place = tuple[str, str]
"""(item key, product)."""


@dataclass(frozen=True, slots=True)
class Word:
    """What a provider said of one product of one person.

    `values`: field -> whether it is good enough to be accepted. `is_charged` by its documents, were
    it the first to ask. `subject`: its id of the person. `told`: kinds of identifiers it reported.
    """

    verdict: str
    values: Mapping[str, bool] = field(default_factory=dict)
    is_charged: bool = False
    is_late: bool = False
    """Work that was done before this call asked for it."""
    subject: str | None = None
    told: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Said:
    """One reply, delivery or poll answer, as its provider means it."""

    kind: str
    words: Mapping[Place, Word] = field(default_factory=dict)
    is_final: bool = False
    cost: int | None = None
    has_job: bool = False


@dataclass(slots=True)
class Job:
    """Work that a provider took on and has not finished."""

    call_id: int
    provider: str
    product: str
    keys: tuple[str, ...]
    token: str | None
    results: dict[str, Fate] = field(default_factory=dict)

    @property
    def open_keys(self) -> list[str]:
        return [key for key in self.keys if key not in self.results]


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook that is on its way."""

    call_id: int
    provider: str
    token: str
    body: bytes
    said: Said


def human(key: str) -> int:
    """Whom an item is about: the fifth person is the fourth one's other contact."""
    return min(int(key[1:]) - 1, 3)


def address(key: str, fate: Fate) -> str:
    return "otto@quittenbaum.com" if fate == "stranger" else people.email(human(key))


def word_of(
    fate: Fate,
    values: Mapping[str, bool],
    subject: str | None,
    *,
    is_charged: bool = True,
    is_late: bool = False,
    told: frozenset[str] = frozenset(),
) -> Word:
    """A match: with values it is found, or somebody else's; without any it is a paid miss."""
    if not values:
        return Word("not_found", {}, is_charged, is_late, subject)
    verdict = "other_person" if fate == "stranger" else "found"
    kinds = told | ({"email"} if "work_email" in values else frozenset())
    return Word(verdict, values, True, is_late, subject, kinds)


def name_of(key: str, fate: Fate) -> dict[str, str]:
    if fate == "stranger":
        return {"first_name": "Otto", "last_name": "Quittenbaum"}
    return {"first_name": people.first(human(key)), "last_name": people.last(human(key))}


def subject_of(provider: str, key: str, fate: Fate) -> str:
    return f"{provider}{human(key)}{'other' if fate == 'stranger' else ''}"


def phone_of(number: int) -> str:
    return f"+4930901820{number:02d}"


_REFUSED: Mapping[tuple[str, str], tuple[int, dict[str, Any]]] = {
    ("prospeo", "throttled"): (429, {"error": True, "error_code": "RATE_LIMITED"}),
    ("prospeo", "transient"): (429, {"message": "slow down"}),
    ("prospeo", "no_credits"): (400, {"error": True, "error_code": "INSUFFICIENT_CREDITS"}),
    ("prospeo", "unauthorized"): (401, {"error": True, "error_code": "INVALID_API_KEY"}),
    ("prospeo", "invalid"): (400, {"error": True, "error_code": "INVALID_REQUEST"}),
    ("agntdata", "throttled"): (429, {"success": False, "error": {"code": "RATE_LIMITED"}}),
    # The only one whose documents call its own failures free of charge.
    ("agntdata", "transient"): (500, {"success": False, "error": {"code": "INTERNAL_ERROR"}}),
    ("agntdata", "no_credits"):
        (402, {"success": False, "error": {"code": "INSUFFICIENT_CREDITS"}}),
    ("agntdata", "unauthorized"): (401, {"success": False, "error": {"code": "UNAUTHORIZED"}}),
    ("agntdata", "invalid"): (400, {"success": False, "error": {"code": "VALIDATION_ERROR"}}),
    ("pronto", "throttled"): (429, {"error": "slow down"}),
    ("pronto", "transient"): (429, {"error": "slow down"}),
    ("pronto", "no_credits"): (422, {"error": "insufficient credits"}),
    ("pronto", "unauthorized"): (401, {"error": "who are you"}),
    ("pronto", "invalid"): (422, {"error": "firstname is invalid"}),
    ("lance", "throttled"): (429, {"message": "slow down"}),
    ("lance", "transient"): (429, {"message": "slow down"}),
    ("lance", "no_credits"): (402, {"code": "INSUFFICIENT_CREDITS", "message": "pay"}),
    ("lance", "unauthorized"): (401, {"code": "VALIDATION_ERROR", "message": "who are you"}),
    ("lance", "invalid"): (400, {"code": "VALIDATION_ERROR", "message": "which id"}),
    ("apollo", "throttled"): (429, {"message": "slow down"}),
    ("apollo", "transient"): (429, {"message": "slow down"}),
    ("apollo", "no_credits"): (402, {"error": "pay"}),
    ("apollo", "unauthorized"): (401, {"error": "who are you"}),
    ("apollo", "invalid"): (422, {"error_code": "UNKNOWN_ERROR"}),
}  # fmt: skip


def refusal_of(provider: str, outcome: str) -> HttpResponse:
    status, body = _REFUSED[provider, outcome]
    return HttpResponse(status, {}, json.dumps(body).encode())
