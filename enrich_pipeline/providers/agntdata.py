"""agntdata: work e-mail and profile (personal e-mail with consent) of up to 100 persons at once.

Synchronous; a charge falls with a successful request and is stated in `meta.costCents`. The unit is
one US cent. A repeated request is a second charge, so a lost reply is never asked for again.

Source: agntdata endpoint page "Bulk enrich people", pages "Errors", "Rate limits" and "Credits";
read 2026-09. The items of a reply are documented nowhere: what is assumed of them is `_Record`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, Final, Literal

from pydantic import Field as Bounded

from enrich_pipeline.domain.enrichment import Attribute, Field, ValueStatus
from enrich_pipeline.domain.policy import MICRO
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
    Provider,
    Reply,
    Subject,
    Unavailable,
    Verdict,
)
from enrich_pipeline.providers.reading import ErrorRule, Loose, Notes, Part, RollCall

RECORD: Final = "record"
PERSONAL_EMAIL: Final = "personal_email"

WORK_FIELDS: Final = (
    "email",
    "job_title",
    "company_name",
    "company_domain",
    "linkedin_url",
    "location",
)

# "Failed requests (4xx/5xx) are not charged", whatever their code. Assumption: CONFLICT may be, as
# nothing says that it is not an earlier, charged request that it conflicts with.
ERRORS: Final = (
    ErrorRule(Disposition.UNAUTHORIZED, code="UNAUTHORIZED"),
    ErrorRule(Disposition.NO_CREDITS, code="INSUFFICIENT_CREDITS"),
    ErrorRule(Disposition.INVALID, code="VALIDATION_ERROR"),
    ErrorRule(Disposition.THROTTLED, code="RATE_LIMITED"),
    ErrorRule(Disposition.TRANSIENT, code="PROVIDER_ERROR"),
    ErrorRule(Disposition.TRANSIENT, code="PROVIDER_UNAVAILABLE"),
    ErrorRule(Disposition.TRANSIENT, code="INTERNAL_ERROR"),
    ErrorRule(Disposition.REFUSED, code="ENDPOINT_NOT_FOUND"),
    ErrorRule(Disposition.REFUSED, code="PROVIDER_NOT_FOUND"),
    ErrorRule(Disposition.REFUSED, code="NOT_FOUND"),
    ErrorRule(Disposition.THROTTLED, status=429, own_json=False),
    ErrorRule(Disposition.INVALID, status=400, code=""),
    ErrorRule(Disposition.NO_CREDITS, status=402, code=""),
    ErrorRule(Disposition.UNAUTHORIZED, status=401, code=""),
    ErrorRule(Disposition.IN_DOUBT, code="CONFLICT"),
    ErrorRule(Disposition.IN_DOUBT, status=409),
    # Every error of agntdata's states a code: another may be a gateway's.
    ErrorRule(Disposition.IN_DOUBT, code=""),
    ErrorRule(Disposition.REFUSED, status=range(400, 500)),
    ErrorRule(Disposition.TRANSIENT, status=range(500, 600)),
)


class AgntdataOptions(Options):
    """`max_cost_cents_per_record`: dearer records come back as misses at no charge.
    `tariff_scope`: the price is documented per request and the cap per record; "record" reads the
    price as one record's, "request" as the whole call's. It decides where a reply states no cost.
    `allow_positional`: read a reply without identifiers by position when it is as long as the call.
    """

    max_cost_cents_per_record: int = Bounded(default=1, ge=1, le=10_000)
    tariff_scope: Literal["record", "request"] = "record"
    allow_positional: bool = False


class _Error(Loose):
    code: str | None = None
    retry_after: object = Bounded(default=None, alias="retryAfter")


class _Envelope(Loose):
    success: bool | None = None
    data: dict[str, object] | None = None
    meta: dict[str, object] | None = None
    error: _Error | None = None


class _Person(Loose):
    email: str | None = None
    personal_email: str | None = None
    job_title: str | None = None
    company_name: str | None = None
    company_domain: str | None = None
    linkedin_url: str | None = None
    location: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    full_name: str | None = None


class _Record(Loose):
    """Assumption: one entry of `data.results`, the identifier of the request echoed in it."""

    identifier: object = None
    matched: bool | None = None
    person: _Person | None = None
    cost_cents: object = None


class Agntdata(Provider):
    """One product, the record, with one fixed set of fields for each kind of consent."""

    name = "agntdata"
    title = "agntdata"
    # Assumption: sibling APIs of this host live below /v1/<platform>, and its documents below agnt.
    default_base_url = "https://api.agntdata.dev/v1/agnt"
    unit = "US cent"
    limits = Limits(minimum=1, maximum=100)
    in_doubt = InDoubtPolicy.AT_MOST_ONCE
    options_model = AgntdataOptions
    default_prices: ClassVar[Mapping[str, str]] = {RECORD: "1"}

    options: AgntdataOptions

    def offers(self, *, consented: bool) -> tuple[Offer, ...]:
        extra = (Field.PERSONAL_EMAIL,) if consented else ()
        return (
            Offer(
                product=RECORD,
                fields=(Field.WORK_EMAIL, Field.PROFILE, *extra),
                requires=(frozenset({Datapoint.EMAIL}), frozenset({Datapoint.LINKEDIN})),
                identity=(Datapoint.LINKEDIN, Datapoint.EMAIL),
                options=PERSONAL_EMAIL if consented else "",
            ),
        )

    def unavailable(self, wanted: Field, *, consented: bool) -> Unavailable | None:
        if wanted is Field.PERSONAL_EMAIL and not consented:
            return Unavailable.NO_CONSENT
        return None

    def groups(self, offers: Sequence[Offer]) -> tuple[tuple[str, tuple[Offer, ...]], ...]:
        """The list of fields holds for the whole call; the offer's options name it."""
        return tuple((offer.options, (offer,)) for offer in offers)

    def cap_micro(self, product: str) -> int | None:
        return self.options.max_cost_cents_per_record * MICRO

    def tariff_micro(self, prices: Mapping[str, int], charged: Sequence[str]) -> int:
        if self.options.tariff_scope == "request":
            return max((prices[product] for product in charged), default=0)
        return super().tariff_micro(prices, charged)

    def headers(self, api_key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {api_key}"}

    def request(self, call: Call) -> HttpRequest:
        """Assumption: the cap stands beside `inputs` and `fields`; only prose mentions it."""
        inputs = []
        for item in call.items:
            record = {"identifier": item.key}
            if item.person.linkedin_url:
                record["linkedin_url"] = item.person.linkedin_url
            address = item.person.get(Datapoint.EMAIL)
            if address:
                record["email"] = address
            inputs.append(record)
        fields = [*WORK_FIELDS, PERSONAL_EMAIL] if call.group == PERSONAL_EMAIL else [*WORK_FIELDS]
        return HttpRequest(
            "POST",
            "/people/bulk-enrich",
            json={
                "inputs": inputs,
                "fields": fields,
                "max_cost_cents_per_record": self.options.max_cost_cents_per_record,
            },
        )

    def read(self, call: Call, response: HttpResponse) -> Reply:
        notes = Notes()
        envelope = reading.part(_Envelope, reading.json_object(response), notes)
        if response.status >= 300 or (envelope is not None and envelope.value.success is False):
            return _failed(response, envelope, notes)
        if envelope is None:
            return reading.not_understood("not_json", notes)
        results = (envelope.value.data or {}).get("results")
        if not isinstance(results, list):
            return reading.not_understood("unreadable_reply", notes)

        records = [reading.part(_Record, raw, notes) for raw in results]
        by_position = self.options.allow_positional and all(
            record is not None and record.value.identifier is None for record in records
        )
        if by_position and len(records) != len(call.items):
            notes.add("length_mismatch")
            return reading.not_understood("length_mismatch", notes)
        if records and not by_position and not any(_is_named(record) for record in records):
            return reading.not_understood("no_identifiers", notes)

        cost = reading.cost_micro((envelope.value.meta or {}).get("costCents"), notes)
        roll = RollCall({item.key: item for item in call.items}, notes)
        answers: list[Answer] = []
        for position, record in enumerate(records):
            if record is None:
                notes.add("unreadable_item")
                continue
            sent = call.items[position].key if by_position else record.value.identifier
            item = roll.take(sent)
            if item is not None:
                answers += _answers(record, item, call.group == PERSONAL_EMAIL, notes)
        roll.close()
        if cost is None:
            # What a record costs is assumed of the reply: by itself it is no statement of a bill.
            answers = [replace(answer, cost_micro=None) for answer in answers]
        return Reply(Disposition.ANSWERED, tuple(answers), cost_micro=cost, anomalies=notes.codes())

    def balance_request(self) -> HttpRequest:
        return HttpRequest("GET", "/credits")

    def read_balance(self, response: HttpResponse) -> int | None:
        """Assumption: the figure stands at the top or, as elsewhere in this API, in `data`."""
        body = reading.json_object(response) or {}
        data = body.get("data")
        if response.status != 200:
            return None
        holder = data if isinstance(data, dict) else body
        return reading.amount_micro(holder.get("purchasedBalanceCents"))


def _failed(response: HttpResponse, envelope: Part[_Envelope] | None, notes: Notes) -> Reply:
    error = (envelope.value.error if envelope is not None else None) or _Error()
    known = reading.codes_of(ERRORS)
    is_own = error.code in known or (envelope is not None and envelope.value.success is False)
    disposition = reading.classify(
        ERRORS, response.status, code=error.code or "", is_own_json=is_own
    )
    if disposition is Disposition.TRANSIENT and response.status < 400:
        # Only failed requests are documented as free, and this one has the status of a success.
        disposition = Disposition.IN_DOUBT
    return reading.failure(
        disposition,
        response,
        notes,
        code=error.code,
        known=known,
        retry_after=reading.seconds(error.retry_after),
    )


def _is_named(record: Part[_Record] | None) -> bool:
    return record is not None and record.value.identifier is not None


def _answers(
    record: Part[_Record], item: Item, is_personal_asked: bool, notes: Notes
) -> tuple[Answer, ...]:
    """The verdict on a record; none when a part of it was unreadable."""
    body = record.value
    person = body.person or _Person()
    values: tuple[FoundValue, ...] = ()
    if body.matched is not False:
        values = _values(person, is_personal_asked and item.person.personal_email_consent, notes)
    subject = Subject(
        first_name=reading.text(person.first_name),
        last_name=reading.text(person.last_name),
        full_name=reading.text(person.full_name),
        linkedin=reading.linkedin_slug(person.linkedin_url),
    )
    found = reading.is_usable(values)
    if not found and (record.is_damaged or (body.matched is None and body.person is None)):
        notes.add("unreadable_item")
        return ()
    return tuple(
        Answer(
            item.key,
            product,
            Verdict.FOUND if found else Verdict.NOT_FOUND,
            values,
            subject,
            cost_micro=reading.cost_micro(body.cost_cents, notes),
            reason=None
            if found
            else MATCHED_NO_DATA
            if body.matched is not False
            else "not_matched",
        )
        for product in sorted(item.products)
    )


def _values(person: _Person, is_personal_allowed: bool, notes: Notes) -> tuple[FoundValue, ...]:
    """agntdata states no status of an address and no time at which it was established."""
    unknown = ValueStatus.UNKNOWN
    values = reading.email(Attribute.WORK_EMAIL, person.email, unknown, notes)
    if is_personal_allowed:
        values += reading.email(Attribute.PERSONAL_EMAIL, person.personal_email, unknown, notes)
    return values + reading.profile(
        notes,
        title=person.job_title,
        company=person.company_name,
        domain=person.company_domain,
        linkedin=person.linkedin_url,
        location=person.location,
    )


provider = Agntdata
