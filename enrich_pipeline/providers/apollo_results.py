"""What Apollo delivers after its reply: phone numbers and waterfall results, by webhook or poll.

The request, the reply and the conversation of a poll are in `apollo.py`. A phone payload holds no
request id: persons are told by the Apollo id that the synchronous part returned. Its
`credits_consumed` is the charge that falls with the delivery, whichever way it reaches us.

Source: Apollo API reference, OpenAPI callbacks of bulk_match; read 2026-09.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from enrich_pipeline.domain.enrichment import Attribute, ValueStatus
from enrich_pipeline.providers import reading
from enrich_pipeline.providers.protocol import (
    Answer,
    Call,
    Datapoint,
    Disposition,
    FoundValue,
    Item,
    Reply,
    Subject,
    Verdict,
)
from enrich_pipeline.providers.reading import Loose, Notes

MOBILE: Final = "mobile"
WATERFALL_EMAIL: Final = "waterfall_email"
WATERFALL_PHONE: Final = "waterfall_phone"
LATE: Final = (MOBILE, WATERFALL_EMAIL, WATERFALL_PHONE)

EMAIL_STATUSES: Final[Mapping[str, ValueStatus]] = {
    "verified": ValueStatus.VERIFIED,
    "unverified": ValueStatus.UNVERIFIED,
    "guessed": ValueStatus.UNVERIFIED,
    "extrapolated": ValueStatus.UNVERIFIED,
    "catch_all": ValueStatus.CATCH_ALL,
    "catch-all": ValueStatus.CATCH_ALL,
    "invalid": ValueStatus.INVALID,
    "unavailable": ValueStatus.UNKNOWN,
    "found": ValueStatus.UNKNOWN,
}
PHONE_STATUSES: Final[Mapping[str, ValueStatus]] = {
    "valid_number": ValueStatus.VERIFIED,
    "verified": ValueStatus.VERIFIED,
    "unverified": ValueStatus.UNVERIFIED,
    "invalid_number": ValueStatus.INVALID,
    "invalid": ValueStatus.INVALID,
    "no_status": ValueStatus.UNKNOWN,
    "found": ValueStatus.UNKNOWN,
}


class Payload(Loose):
    status: str | None = None
    total_requested_enrichments: int | None = None
    credits_consumed: object = None
    target_fields: list[object] | None = None
    records_enriched: object = None
    people: list[object] | None = None


class _Delivered(Loose):
    id: str | None = None
    emails: list[object] | None = None
    phone_numbers: list[object] | None = None
    waterfall: dict[str, object] | None = None


class _Email(Loose):
    email: str | None = None
    email_status_cd: str | None = None
    waterfall_enriched_at: str | None = None


class _Phone(Loose):
    raw_number: str | None = None
    sanitized_number: str | None = None
    type_cd: str | None = None
    status_cd: str | None = None
    dnc_status_cd: str | None = None


def late_products(call: Call) -> tuple[str, ...]:
    flags = call.group.split("+")
    return tuple(product for product in LATE if product in flags)


def apollo_id(raw: object) -> str | None:
    """An Apollo id as it is kept: lower case."""
    written = reading.opaque_id(raw)
    return None if written is None else written.lower()


def settlement(
    call: Call, payload: Payload, notes: Notes, *, is_complete: bool, has_failed: bool
) -> Reply:
    """The verdicts that one payload brings. A line that it passes over is a miss once the payload
    is known to cover the whole call: a polled result, or one that counts as many persons.

    Assumption: a delivery that Apollo could not make keeps its figures and may lose its values. It
    closes its lines by what it says was charged: nothing, then they failed and may be bought anew;
    something, then they are misses at that cost; no figure, then they are left in doubt.
    """
    cost = reading.cost_micro(payload.credits_consumed, notes)
    miss, reason = Verdict.NOT_FOUND, "no_numbers"
    if has_failed:
        miss, reason = (Verdict.FAILED if cost == 0 else Verdict.NOT_FOUND), "delivery_failed"
    can_miss = not has_failed or cost is not None

    products = _products_of(call, payload)
    answers: list[Answer] = []
    met: set[tuple[str, str]] = set()
    strangers = 0
    for raw in payload.people or ():
        person = reading.part(_Delivered, raw, notes)
        items = () if person is None else _holders(call, person.value, len(payload.people or ()))
        if person is None or not items:
            strangers += 1
            continue
        subject = Subject(provider_id=apollo_id(person.value.id))
        for item, product in _lines(items, products):
            if (item.key, product) in met:
                notes.add("duplicate_identifier")
                continue
            met.add((item.key, product))
            read = _emails if product == WATERFALL_EMAIL else _phones
            values = read(person.value, notes)
            if reading.is_usable(values):
                answers.append(Answer(item.key, product, Verdict.FOUND, values, subject))
            elif person.is_damaged:
                notes.add("unreadable_item")
            elif can_miss:
                answers.append(Answer(item.key, product, miss, values, subject, reason=reason))
    notes.add("unknown_identifier", strangers)

    known = [one for one in call.items if one.person.get(Datapoint.APOLLO_ID) or _is_alone(call)]
    humans = {item.person.get(Datapoint.APOLLO_ID) for item in known}
    counted = payload.total_requested_enrichments
    if (is_complete or (counted is not None and counted >= len(humans))) and not strangers:
        for item, product in _lines(known, products):
            if can_miss and (item.key, product) not in met:
                met.add((item.key, product))
                answers.append(Answer(item.key, product, miss, reason=reason))
    if not products or (has_failed and not answers):
        why = "delivery_failed" if has_failed else "unexpected_payload"
        return reading.not_understood(why, notes)
    is_all = met.issuperset((i.key, p) for i, p in _lines(call.items, late_products(call)))
    return Reply(
        Disposition.ANSWERED if is_all else Disposition.ACCEPTED,
        tuple(answers),
        cost_micro=cost,
        anomalies=notes.codes(),
    )


def _products_of(call: Call, payload: Payload) -> tuple[str, ...]:
    """The late products of the call that a payload is about, told by its shape."""
    late = late_products(call)
    if payload.target_fields is None and payload.records_enriched is None:
        return tuple(one for one in late if one in (MOBILE, WATERFALL_PHONE))[:1]
    targets = " ".join(one for one in payload.target_fields or () if isinstance(one, str)).lower()
    named = {
        WATERFALL_EMAIL: "email" in targets,
        WATERFALL_PHONE: "phone" in targets or "mobile" in targets,
    }
    return tuple(one for one in late if one in named and (named[one] or not targets))


def _holders(call: Call, person: _Delivered, deliveries: int) -> Sequence[Item]:
    """The items that a delivered person answers. A lone item needs no id to be told."""
    known = apollo_id(person.id)
    if _is_alone(call) and deliveries == 1 and not call.items[0].person.get(Datapoint.APOLLO_ID):
        return call.items
    return [
        item
        for item in call.items
        if known is not None and item.person.get(Datapoint.APOLLO_ID) == known
    ]


def _is_alone(call: Call) -> bool:
    return len(call.items) == 1


def _lines(items: Sequence[Item], products: Sequence[str]) -> Iterator[tuple[Item, str]]:
    for item in items:
        for product in products:
            if product in item.products:
                yield item, product


def _emails(person: _Delivered, notes: Notes) -> tuple[FoundValue, ...]:
    """The addresses of a waterfall: its own list first, then what single vendors reported."""
    values: dict[str, FoundValue] = {}
    for entry, vendor_status in _entries(person.emails, person.waterfall, "emails"):
        email = reading.part(_Email, {"email": entry} if isinstance(entry, str) else entry, notes)
        if email is None:
            notes.add("wrong_type")
            continue
        word = email.value.email_status_cd or vendor_status
        for value in reading.email(
            Attribute.WORK_EMAIL,
            email.value.email,
            reading.status_of(EMAIL_STATUSES, word, notes),
            notes,
            observed_at=reading.instant(email.value.waterfall_enriched_at),
        ):
            values.setdefault(value.value, value)
    return tuple(values.values())


def _phones(person: _Delivered, notes: Notes) -> tuple[FoundValue, ...]:
    """The numbers of a person, mobiles first. A company's switchboard is not the person's.

    The do-not-call mark travels as the confidence of the value.
    """
    values: dict[str, FoundValue] = {}
    ranks: dict[str, bool] = {}
    for entry, vendor_status in _entries(person.phone_numbers, person.waterfall, "phone_numbers"):
        raw = {"sanitized_number": entry} if isinstance(entry, str) else entry
        phone = reading.part(_Phone, raw, notes)
        if phone is None:
            notes.add("wrong_type")
            continue
        number = phone.value
        if number.type_cd == "work_hq":
            notes.add("switchboard")
            continue
        dnc = reading.text(number.dnc_status_cd)
        for value in reading.phone(
            number.sanitized_number or number.raw_number,
            reading.status_of(PHONE_STATUSES, number.status_cd or vendor_status, notes),
            notes,
            confidence=None if dnc is None else f"dnc:{reading.code_word(dnc)}",
        ):
            values.setdefault(value.value, value)
            ranks.setdefault(value.value, number.type_cd != "mobile")
    return tuple(sorted(values.values(), key=lambda one: ranks[one.value]))


def _entries(
    own: list[object] | None, waterfall: dict[str, object] | None, name: str
) -> Iterator[tuple[object, object]]:
    """Every reported entry, a string or an object, with the status that its vendor gave it."""
    for entry in own or ():
        yield entry, None
    reports = (waterfall or {}).get(name)
    for report in reports if isinstance(reports, list) else ():
        vendors = report.get("vendors") if isinstance(report, dict) else None
        for vendor in vendors if isinstance(vendors, list) else ():
            found = vendor.get(name) if isinstance(vendor, dict) else None
            for entry in found if isinstance(found, list) else ():
                yield entry, vendor.get("status")
