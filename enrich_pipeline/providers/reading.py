"""How adapters read what providers send: any bytes in, typed values and counted anomalies out.

Nothing in this module raises on foreign data and nothing knows a provider. What a reply means,
which words mean which status and which error is free of charge is declared in each adapter.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Final, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from enrich_pipeline.domain import normalize
from enrich_pipeline.domain.enrichment import Attribute, ValueStatus
from enrich_pipeline.domain.policy import MICRO
from enrich_pipeline.providers.protocol import (
    Disposition,
    FoundValue,
    HttpResponse,
    Item,
    Quota,
    Reply,
)

MAX_DEPTH: Final = 50
"""Nesting beyond this is no provider's reply; it would only exhaust the stack of what walks it."""
MAX_TEXT: Final = 500
MAX_CREDITS: Final = 1_000_000
"""No single settlement costs more credits than this: a larger figure is a misread one."""
MAX_WAIT_SECONDS: Final = 86_400

_CODE_LETTERS: Final = re.compile(r"[^a-z_-]")
_NO_WORD: Final = re.compile(r"[@0-9]")
_OPAQUE_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_END_OF_TIME: Final = datetime.max.replace(tzinfo=UTC)


class Notes:
    """Anomalies met while reading one reply: codes with counts, never values."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, code: str, count: int = 1) -> None:
        if count > 0:
            self._counts[code] += count

    def word(self, code: str, word: str) -> None:
        """Notes a word of the provider's own vocabulary that no table knows, made harmless.

        With a digit, an @ or much length it is no such word, and may be a value of a person.
        """
        is_word = len(word) <= 30 and not _NO_WORD.search(word)
        self._counts[f"{code}:{code_word(word) if is_word else 'other'}"] = 0

    def codes(self) -> tuple[str, ...]:
        """`unmapped_status:risky`, `missing_identifier:3`: sorted, words without a count."""
        return tuple(f"{c}:{n}" if n else c for c, n in sorted(self._counts.items()))


def code_word(word: str) -> str:
    """A provider's word as a short code: lower case, `[a-z_-]` only, at most 30 letters."""
    return _CODE_LETTERS.sub("", word[:200].lower().replace(" ", "_"))[:30]


# ------------------------------------------------------------------------------- JSON and models


def json_value(body: bytes) -> object | None:
    """The JSON value of a body, None when it is none (or nests absurdly).

    Fractions are Decimal, so that amounts stay exact.
    """
    try:
        value: object = json.loads(
            body.decode("utf-8-sig"), parse_float=Decimal, parse_constant=Decimal
        )
    except (ValueError, ArithmeticError, RecursionError):
        return None
    return value if _is_shallow(value) else None


def json_object(response: HttpResponse) -> dict[str, object] | None:
    """The JSON object of a response that arrived whole, else None."""
    value = None if response.truncated else json_value(response.body)
    return value if isinstance(value, dict) else None


def _is_shallow(value: object) -> bool:
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for member in level:
            if isinstance(member, dict):
                below.extend(member.values())
            elif isinstance(member, list):
                below.extend(member)
        if not below:
            return True
        level = below
    return False


class Loose(BaseModel):
    """Base of reply models: every field optional, unknown ones ignored, types never coerced."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


M = TypeVar("M", bound=Loose)


@dataclass(frozen=True, slots=True)
class Part(Generic[M]):
    """A part of a reply. `is_damaged` when a property had a wrong type and was read as absent.

    A damaged part may still bring values; it must never be taken for a miss.
    """

    value: M
    is_damaged: bool


def part(model: type[M], raw: object, notes: Notes) -> Part[M] | None:
    """Reads an object as `model`; properties of a wrong type are read as absent and counted.

    None when `raw` is no object at all.
    """
    if not isinstance(raw, dict):
        return None
    try:
        return Part(model.model_validate(raw), is_damaged=False)
    except ValidationError as error:
        places = [
            one["loc"]
            for one in error.errors(include_url=False, include_context=False, include_input=False)
        ]
    repaired: object = raw
    for place in places:
        repaired = _without(repaired, place)
    notes.add("wrong_type", len(places))
    try:
        return Part(model.model_validate(repaired), is_damaged=True)
    except ValidationError:
        return None


def _without(raw: object, place: Sequence[int | str]) -> object:
    """A copy of `raw` with None at `place`."""
    if not place:
        return None
    head, rest = place[0], place[1:]
    if isinstance(raw, dict):
        return {**raw, head: _without(raw.get(head), rest)}
    if isinstance(raw, list) and isinstance(head, int):
        return [_without(one, rest) if i == head else one for i, one in enumerate(raw)]
    return raw


# ----------------------------------------------------------------------------- scalars and amounts


def text(raw: object) -> str | None:
    """Printable text of at most 500 characters, None for anything else (placeholders included)."""
    return normalize.text(raw, MAX_TEXT).value if isinstance(raw, str) else None


def amount_micro(raw: object, ceiling: int = 10**12) -> int | None:
    """Credits in micro-credits, rounded half up; None unless 0 <= credits <= ceiling."""
    if isinstance(raw, bool) or not isinstance(raw, int | Decimal | str):
        return None
    if isinstance(raw, str) and len(raw) > 40:
        return None
    try:
        amount = Decimal(raw)
    except (InvalidOperation, ValueError):
        return None
    if not amount.is_finite() or not 0 <= amount <= ceiling:
        return None
    return int((amount * MICRO).to_integral_value(ROUND_HALF_UP))


def cost_micro(raw: object, notes: Notes) -> int | None:
    """A reported cost in micro-credits; None when none is stated or it cannot be true."""
    if raw is None:
        return None
    cost = amount_micro(raw, MAX_CREDITS)
    if cost is None:
        notes.add("unreadable_cost")
    return cost


def seconds(raw: object) -> float | None:
    """A stated waiting time in seconds, at most a day; None when it is no number."""
    micro = amount_micro(raw, ceiling=10**9)
    return None if micro is None else min(micro / MICRO, float(MAX_WAIT_SECONDS))


def quotas(*windows: tuple[int, str | None, str | None]) -> tuple[Quota, ...]:
    """(window in seconds, header of what is left, header of when it resets): those that say it."""
    return tuple(
        Quota(window, left // MICRO, seconds(resets_in))
        for window, stated, resets_in in windows
        if (left := amount_micro(stated)) is not None
    )


def instant(raw: object) -> datetime | None:
    """An ISO 8601 moment in UTC. Whether it lies in the future is held against the reply later."""
    return normalize.timestamp(raw, _END_OF_TIME).value if isinstance(raw, str) else None


def opaque_id(raw: object) -> str | None:
    """An id of the provider's own, safe inside a path; numbers become their digits."""
    written = str(raw) if isinstance(raw, int) and not isinstance(raw, bool) else raw
    return written if isinstance(written, str) and _OPAQUE_ID.fullmatch(written) else None


def job_id(raw: object, notes: Notes) -> str | None:
    """The id of accepted work; None when none is stated, and (counted) when it cannot be one."""
    written = opaque_id(raw)
    if written is None and raw is not None:
        notes.add("unreadable_job_id")
    return written


# ------------------------------------------------------------------------------------------ values


def status_of(table: Mapping[str, ValueStatus], word: object, notes: Notes) -> ValueStatus:
    """The provider's word in ours: UNKNOWN where it states none or one that no table has.

    The table's words are lower case. "N/A" and the like are no statement and need no entry.
    """
    written = text(word)
    if written is None:
        if word is not None and not isinstance(word, str):
            notes.add("wrong_type")
        return ValueStatus.UNKNOWN
    known = table.get(written.lower())
    if known is None:
        notes.word("unmapped_status", written)
        return ValueStatus.UNKNOWN
    return known


def is_masked(raw: str) -> bool:
    """Whether a value only hints at one that is for sale, or stands for "locked"."""
    return "*" in raw or "•" in raw or "email_not_unlocked@" in raw.lower()


def email(
    attribute: Attribute,
    raw: object,
    status: ValueStatus,
    notes: Notes,
    *,
    observed_at: datetime | None = None,
    confidence: str | None = None,
) -> tuple[FoundValue, ...]:
    """One usable e-mail address, or none; what had to be dropped is counted."""
    value = _usable(raw, "email", notes)
    clean = value and normalize.email(value).value
    return _found(attribute, value, clean, status, notes, observed_at, confidence)


def phone(
    raw: object,
    status: ValueStatus,
    notes: Notes,
    *,
    observed_at: datetime | None = None,
    confidence: str | None = None,
) -> tuple[FoundValue, ...]:
    """One usable phone number as E.164, or none; what had to be dropped is counted."""
    value = _usable(raw, "phone", notes)
    clean = value and normalize.phone(value, None).value
    return _found(Attribute.PHONE, value, clean, status, notes, observed_at, confidence)


def _usable(raw: object, kind: str, notes: Notes) -> str | None:
    if raw is None or (isinstance(raw, str) and not raw.strip()):
        return None
    if not isinstance(raw, str):
        notes.add("wrong_type")
        return None
    if is_masked(raw):
        notes.add(f"masked_{kind}")
        return None
    if len(raw) > MAX_TEXT:
        notes.add(f"unusable_{kind}")
        return None
    return raw


def _found(
    attribute: Attribute,
    raw: str | None,
    clean: str | None,
    status: ValueStatus,
    notes: Notes,
    observed_at: datetime | None,
    confidence: str | None,
) -> tuple[FoundValue, ...]:
    if raw is None:
        return ()
    if not clean:
        notes.add(f"unusable_{attribute.value}")
        return ()
    return (FoundValue(attribute, clean, status, observed_at, confidence),)


def profile(
    notes: Notes,
    *,
    title: object = None,
    company: object = None,
    domain: object = None,
    linkedin: object = None,
    location: object = None,
    observed_at: datetime | None = None,
) -> tuple[FoundValue, ...]:
    """The attributes of a profile that can be read. Providers vouch for none: status unknown."""
    clean = {
        Attribute.JOB_TITLE: (title, text(title)),
        Attribute.COMPANY_NAME: (
            company,
            normalize.company_name(company).value if isinstance(company, str) else None,
        ),
        Attribute.COMPANY_DOMAIN: (
            domain,
            normalize.domain(domain).value if isinstance(domain, str) else None,
        ),
        Attribute.LINKEDIN_URL: (linkedin, linkedin_url(linkedin)),
        Attribute.LOCATION: (location, text(location)),
    }
    values = []
    for attribute, (raw, value) in clean.items():
        if value is not None:
            values.append(FoundValue(attribute, value, ValueStatus.UNKNOWN, observed_at))
        elif isinstance(raw, str):
            notes.add(f"unusable_{attribute.value}", 1 if raw.strip() else 0)
        elif raw is not None:
            notes.add("wrong_type")
    return tuple(values)


def linkedin_slug(raw: object) -> str | None:
    return normalize.linkedin_slug(raw).value if isinstance(raw, str) else None


def linkedin_url(raw: object) -> str | None:
    """As it is compared with what is known: its slug stands after the prefix as it is read."""
    slug = linkedin_slug(raw)
    return None if slug is None else f"https://www.linkedin.com/in/{slug}"


def joined(parts: Iterable[object]) -> str | None:
    """`Lyon, Rhône, France`: the parts of a location that are there, each once."""
    words = dict.fromkeys(word for word in map(text, parts) if word)
    return ", ".join(words) or None


def is_usable(values: Iterable[FoundValue]) -> bool:
    """Whether any value is worth having: one reported as invalid is not."""
    return any(value.status is not ValueStatus.INVALID for value in values)


# ------------------------------------------------------------------------------------- correlation


class RollCall:
    """Pairs the identifiers of a reply with the items that were sent; each answers once."""

    def __init__(self, items: Mapping[str, Item], notes: Notes) -> None:
        self._items = items
        self._notes = notes
        self._called: set[str] = set()

    def take(self, identifier: object) -> Item | None:
        """The item behind an identifier; None (and counted) when unknown or answered before."""
        if isinstance(identifier, int) and not isinstance(identifier, bool):
            identifier = str(identifier)
        item = self._items.get(identifier) if isinstance(identifier, str) else None
        if item is None:
            self._notes.add("unknown_identifier")
            return None
        if item.key in self._called:
            self._notes.add("duplicate_identifier")
            return None
        self._called.add(item.key)
        return item

    def close(self) -> None:
        """Counts the items that the reply passed over."""
        items = {item.key for item in self._items.values()}
        self._notes.add("missing_identifier", len(items - self._called))


# ------------------------------------------------------------------------------------------ errors


@dataclass(frozen=True, slots=True)
class ErrorRule:
    """One documented error. None matches anything; the first rule that matches decides.

    `status`: one, or a range of them. `own_json` False where the provider documents the error
    without a JSON body of its own.
    """

    disposition: Disposition
    status: int | range | None = None
    code: str | None = None
    message: re.Pattern[str] | None = None
    own_json: bool = True


def classify(
    rules: Sequence[ErrorRule],
    status: int,
    *,
    code: object = None,
    message: object = None,
    is_own_json: bool,
) -> Disposition:
    """What an error reply means by the adapter's table; what no rule covers is IN_DOUBT."""
    for rule in rules:
        if rule.own_json and not is_own_json:
            continue
        if isinstance(rule.status, range) and status not in rule.status:
            continue
        if isinstance(rule.status, int) and rule.status != status:
            continue
        if rule.code is not None and rule.code != code:
            continue
        if rule.message is not None and not (
            isinstance(message, str) and rule.message.search(message[:2_000])
        ):
            continue
        return rule.disposition
    return Disposition.IN_DOUBT


def codes_of(rules: Sequence[ErrorRule]) -> frozenset[str]:
    """The error codes that an adapter's table names."""
    return frozenset(rule.code for rule in rules if rule.code)


def failure(
    disposition: Disposition,
    response: HttpResponse,
    notes: Notes,
    *,
    code: object = None,
    known: Collection[str] = (),
    retry_after: float | None = None,
) -> Reply:
    """A reply without answers. Its reason is the provider's code, else `http_<status>`.

    Only `known` codes are repeated: what stands in their place may quote a key or a person, and
    reasons are shown in reports and logs. The reply itself is kept.
    """
    word = code_word(code) if isinstance(code, str) and code in known else ""
    if isinstance(code, str) and code and not word:
        notes.add("unknown_error_code")
    wait = None
    if disposition in (Disposition.THROTTLED, Disposition.TRANSIENT, Disposition.NOT_READY):
        stated = seconds(response.headers.get("retry-after"))
        wait = retry_after if stated is None else stated
    return Reply(
        disposition,
        retry_after=wait,
        reason=word or f"http_{response.status}",
        anomalies=notes.codes(),
    )


def not_understood(reason: str, notes: Notes) -> Reply:
    """A reply that promised answers and could not be read: kept, and in doubt."""
    return Reply(Disposition.IN_DOUBT, reason=reason, anomalies=notes.codes())
