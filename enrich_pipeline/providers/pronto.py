"""Pronto (prontohq.com, now Pipecorn): e-mail, phone or personal e-mail, delivered by webhook.

Follows the Pronto API reference, "Bulk Contact Enrichment" and "Single Contact Enrichment" (read
2026-11). One call buys one enrichment type for 2 to 100 contacts; a lone contact has an endpoint of
its own. Credits are checked for the whole call when it is accepted and fall due for each contact
with a result: 1 for an e-mail, 10 for a phone or a personal e-mail. Costs are not reported. A call
sent twice is enqueued twice, so what is in doubt is never sent again.
"""

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from pydantic import field_validator

from enrich_pipeline.domain.enrichment import Attribute, Field, ValueStatus
from enrich_pipeline.domain.normalize.country import CODES
from enrich_pipeline.providers import reading
from enrich_pipeline.providers.protocol import (
    MATCHED_NO_DATA,
    Answer,
    Call,
    Datapoint,
    Disposition,
    FoundValue,
    HttpRequest,
    HttpResponse,
    InDoubtPolicy,
    Item,
    Limits,
    Offer,
    Options,
    Poll,
    Provider,
    Reply,
    Subject,
    Unavailable,
    Verdict,
)
from enrich_pipeline.providers.reading import ErrorRule, Notes

EMAIL: Final = "email"
PHONE: Final = "phone"
PERSONAL_EMAIL: Final = "personal_email"

_NAMED: Final = frozenset({Datapoint.FIRST_NAME, Datapoint.LAST_NAME})

# The same word for both kinds of e-mail; "N/A" is read as none stated.
_EMAIL_STATUSES: Final = {
    "deliverable": ValueStatus.VERIFIED,
    "valid": ValueStatus.VERIFIED,
    "catch-all": ValueStatus.CATCH_ALL,
    "invalid": ValueStatus.INVALID,
}
ASSUMED_PHONE_STATUSES: Final = {"valid": ValueStatus.VERIFIED, "invalid": ValueStatus.INVALID}
"""`phone_status` is documented by name only."""

_DONE: Final = frozenset({"finished", "success"})
_WORKING: Final = frozenset({"pending", "queued", "processing"})
ASSUMED_FAILED: Final = frozenset({"failed", "error", "timeout", "cancelled"})
"""No status of a failed contact is documented; only results are charged, so these are free."""
ASSUMED_FILTERED: Final = frozenset({"filtered", "country_filtered"})
"""How a phone withheld by `phone_country_codes` would be told, as `status` or `phone_status`."""

_RESULT_NAMES: Final = {
    EMAIL: {"email", "email_status"},
    PERSONAL_EMAIL: {"personal_email", "personal_email_status"},
    PHONE: {"phone", "phones"},
}
_NO_VALUE: Final = frozenset({"", "n/a", "none", "null"})

# 422 means four different things, told apart by the message alone; none of them enqueues anything.
# Input is the last of them: its words stand in the others' messages too, and a call halved for want
# of credits or of a plan is sent many times in vain.
_REASONS: Final = (
    ("account_consent", re.compile(r"consent|terms of use", re.I)),
    (
        "no_credits",
        re.compile(
            r"insufficient|\bbalance\b|not enough|enough credit|credits? (is |are )?required"
            r"|enrichment credit",
            re.I,
        ),
    ),
    (
        "plan_limit",
        re.compile(
            r"\bplans?\b|upgrade|quota|import limit|limit (has been |was )?reached|per day", re.I
        ),
    ),
    (
        "invalid_input",
        re.compile(
            r"invalid|required|missing|must|blank|at least|at most|too (many|few|long|short)"
            r"|param|should",
            re.I,
        ),
    ),
)
_ERRORS: Final = (
    ErrorRule(Disposition.THROTTLED, status=429, own_json=False),
    ErrorRule(Disposition.UNAUTHORIZED, status=401),
    ErrorRule(Disposition.UNAUTHORIZED, status=403),
    ErrorRule(Disposition.NO_CREDITS, status=422, code="no_credits"),
    ErrorRule(Disposition.INVALID, status=422, code="invalid_input"),
    # Consent and plan need a person; so does a reason that is not known, and nothing was enqueued.
    ErrorRule(Disposition.REFUSED, status=422),
)


class ProntoOptions(Options):
    """`phone_country_codes` restricts phones to these countries; unset leaves it to the account."""

    account_consents_to_personal_email: bool = False
    phone_country_codes: tuple[str, ...] | None = None

    @field_validator("phone_country_codes")
    @classmethod
    def _countries(cls, codes: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if codes is None:
            return None
        clean = {code.strip().upper() for code in codes}
        if not clean or not clean <= CODES:
            raise ValueError("must list ISO 3166-1 alpha-2 codes, such as FR and US, or be unset")
        return tuple(sorted(clean))


class _Contact(reading.Loose):
    """One contact's result, by webhook or poll. The synchronous endpoint's names are read too."""

    enrichment_id: str | None = None
    custom: dict[str, object] | None = None
    status: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    linkedin_url: str | None = None
    linkedin_profile_url: str | None = None
    email: str | None = None
    email_status: str | None = None
    personal_email: str | None = None
    personal_email_status: str | None = None
    phone: object = None
    phones: object = None
    phone_status: str | None = None


class Pronto(Provider):
    name = "pronto"
    title = "Pronto"
    default_base_url = "https://app.prontohq.com/api/v2"
    unit = "credit"
    limits = Limits(2, 100, single=True)
    in_doubt = InDoubtPolicy.AT_MOST_ONCE
    options_model = ProntoOptions
    default_prices: ClassVar[Mapping[str, str]] = {EMAIL: "1", PHONE: "10", PERSONAL_EMAIL: "10"}
    uses_webhooks = True
    uses_polling = True

    options: ProntoOptions

    def offers(self, *, consented: bool) -> tuple[Offer, ...]:
        countries = self.options.phone_country_codes
        by_profile = _NAMED | {Datapoint.LINKEDIN}
        email = Offer(
            product=EMAIL,
            fields=(Field.WORK_EMAIL,),
            requires=(_NAMED | {Datapoint.COMPANY_DOMAIN}, _NAMED | {Datapoint.COMPANY_NAME}),
            identity=(Datapoint.COMPANY_DOMAIN, Datapoint.LINKEDIN),
            needs_webhook=True,
        )
        phone = Offer(
            product=PHONE,
            fields=(Field.PHONE,),
            requires=(by_profile,),
            identity=(Datapoint.LINKEDIN,),
            options=f"countries={','.join(countries)}" if countries else "",
            needs_webhook=True,
        )
        if not (consented and self.options.account_consents_to_personal_email):
            return email, phone
        personal_email = Offer(
            product=PERSONAL_EMAIL,
            fields=(Field.PERSONAL_EMAIL,),
            requires=(by_profile,),
            identity=(Datapoint.LINKEDIN,),
            needs_webhook=True,
        )
        return email, phone, personal_email

    def unavailable(self, wanted: Field, *, consented: bool) -> Unavailable | None:
        if wanted is not Field.PERSONAL_EMAIL:
            return None
        if not consented:
            return Unavailable.NO_CONSENT
        is_consented_account = self.options.account_consents_to_personal_email
        return None if is_consented_account else Unavailable.ACCOUNT_CONSENT

    def groups(self, offers: Sequence[Offer]) -> tuple[tuple[str, tuple[Offer, ...]], ...]:
        return tuple((offer.product, (offer,)) for offer in offers)

    def headers(self, api_key: str) -> dict[str, str]:
        return {"X-API-KEY": api_key}

    def request(self, call: Call) -> HttpRequest:
        body: dict[str, object] = {"enrichment_type": [call.group]}
        if call.webhook_url:
            body["webhook_url"] = call.webhook_url
        if call.group == PHONE and self.options.phone_country_codes:
            body["phone_country_codes"] = list(self.options.phone_country_codes)
        if len(call.items) == 1:
            return HttpRequest(
                "POST", "/contacts/single_enrich", json=body | _contact(call, call.items[0])
            )
        contacts = [_contact(call, item) for item in call.items]
        return HttpRequest("POST", "/contacts/bulk_enrich", json=body | {"contacts": contacts})

    def read(self, call: Call, response: HttpResponse) -> Reply:
        notes = Notes()
        body = reading.json_object(response)
        if 200 <= response.status < 300:
            job = reading.job_id((body or {}).get("enrichment_id"), notes)
            if job is None:
                return reading.not_understood("accepted_without_id", notes)
            return Reply(Disposition.ACCEPTED, job_id=job, anomalies=notes.codes())
        return _error(response, body, notes)

    def read_delivery(self, call: Call, body: bytes) -> Reply:
        """Reads the result of one contact; what cannot be read or paired changes nothing."""
        return _read_contact(call, reading.json_value(body), Notes())

    def poll(self, call: Call) -> Poll | None:
        """Only the job of a lone contact can be asked for; results of bulk calls are delivered."""
        return _conversation(call, call.job_id) if len(call.items) == 1 and call.job_id else None

    def balance_request(self) -> HttpRequest:
        return HttpRequest("GET", "/credits")

    def read_balance(self, response: HttpResponse) -> int | None:
        body = reading.json_object(response)
        if response.status != 200 or body is None:
            return None
        return reading.amount_micro(body.get("credits"))


def _contact(call: Call, item: Item) -> dict[str, object]:
    person = item.person
    known = {
        "firstname": person.get(Datapoint.FIRST_NAME),
        "lastname": person.get(Datapoint.LAST_NAME),
        "domain": person.get(Datapoint.COMPANY_DOMAIN),
        "company_name": person.get(Datapoint.COMPANY_NAME),
        "linkedin_url": person.linkedin_url,
    }
    # Value types and limits of `custom` are not documented: one short string.
    sent: dict[str, object] = {"custom": {"ref": _ref(call, item)}}
    return sent | {name: value for name, value in known.items() if value}


def _ref(call: Call, item: Item) -> str:
    """Names the item and its call: another call may be about the same person."""
    return item.key if call.reference is None else f"{item.key}.{call.reference}"


def _error(response: HttpResponse, body: dict[str, object] | None, notes: Notes) -> Reply:
    message = _message(body or {})
    code = None
    if response.status == 422 and message:
        code = next((reason for reason, words in _REASONS if words.search(message)), None)
        if code is None:
            notes.add("unmapped_422")
    disposition = reading.classify(_ERRORS, response.status, code=code, is_own_json=bool(message))
    known = [reason for reason, _ in _REASONS]
    return reading.failure(disposition, response, notes, code=code, known=known)


def _message(body: dict[str, object]) -> str:
    """All that an error body says: `{error}`, `{message}` or `{errors: [...]}`."""
    said: list[str] = []
    found: list[object] = [body.get("error"), body.get("message"), body.get("errors")]
    for one in found:
        if isinstance(one, str):
            said.append(one[:500])
        elif isinstance(one, list):
            found.extend(one[:100])
        elif isinstance(one, dict):
            found.extend(list(one.values())[:100])
    return "; ".join(said)


def _conversation(call: Call, job_id: str) -> Poll:
    (response,) = yield [HttpRequest("GET", f"/contacts/{job_id}")]
    notes = Notes()
    body = reading.json_object(response)
    if response.status == 200:
        return _read_contact(call, body, notes)
    reply = _error(response, body, notes)
    if reply.disposition in (Disposition.THROTTLED, Disposition.UNAUTHORIZED):
        return reply
    return reading.failure(Disposition.NOT_READY, response, notes)


def _read_contact(call: Call, raw: object, notes: Notes) -> Reply:
    part = reading.part(_Contact, raw, notes)
    if part is None:
        notes.add("unreadable_result")
        return Reply(Disposition.NOT_READY, anomalies=notes.codes())
    item = _item(call, part.value)
    if item is None:
        notes.add("unknown_identifier")
        return Reply(Disposition.NOT_READY, anomalies=notes.codes())
    answer = _answer(call.group, item, part, notes)
    if answer is None:
        return Reply(Disposition.NOT_READY, anomalies=notes.codes())
    is_last = len(call.items) == 1
    return Reply(
        Disposition.ANSWERED if is_last else Disposition.ACCEPTED,
        answers=(answer,),
        anomalies=notes.codes(),
    )


def _item(call: Call, contact: _Contact) -> Item | None:
    ref = (contact.custom or {}).get("ref")
    if ref is not None:
        return next((item for item in call.items if _ref(call, item) == ref), None)
    # Whether a delivery's id is the job's or the contact's is open; on a lone contact it is both.
    is_this = len(call.items) == 1 and call.job_id and contact.enrichment_id == call.job_id
    return call.items[0] if is_this else None


def _answer(product: str, item: Item, part: reading.Part[_Contact], notes: Notes) -> Answer | None:
    """The verdict on a contact; None while it is open or where nothing certain is said."""
    contact = part.value
    state = (contact.status or "").strip().lower()
    states = {state, (contact.phone_status or "").strip().lower() if product == PHONE else state}
    subject = Subject(
        first_name=reading.text(contact.first_name),
        last_name=reading.text(contact.last_name),
        linkedin=reading.linkedin_slug(contact.linkedin_url or contact.linkedin_profile_url),
    )
    if states & ASSUMED_FILTERED:
        return Answer(item.key, product, Verdict.FILTERED, subject=subject, reason="country")
    if state in ASSUMED_FAILED:
        return Answer(item.key, product, Verdict.FAILED, reason=state)
    if state not in _DONE:
        if state not in _WORKING:
            notes.word("unmapped_status", state or "none")
        return None
    raw = _reported(product, contact)
    values = _values(product, contact, raw, notes)
    if reading.is_usable(values):
        return Answer(item.key, product, Verdict.FOUND, values, subject)
    if any(isinstance(value, str) for value in raw):
        reason = MATCHED_NO_DATA
        return Answer(item.key, product, Verdict.NOT_FOUND, values, subject, reason=reason)
    if raw or part.is_damaged or not _RESULT_NAMES[product] & contact.model_fields_set:
        # A result under another name or of another type would otherwise pass for a miss.
        notes.add("missing_result")
        return None
    return Answer(item.key, product, Verdict.NOT_FOUND, subject=subject, reason="not_matched")


def _reported(product: str, contact: _Contact) -> list[object]:
    """The values of a result as they stand there, without those that say that there is none."""
    if product == EMAIL:
        raw: list[object] = [contact.email]
    elif product == PERSONAL_EMAIL:
        raw = [contact.personal_email]
    else:
        listed = contact.phones or contact.phone
        entries = listed if isinstance(listed, list) else [listed]
        raw = [
            entry.get("number", entry) if isinstance(entry, dict) else entry for entry in entries
        ]
    return [
        one
        for one in raw
        if not (one is None or (isinstance(one, str) and one.strip().lower() in _NO_VALUE))
    ]


def _values(
    product: str, contact: _Contact, raw: Sequence[object], notes: Notes
) -> tuple[FoundValue, ...]:
    if product == PHONE:
        status = reading.status_of(ASSUMED_PHONE_STATUSES, contact.phone_status, notes)
        found = [value for one in raw for value in reading.phone(one, status, notes)]
        return tuple({value.value: value for value in found}.values())
    if product == EMAIL:
        attribute, word = Attribute.WORK_EMAIL, contact.email_status
    else:
        attribute, word = Attribute.PERSONAL_EMAIL, contact.personal_email_status
    status = reading.status_of(_EMAIL_STATUSES, word, notes)
    return tuple(v for one in raw for v in reading.email(attribute, one, status, notes))


provider = Pronto
