"""Scripted faults: what goes wrong, where, how often.

Doing it is the business of `serving`, `delivery` and the providers. `slow` and every other kind of
`AFTER` strike once the call was handled and charged; those of `BEFORE` charge nothing.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BEFORE = frozenset({"drop_before", "429", "status", "insufficient", "poison"})
AFTER = frozenset(
    {
        "charge_then_drop", "charge_then_status", "truncate", "cut_body", "html",
        "wrong_content_type", "slow", "unknown_identifier", "missing_identifier", "overcharge",
        "reorder",
    }
)  # fmt: skip
WEBHOOK = frozenset({"duplicate_webhook", "late_webhook", "lose_webhook"})
KINDS = BEFORE | AFTER | WEBHOOK


@dataclass(slots=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        provider: the provider, or "*" for all.
        kind: see the module's sets.
        times: how often it still happens; None without end.
        probability: of happening each time that it could.
        status: the HTTP status of kinds that answer with one.
        body: the JSON answered by `status` and `charge_then_status`; None: the provider's own.
        seconds: how long `slow` and `late_webhook` take; Retry-After of `429`.
        amount_micro: what `overcharge` adds.
        endpoint: only at this endpoint (see the request log for their names); "" at every
            endpoint that can be charged.
        min_records: only for calls of at least so many records.
        values: only for calls with a record that holds one of these strings.
        share: only for calls with a human of this fixed share of all.
    """

    provider: str
    kind: str
    times: int | None = 1
    probability: float = 1.0
    status: int = 0
    body: Any = None
    seconds: float = 1.0
    amount_micro: int = 5_000_000
    endpoint: str = ""
    min_records: int = 0
    values: frozenset[str] = frozenset()
    share: float = 0.0
    applied: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "provider": self.provider,
            "kind": self.kind,
            "times": self.times,
            "probability": self.probability,
            "applied": self.applied,
        }


@dataclass(frozen=True, slots=True)
class Occasion:
    """A moment at which a fault may strike."""

    provider: str
    endpoint: str
    is_billable: bool
    records: Sequence[Any] = ()
    humans: Callable[[], Sequence[int]] = tuple


class Faults:
    """The script: the first fault that fits an occasion strikes."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.reset()

    def reset(self) -> None:
        self.script: list[Fault] = []
        self._random = random.Random(self._seed)

    def add(self, fault: Fault) -> None:
        self.script.append(fault)

    def strike(self, occasion: Occasion, kinds: frozenset[str]) -> Fault | None:
        for fault in self.script:
            if fault.kind not in kinds or fault.times == 0:
                continue
            if not _fits(fault, occasion):
                continue
            if fault.probability < 1 and self._random.random() >= fault.probability:
                continue
            if fault.times is not None:
                fault.times -= 1
            fault.applied += 1
            return fault
        return None


def parse_fault(value: Mapping[str, Any]) -> Fault:
    """The fault that an admin request describes.

    Raises:
        ValueError: an unknown kind or key, or a value of the wrong type.
    """
    given = dict(value)
    match = given.pop("match", {}) or {}
    unknown = set(given) - {
        "provider", "kind", "times", "probability", "status", "body", "seconds", "amount_micro",
    }  # fmt: skip
    unknown |= set(match) - {"endpoint", "min_records", "values", "share"}
    if unknown:
        raise ValueError(f"unknown keys: {', '.join(sorted(unknown))}")
    if given.get("kind") not in KINDS:
        raise ValueError(f"unknown kind {given.get('kind')!r}; known: {', '.join(sorted(KINDS))}")
    if "probability" in given and "times" not in given:
        given["times"] = None
    given.setdefault("provider", "*")
    if "values" in match:
        match = {**match, "values": frozenset(map(str, match["values"]))}
    if given["kind"] == "poison":
        given.setdefault("times", None)
    return Fault(**given, **match)


def _fits(fault: Fault, occasion: Occasion) -> bool:
    if fault.provider not in ("*", occasion.provider):
        return False
    if fault.endpoint:
        if fault.endpoint != occasion.endpoint:
            return False
    elif not occasion.is_billable:
        return False
    if len(occasion.records) < fault.min_records:
        return False
    if fault.values and not any(_holds(r, fault.values) for r in occasion.records):
        return False
    if fault.share:
        # A fixed share of humans by their number: the same ones in every call.
        return any(number % 100_003 < fault.share * 100_003 for number in occasion.humans())
    return True


def _holds(value: object, wanted: frozenset[str]) -> bool:
    if isinstance(value, str):
        return value in wanted
    if isinstance(value, Mapping):
        return any(_holds(inner, wanted) for inner in value.values())
    if isinstance(value, list):
        return any(_holds(inner, wanted) for inner in value)
    return False
