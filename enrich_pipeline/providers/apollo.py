"""Apollo: profile and work e-mail of up to 10 persons in the reply, phones and waterfalls later.

A match costs 1 credit, charged with the reply; a mobile 8 more, charged with its delivery; no match
nothing. Asking for the same person again is charged again. The reply is final for what the match
sells; phones and waterfalls come by webhook, or are fetched free of charge by request id.

Answers carry no identifier of ours: `matches[i]` answers `details[i]`, and a delivery names persons
by Apollo's id. How deliveries and polled results are read is in `apollo_results.py`.

Source: Apollo API reference, "Bulk People Enrichment" and the OpenAPI document of
bulk_match, its callbacks and webhook_result; read 2026-09.
"""

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import ClassVar, Final, Self

from pydantic import Field as Bounded
from pydantic import model_validator

from enrich_pipeline.domain.enrichment import Attribute, Field, ValueStatus
from enrich_pipeline.domain.policy import MICRO
from enrich_pipeline.providers import reading
from enrich_pipeline.providers.apollo_results import (
    EMAIL_STATUSES,
    MOBILE,
    WATERFALL_EMAIL,
    WATERFALL_PHONE,
    Payload,
    apollo_id,
    late_products,
    settlement,
)
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
    Quota,
    Reply,
    Subject,
    Unavailable,
    Verdict,
)
from enrich_pipeline.providers.reading import ErrorRule, Loose, Notes

MATCH: Final = "match"
PERSONAL_EMAIL: Final = "personal_email"

FLAGS: Final[Mapping[str, str]] = {
    MOBILE: "reveal_phone_number",
    WATERFALL_EMAIL: "run_waterfall_email",
    WATERFALL_PHONE: "run_waterfall_phone",
    PERSONAL_EMAIL: "reveal_personal_emails",
}

SENT_AS: Final[Mapping[Datapoint, str]] = {
    Datapoint.APOLLO_ID: "id",
    Datapoint.FIRST_NAME: "first_name",
    Datapoint.LAST_NAME: "last_name",
    Datapoint.FULL_NAME: "name",
    Datapoint.EMAIL: "email",
    Datapoint.COMPANY_NAME: "organization_name",
    Datapoint.COMPANY_DOMAIN: "domain",
}

# Assumption: running out of credits is documented only for other endpoints, as a 422 with this
# message; a 402 would mean the same.
ERRORS: Final = (
    ErrorRule(Disposition.UNAUTHORIZED, status=401, own_json=False),  # its body is plain text
    ErrorRule(Disposition.THROTTLED, status=429, own_json=False),
    ErrorRule(Disposition.REFUSED, status=403),
    ErrorRule(Disposition.INVALID, status=400, code="INVALID_REQUEST"),
    ErrorRule(Disposition.INVALID, status=400, code="RECORD_LIMIT_EXCEEDED"),
    ErrorRule(
        Disposition.NO_CREDITS, status=422, message=re.compile(r"insufficient\s+credits", re.I)
    ),
    ErrorRule(Disposition.INVALID, status=422, code="UNKNOWN_ERROR"),
    ErrorRule(Disposition.NO_CREDITS, status=402),
)
GONE: Final = ("request_id_unknown", "request_id_expired", "invalid_request_id")
KNOWN_CODES: Final = reading.codes_of(ERRORS) | {*GONE, "API_INACCESSIBLE", "result_pending"}


class ApolloOptions(Options):
    """The waterfalls ask further vendors whose prices vary, some of them even for a miss:
    `max_credits_per_record` is what is held for one record of them, and must be stated."""

    run_waterfall_email: bool = False
    run_waterfall_phone: bool = False
    max_credits_per_record: int | None = Bounded(default=None, ge=1, le=10_000)

    @model_validator(mode="after")
    def _waterfalls_are_bounded(self) -> Self:
        if self.max_credits_per_record is None and (
            self.run_waterfall_email or self.run_waterfall_phone
        ):
            raise ValueError(
                "run_waterfall_email and run_waterfall_phone need max_credits_per_record, "
                "the most credits that one record may cost"
            )
        return self


class _Late(Loose):
    status: str | None = None
    request_id: object = None


class _Reply(Loose):
    status: str | None = None
    request_id: object = None
    error_code: str | None = None
    credits_consumed: object = None
    matches: list[object] | None = None
    phone_enrichment: _Late | None = None
    waterfall: _Late | None = None


class _Organization(Loose):
    name: str | None = None
    primary_domain: str | None = None
    website_url: str | None = None


class _Match(Loose):
    id: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    name: str | None = None
    linkedin_url: str | None = None
    title: str | None = None
    email: str | None = None
    email_status: str | None = None
    personal_emails: list[object] | None = None
    city: object = None
    state: object = None
    country: object = None
    organization: _Organization | None = None
    match_confidence: str | None = None


class Apollo(Provider):
    """The match, and with it a mobile; where configured, waterfalls for e-mail or phone instead."""

    name = "apollo"
    title = "Apollo"
    default_base_url = "https://api.apollo.io/api/v1"
    unit = "credit"
    limits = Limits(minimum=1, maximum=10)
    in_doubt = InDoubtPolicy.AT_MOST_ONCE
    options_model = ApolloOptions
    default_prices: ClassVar[Mapping[str, str]] = {
        MATCH: "1",
        MOBILE: "8",
        WATERFALL_EMAIL: "5",
        WATERFALL_PHONE: "8",  # Assumption: the price of a mobile; vendors charge up to 45
    }
    uses_webhooks = True
    uses_polling = True

    options: ApolloOptions

    def offers(self, *, consented: bool) -> tuple[Offer, ...]:
        """One product per field: a waterfall takes the place of what the match or mobile sells."""
        names = (
            {Datapoint.FIRST_NAME, Datapoint.LAST_NAME},
            {Datapoint.FULL_NAME},
        )
        companies = (Datapoint.COMPANY_DOMAIN, Datapoint.COMPANY_NAME)
        requires = (
            frozenset({Datapoint.LINKEDIN}),
            frozenset({Datapoint.EMAIL}),
            frozenset({Datapoint.APOLLO_ID}),
            *(frozenset({*name, company}) for name in names for company in companies),
        )
        # Apollo's own id is no reason to ask again after a miss: it came with its answer.
        identity = (Datapoint.LINKEDIN, Datapoint.EMAIL, Datapoint.COMPANY_DOMAIN)

        def late(product: str, field: Field) -> Offer:
            return Offer(
                product=product,
                fields=(field,),
                requires=requires,
                identity=identity,
                brings=(MATCH,),
                needs_webhook=True,
            )

        email_later = self.options.run_waterfall_email
        match = Offer(
            product=MATCH,
            fields=(
                Field.PROFILE,
                *(() if email_later else (Field.WORK_EMAIL,)),
                *((Field.PERSONAL_EMAIL,) if consented else ()),
            ),
            requires=requires,
            identity=identity,
            options=PERSONAL_EMAIL if consented else "",
        )
        phone = WATERFALL_PHONE if self.options.run_waterfall_phone else MOBILE
        emails = (late(WATERFALL_EMAIL, Field.WORK_EMAIL),) if email_later else ()
        return (match, late(phone, Field.PHONE), *emails)

    def unavailable(self, wanted: Field, *, consented: bool) -> Unavailable | None:
        if wanted is Field.PERSONAL_EMAIL and not consented:
            return Unavailable.NO_CONSENT
        return None

    def groups(self, offers: Sequence[Offer]) -> tuple[tuple[str, tuple[Offer, ...]], ...]:
        """One call holds all: its flags, named after products and consent, are the group."""
        names = {offer.product for offer in offers} | {offer.options for offer in offers}
        group = "+".join(name for name in FLAGS if name in names)
        return ((group, tuple(offers)),) if offers else ()

    def cap_micro(self, product: str) -> int | None:
        """Apollo takes no cap with a call; this one is what is held for a waterfall's record."""
        most = self.options.max_credits_per_record
        if most is None or product not in (WATERFALL_EMAIL, WATERFALL_PHONE):
            return None
        return most * MICRO

    def headers(self, api_key: str) -> dict[str, str]:
        return {"x-api-key": api_key, "Accept": "application/json"}

    def request(self, call: Call) -> HttpRequest:
        """Flags are sent only where set, and the webhook URL only with flags that need one.

        Raises:
            ValueError: the call needs a webhook URL and has none.
        """
        flags = call.group.split("+") if call.group else []
        params = {FLAGS[flag]: "true" for flag in flags}
        if late_products(call):
            if call.webhook_url is None:
                raise ValueError("a call for phones or waterfalls needs a webhook URL")
            params["webhook_url"] = call.webhook_url
        details = []
        for item in call.items:
            detail = {}
            for datapoint, name in SENT_AS.items():
                known = item.person.get(datapoint)
                if known:
                    detail[name] = known
            if item.person.linkedin_url:
                detail["linkedin_url"] = item.person.linkedin_url
            details.append(detail)
        return HttpRequest("POST", "/people/bulk_match", json={"details": details}, params=params)

    # ------------------------------------------------------------------ the synchronous part

    def read(self, call: Call, response: HttpResponse) -> Reply:
        notes = Notes()
        body = reading.json_object(response)
        if response.status >= 300:
            return _failed(response, body, notes)
        envelope = reading.part(_Reply, body, notes)
        if envelope is None:
            return reading.not_understood("not_json", notes)
        reply = envelope.value
        if reply.matches is None:
            return reading.not_understood("unreadable_reply", notes)

        late = {product: _state(product, reply, notes) for product in late_products(call)}
        answers: list[Answer] = []
        pairs = _pairs(call, reply.matches, notes)
        if pairs is None:
            return reading.not_understood("length_mismatch", notes)
        for item, raw in pairs:
            answers += _sync_answers(call, item, raw, late, notes)
        answered = {answer.key for answer in answers}
        notes.add("missing_identifier", len({item.key for item in call.items} - answered))
        is_pending = any(answer.verdict is Verdict.PENDING for answer in answers)
        job = reading.job_id(reply.request_id, notes)
        if job is None and reply.phone_enrichment is not None:
            job = reading.job_id(reply.phone_enrichment.request_id, notes)
        return Reply(
            Disposition.ACCEPTED if is_pending else Disposition.ANSWERED,
            tuple(answers),
            cost_micro=reading.cost_micro(reply.credits_consumed, notes),
            job_id=job,
            anomalies=notes.codes(),
            webhook_will_come=is_pending,
        )

    # --------------------------------------------------------------------- what comes later

    def read_delivery(self, call: Call, body: bytes) -> Reply:
        notes = Notes()
        payload = reading.part(Payload, reading.json_value(body), notes)
        if payload is None or payload.value.people is None:
            return reading.not_understood("unreadable_delivery", notes)
        has_failed = payload.value.status == "failed"
        return settlement(call, payload.value, notes, is_complete=False, has_failed=has_failed)

    def poll(self, call: Call) -> Poll | None:
        if call.job_id is None or not late_products(call):
            return None
        return self._conversation(call)

    def _conversation(
        self, call: Call
    ) -> Generator[Sequence[HttpRequest], Sequence[HttpResponse], Reply]:
        responses = yield (HttpRequest("GET", f"/webhook_result/{call.job_id}"),)
        return _polled(call, responses[0])

    def quotas(self, response: HttpResponse) -> tuple[Quota, ...]:
        told = response.headers
        return reading.quotas(
            (60, told.get("x-minute-requests-left"), None),
            (3600, told.get("x-hourly-requests-left"), None),
            (86400, told.get("x-24-hour-requests-left"), None),
        )

    def balance_request(self) -> HttpRequest:
        return HttpRequest("POST", "/usage_stats/credit_usage_stats", json={})

    def read_balance(self, response: HttpResponse) -> int | None:
        """Assumption: `credits_remaining`, a decimal string, at the top of the reply."""
        body = reading.json_object(response) or {}
        if response.status != 200:
            return None
        return reading.amount_micro(body.get("credits_remaining"))


def _failed(response: HttpResponse, body: dict[str, object] | None, notes: Notes) -> Reply:
    own = body or {}
    texts = [own.get(name) for name in ("error_message", "message", "error")]
    disposition = reading.classify(
        ERRORS,
        response.status,
        code=own.get("error_code"),
        message=" ".join(one for one in texts if isinstance(one, str)),
        is_own_json=any(isinstance(one, str) for one in (own.get("error_code"), *texts)),
    )
    return reading.failure(
        disposition, response, notes, code=own.get("error_code"), known=KNOWN_CODES
    )


def _state(product: str, reply: _Reply, notes: Notes) -> Verdict:
    """Whether a late product is on its way: PENDING, or FAILED when no delivery will come.

    A waterfall with a status is on its way only when accepted. Of a phone the documents name
    "pending", and "skipped" while an earlier request is under way.
    Assumption: without a word, or with an unknown one for a phone, a delivery is on its way,
    because giving up a paid one costs more than waiting for one in vain.
    """
    statement = reply.phone_enrichment if product == MOBILE else reply.waterfall
    word = None if statement is None else reading.text(statement.status)
    if word is None:
        return Verdict.PENDING
    if product != MOBILE:
        return Verdict.PENDING if word == "accepted" else Verdict.FAILED
    if word in ("skipped", "failed"):
        return Verdict.FAILED
    if word != "pending":
        notes.word("unmapped_phone_enrichment", word)
    return Verdict.PENDING


def _pairs(call: Call, matches: Sequence[object], notes: Notes) -> list[tuple[Item, object]] | None:
    """Who is answered by what: by position, else (unequal lengths) by id, LinkedIn or e-mail.

    None when nothing can be told apart.
    """
    if len(matches) == len(call.items):
        return list(zip(call.items, matches, strict=True))
    notes.add("length_mismatch")
    pairs: list[tuple[Item, object]] = []
    taken: set[str] = set()
    for raw in matches:
        if raw is None:
            continue
        match = reading.part(_Match, raw, notes)
        named = [item for item in call.items if match is not None and _names(match.value, item)]
        if len(named) != 1:
            notes.add("unknown_identifier")
        elif named[0].key in taken:
            notes.add("duplicate_identifier")
        else:
            taken.add(named[0].key)
            pairs.append((named[0], raw))
    return pairs or None


def _names(match: _Match, item: Item) -> bool:
    """Whether a match shares an identifier with what was sent."""
    address = match.email.strip().lower() if match.email else None
    reported = (
        (Datapoint.APOLLO_ID, apollo_id(match.id)),
        (Datapoint.LINKEDIN, reading.linkedin_slug(match.linkedin_url)),
        (Datapoint.EMAIL, address),
    )
    return any(value is not None and item.person.get(kind) == value for kind, value in reported)


def _sync_answers(
    call: Call, item: Item, raw: object, late: Mapping[str, Verdict], notes: Notes
) -> Iterator[Answer]:
    """The verdicts on one entry of `matches`; none when it is unreadable."""
    if raw is None:
        for product in sorted(item.products):
            yield Answer(item.key, product, Verdict.NOT_FOUND, reason="not_matched")
        return
    match = reading.part(_Match, raw, notes)
    if match is None:
        notes.add("unreadable_item")
        return
    person = match.value
    subject = Subject(
        first_name=reading.text(person.first_name),
        last_name=reading.text(person.last_name),
        full_name=reading.text(person.name),
        linkedin=reading.linkedin_slug(person.linkedin_url),
        provider_id=apollo_id(person.id),
    )
    for product in sorted(item.products):
        if product in late:
            state = late[product]
            reason = "no_delivery" if state is Verdict.FAILED else None
            yield Answer(item.key, product, state, subject=subject, reason=reason)
            continue
        values = _match_values(person, item, PERSONAL_EMAIL in call.group.split("+"), notes)
        if person.match_confidence == "none":
            yield Answer(item.key, product, Verdict.NOT_FOUND, reason="no_confidence")
        elif reading.is_usable(values):
            yield Answer(item.key, product, Verdict.FOUND, values, subject)
        elif match.is_damaged:
            notes.add("unreadable_item")
        else:
            reason = MATCHED_NO_DATA
            yield Answer(item.key, product, Verdict.NOT_FOUND, values, subject, reason=reason)


def _match_values(
    person: _Match, item: Item, is_personal_asked: bool, notes: Notes
) -> tuple[FoundValue, ...]:
    """Personal addresses only of persons who consented, whatever the reply holds."""
    status = reading.status_of(EMAIL_STATUSES, person.email_status, notes)
    values = reading.email(Attribute.WORK_EMAIL, person.email, status, notes)
    if is_personal_asked and item.person.personal_email_consent:
        for raw in person.personal_emails or ():
            values += reading.email(Attribute.PERSONAL_EMAIL, raw, ValueStatus.UNKNOWN, notes)
    company = person.organization or _Organization()
    return values + reading.profile(
        notes,
        title=person.title,
        company=company.name,
        domain=company.primary_domain or company.website_url,
        linkedin=person.linkedin_url,
        location=reading.joined((person.city, person.state, person.country)),
    )


def _polled(call: Call, response: HttpResponse) -> Reply:
    """A poll is free, so a failed one says nothing about the charge: it is asked again later."""
    notes = Notes()
    body = reading.json_object(response) or {}
    if response.status >= 300:
        words = [body.get(name) for name in ("error_code", "error", "code", "status")]
        code = next((one for one in words if isinstance(one, str)), None)
        if any(word in GONE for word in words if isinstance(word, str)):
            return reading.failure(
                Disposition.IN_DOUBT, response, notes, code=code, known=KNOWN_CODES
            )
        if response.status in (401, 403, 429):
            return _failed(response, body, notes)
        if "result_pending" not in words:
            notes.add(f"poll_http_{response.status}")
        wait = reading.seconds(body.get("retry_after_seconds"))
        return reading.failure(
            Disposition.NOT_READY,
            response,
            notes,
            code=code,
            known=KNOWN_CODES,
            retry_after=wait,
        )
    state = body.get("webhook_status")
    if state not in ("success", "failed"):
        if state != "in_progress":
            notes.add("unreadable_poll")
        wait = reading.seconds(body.get("retry_after_seconds"))
        return reading.failure(Disposition.NOT_READY, response, notes, retry_after=wait)
    payload = reading.part(Payload, body.get("webhook_result"), notes)
    if payload is None or (payload.value.people is None and state == "success"):
        return reading.not_understood(f"unreadable_result_{state}", notes)
    return settlement(call, payload.value, notes, is_complete=True, has_failed=state == "failed")


provider = Apollo
