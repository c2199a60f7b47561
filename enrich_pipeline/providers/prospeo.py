"""Prospeo: e-mail, profile and mobile of up to 50 persons in one synchronous call.

A match costs 1 credit (person, company and e-mail), a match with its mobile 10, no match nothing.
A person matched before by the account is free, and a later mobile costs the difference; so an
identical request is a free re-read. The charge falls before the reply; `total_cost` states it.

Source: Prospeo API reference, "Bulk Enrich Person API", "Person object" and "Rate limits"; read
2026-09. The error code decides what an error means, never the HTTP status; only 429 needs no code.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from enrich_pipeline.domain.enrichment import Attribute, Field, ValueStatus
from enrich_pipeline.domain.normalize import prospeo_person_id
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
    Limits,
    Offer,
    Options,
    Provider,
    Quota,
    Reply,
    Subject,
    Verdict,
)
from enrich_pipeline.providers.reading import ErrorRule, Loose, Notes, Part, RollCall

MATCH: Final = "match"
MOBILE: Final = "mobile"

SENT_AS: Final[Mapping[Datapoint, str]] = {
    Datapoint.FIRST_NAME: "first_name",
    Datapoint.LAST_NAME: "last_name",
    Datapoint.FULL_NAME: "full_name",
    Datapoint.EMAIL: "email",
    Datapoint.COMPANY_NAME: "company_name",
    Datapoint.COMPANY_DOMAIN: "company_website",
    Datapoint.COMPANY_LINKEDIN: "company_linkedin_url",
    Datapoint.PROSPEO_ID: "person_id",
}

STATUSES: Final[Mapping[str, ValueStatus]] = {
    "verified": ValueStatus.VERIFIED,
    "unverified": ValueStatus.UNVERIFIED,
    "catch_all": ValueStatus.CATCH_ALL,
    "catch-all": ValueStatus.CATCH_ALL,
    "invalid": ValueStatus.INVALID,
    "unavailable": ValueStatus.UNKNOWN,
}
UNAVAILABLE: Final = "unavailable"

# Nothing says that INTERNAL_ERROR, which comes with status 400, is not charged; a free re-read
# settles it. NO_MATCH and INVALID_DATAPOINTS are documented for the single endpoint; Assumption:
# about a bulk call they say that no record of it was matched, or was fit to be.
ERRORS: Final = (
    ErrorRule(Disposition.NO_CREDITS, code="INSUFFICIENT_CREDITS"),
    ErrorRule(Disposition.UNAUTHORIZED, code="INVALID_API_KEY"),
    ErrorRule(Disposition.THROTTLED, code="RATE_LIMITED"),
    ErrorRule(Disposition.THROTTLED, code="RATE_LIMIT_EXCEEDED"),
    ErrorRule(Disposition.INVALID, code="INVALID_REQUEST"),
    ErrorRule(Disposition.INVALID, code="INVALID_DATAPOINTS"),
    ErrorRule(Disposition.IN_DOUBT, code="INTERNAL_ERROR"),
    ErrorRule(Disposition.REFUSED, code="ACCOUNT_RESTRICTED"),
    ErrorRule(Disposition.ANSWERED, code="NO_MATCH"),
    ErrorRule(Disposition.THROTTLED, status=429, own_json=False),
)


class ProspeoOptions(Options):
    """`allow_company_name_only`: ask by name with no more of the company than its name, which
    Prospeo advises strongly against because many companies share one."""

    allow_company_name_only: bool = False


class _Envelope(Loose):
    error: bool | None = None
    error_code: str | None = None
    total_cost: object = None
    matched: list[object] | None = None
    not_matched: list[object] | None = None
    invalid_datapoints: list[object] | None = None


class _Email(Loose):
    status: str | None = None
    revealed: bool | None = None
    email: str | None = None
    verification_method: object = None


class _Mobile(Loose):
    status: str | None = None
    revealed: bool | None = None
    mobile: str | None = None


class _Location(Loose):
    city: object = None
    state: object = None
    country: object = None


class _Person(Loose):
    person_id: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    full_name: str | None = None
    linkedin_url: str | None = None
    current_job_title: str | None = None
    location: _Location | None = None
    email: _Email | None = None
    mobile: _Mobile | None = None


class _Company(Loose):
    name: str | None = None
    domain: str | None = None
    website: str | None = None


class _Match(Loose):
    identifier: object = None
    person: _Person | None = None
    company: _Company | None = None


class Prospeo(Provider):
    """Two products: the match (e-mail and profile), and the mobile that every match may bring."""

    name = "prospeo"
    title = "Prospeo"
    default_base_url = "https://api.prospeo.io"
    unit = "credit"
    limits = Limits(minimum=1, maximum=50)
    in_doubt = InDoubtPolicy.FREE_REREAD
    options_model = ProspeoOptions
    default_prices: ClassVar[Mapping[str, str]] = {MATCH: "1", MOBILE: "9"}

    options: ProspeoOptions

    def offers(self, *, consented: bool) -> tuple[Offer, ...]:
        companies = [Datapoint.COMPANY_DOMAIN, Datapoint.COMPANY_LINKEDIN]
        if self.options.allow_company_name_only:
            companies.append(Datapoint.COMPANY_NAME)
        requires = (
            frozenset({Datapoint.LINKEDIN}),
            frozenset({Datapoint.EMAIL}),
            frozenset({Datapoint.PROSPEO_ID}),
            *(frozenset({Datapoint.FIRST_NAME, Datapoint.LAST_NAME, one}) for one in companies),
            *(frozenset({Datapoint.FULL_NAME, one}) for one in companies),
        )
        # Prospeo's own id is no reason to ask again after a miss: it came with its answer.
        identity = (Datapoint.LINKEDIN, Datapoint.EMAIL, Datapoint.COMPANY_DOMAIN)
        return (
            Offer(
                product=MATCH,
                fields=(Field.WORK_EMAIL, Field.PROFILE),
                requires=requires,
                identity=identity,
                repeat_is_charged=False,
            ),
            Offer(
                product=MOBILE,
                fields=(Field.PHONE,),
                requires=requires,
                identity=identity,
                brings=(MATCH,),
                repeat_is_charged=False,
            ),
        )

    def groups(self, offers: Sequence[Offer]) -> tuple[tuple[str, tuple[Offer, ...]], ...]:
        """The flags hold for the whole call, so persons with and without a mobile are parted."""
        group = MOBILE if any(offer.product == MOBILE for offer in offers) else ""
        return ((group, tuple(offers)),) if offers else ()

    def headers(self, api_key: str) -> dict[str, str]:
        return {"X-KEY": api_key, "Content-Type": "application/json"}

    def request(self, call: Call) -> HttpRequest:
        records = []
        for item in call.items:
            record = {"identifier": item.key}
            for datapoint, name in SENT_AS.items():
                known = item.person.get(datapoint)
                if known:
                    record[name] = known
            if item.person.linkedin_url:
                record["linkedin_url"] = item.person.linkedin_url
            records.append(record)
        return HttpRequest(
            "POST",
            "/bulk-enrich-person",
            json={
                "only_verified_email": False,
                "enrich_mobile": call.group == MOBILE,
                "only_verified_mobile": False,
                "data": records,
            },
        )

    def read(self, call: Call, response: HttpResponse) -> Reply:
        notes = Notes()
        envelope = reading.part(_Envelope, reading.json_object(response), notes)
        body = envelope.value if envelope is not None else _Envelope()
        if body.error or body.error_code is not None or response.status == 429:
            return self._failed(call, response, body, notes)
        if envelope is None:
            return reading.not_understood("not_json", notes)
        lists = (body.matched, body.not_matched, body.invalid_datapoints)
        if response.status >= 300 or envelope.is_damaged or all(one is None for one in lists):
            return reading.not_understood("unreadable_reply", notes)

        roll = RollCall({item.key: item for item in call.items}, notes)
        answers: list[Answer] = []
        for raw in body.matched or ():
            match = reading.part(_Match, raw, notes)
            item = None if match is None else roll.take(match.value.identifier)
            if match is None:
                notes.add("unreadable_item")
            elif item is not None:
                for product in sorted(item.products):
                    answers += _answer(match, item.key, product, notes)
        for verdict, reason, identifiers in (
            (Verdict.NOT_FOUND, "not_matched", body.not_matched),
            (Verdict.INVALID_INPUT, "invalid_datapoints", body.invalid_datapoints),
        ):
            for identifier in identifiers or ():
                if (item := roll.take(identifier)) is not None:
                    answers += (
                        Answer(item.key, one, verdict, reason=reason)
                        for one in sorted(item.products)
                    )
        roll.close()
        return Reply(
            Disposition.ANSWERED,
            tuple(answers),
            cost_micro=reading.cost_micro(body.total_cost, notes),
            anomalies=notes.codes(),
        )

    def _failed(self, call: Call, response: HttpResponse, body: _Envelope, notes: Notes) -> Reply:
        code = body.error_code
        disposition = reading.classify(
            ERRORS, response.status, code=code, is_own_json=code is not None
        )
        if disposition is not Disposition.ANSWERED:
            wait = _reset_seconds(response.headers)
            return reading.failure(
                disposition,
                response,
                notes,
                code=code,
                known=reading.codes_of(ERRORS),
                retry_after=wait,
            )
        return Reply(
            Disposition.ANSWERED,
            tuple(
                Answer(item.key, product, Verdict.NOT_FOUND, reason="not_matched")
                for item in call.items
                for product in sorted(item.products)
            ),
            anomalies=notes.codes(),
        )

    def quotas(self, response: HttpResponse) -> tuple[Quota, ...]:
        told = response.headers
        return reading.quotas(
            (60, told.get("x-minute-request-left"), told.get("x-minute-reset-seconds")),
            (86400, told.get("x-daily-request-left"), told.get("x-daily-reset-seconds")),
        )

    def balance_request(self) -> HttpRequest:
        return HttpRequest("GET", "/account-information")

    def read_balance(self, response: HttpResponse) -> int | None:
        body = reading.json_object(response) or {}
        account = body.get("response")
        if response.status != 200 or body.get("error") is True or not isinstance(account, dict):
            return None
        return reading.amount_micro(account.get("remaining_credits"))


def _answer(match: Part[_Match], key: str, product: str, notes: Notes) -> tuple[Answer, ...]:
    """The verdict on one product of a matched record; none when a part of it was unreadable."""
    person = match.value.person or _Person()
    withheld = False
    if product == MOBILE:
        mobile = person.mobile or _Mobile()
        status = reading.status_of(STATUSES, mobile.status, notes)
        values = reading.phone(mobile.mobile, status, notes) if mobile.revealed else ()
        stated = reading.text(mobile.status)
        withheld = not mobile.revealed and stated is not None and stated.lower() != UNAVAILABLE
    else:
        values = _match_values(person, match.value.company or _Company(), notes)
    subject = Subject(
        first_name=reading.text(person.first_name),
        last_name=reading.text(person.last_name),
        full_name=reading.text(person.full_name),
        linkedin=reading.linkedin_slug(person.linkedin_url),
        provider_id=prospeo_person_id(person.person_id).value,
    )
    if reading.is_usable(values):
        return (Answer(key, product, Verdict.FOUND, values, subject),)
    if match.is_damaged:
        notes.add("unreadable_item")
        return ()
    if withheld:
        return (Answer(key, product, Verdict.FILTERED, values, subject, reason="not_revealed"),)
    # A mobile that was asked for and is not there costs no more than the match.
    reason = "no_mobile" if product == MOBILE else MATCHED_NO_DATA
    return (Answer(key, product, Verdict.NOT_FOUND, values, subject, reason=reason),)


def _match_values(person: _Person, company: _Company, notes: Notes) -> tuple[FoundValue, ...]:
    email = person.email or _Email()
    values: tuple[FoundValue, ...] = ()
    if email.revealed:
        method = reading.text(email.verification_method)
        values = reading.email(
            Attribute.WORK_EMAIL,
            email.email,
            reading.status_of(STATUSES, email.status, notes),
            notes,
            confidence=method and reading.code_word(method),
        )
    place = person.location or _Location()
    return values + reading.profile(
        notes,
        title=person.current_job_title,
        company=company.name,
        domain=company.domain or company.website,
        linkedin=person.linkedin_url,
        location=reading.joined((place.city, place.state, place.country)),
    )


def _reset_seconds(headers: Mapping[str, str]) -> float:
    """When the used-up window resets: Prospeo documents no Retry-After, these headers tell.

    Assumption: a throttled call met the limit per second unless a header says that the day or the
    minute is used up.
    """
    for window in ("daily", "minute"):
        left = reading.seconds(headers.get(f"x-{window}-request-left"))
        reset = reading.seconds(headers.get(f"x-{window}-reset-seconds"))
        if left == 0 and reset is not None:
            return reset
    return 1.0


provider = Prospeo
