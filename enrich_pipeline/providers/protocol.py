"""What a provider is, to the rest of the pipeline.

A provider is one file that declares what it sells and translates between our words and its API's.
It is pure: it builds requests and reads replies, and never sends, sleeps, logs or touches the
database. The engine (`waterfall/`) does the sending, so that every billable call passes one place.

A provider says what happened (`Reply`); what follows for the money is decided by the engine.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from enrich_pipeline.domain.enrichment import Attribute, Field, ValueStatus


class Datapoint(StrEnum):
    """A fact about a person that a provider may ask for."""

    FIRST_NAME = "first_name"
    LAST_NAME = "last_name"
    FULL_NAME = "full_name"
    EMAIL = "email"
    LINKEDIN = "linkedin"
    COMPANY_NAME = "company_name"
    COMPANY_DOMAIN = "company_domain"
    COMPANY_LINKEDIN = "company_linkedin"
    LANCE_ID = "lance_id"
    PROSPEO_ID = "prospeo_id"
    APOLLO_ID = "apollo_id"
    COUNTRY = "country"


@dataclass(frozen=True, slots=True)
class PersonInputs:
    """The best known datapoints of one person, already normalized.

    `linkedin` is the canonical slug (`jane-doe-1a2b`), never a URL. `first_name` and `last_name`
    are set only where they are unambiguous.
    """

    person_id: int
    datapoints: Mapping[Datapoint, str]
    personal_email_consent: bool = False

    def get(self, datapoint: Datapoint) -> str | None:
        return self.datapoints.get(datapoint)

    @property
    def linkedin_url(self) -> str | None:
        slug = self.datapoints.get(Datapoint.LINKEDIN)
        return f"https://www.linkedin.com/in/{slug}" if slug else None


@dataclass(frozen=True, slots=True)
class Offer:
    """One product as sold under the present configuration, to persons with or without consent.

    `requires` is any-of-all-of: a person is eligible when one of the sets is complete.
    `identity` are the datapoints whose change makes a known miss worth asking again.
    `brings` are products that every call for this one buys as well (a mobile brings its match);
    `repeat_is_charged` says that buying such a product again inside its reuse window costs again.
    `options` distinguishes answers that are not interchangeable (a country list, a field set).
    """

    product: str
    fields: tuple[Field, ...]
    requires: tuple[frozenset[Datapoint], ...]
    identity: tuple[Datapoint, ...]
    options: str = ""
    brings: tuple[str, ...] = ()
    repeat_is_charged: bool = True
    needs_webhook: bool = False

    def is_eligible(self, person: PersonInputs) -> bool:
        return any(all(d in person.datapoints for d in needed) for needed in self.requires)


class Unavailable(StrEnum):
    """Why a product is not offered to a person although it serves the field."""

    NO_CONSENT = "no_consent"
    ACCOUNT_CONSENT = "account_consent_missing"
    NOT_CONFIGURED = "not_configured"


class InDoubtPolicy(StrEnum):
    """What may be done about a call of which nobody knows whether it was charged."""

    AT_MOST_ONCE = "at_most_once"
    """Never sent again; written off at the horizon unless evidence comes."""
    FREE_REREAD = "free_reread"
    """The identical request is free of charge and returns the answer."""
    NATURAL_IDEMPOTENT = "natural_idempotent"
    """The provider itself reuses what it holds for the same subject."""

    @property
    def allows_repetition(self) -> bool:
        """Whether a call in doubt may be sent again, unchanged and free of charge."""
        return self is not InDoubtPolicy.AT_MOST_ONCE


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request below the provider's base URL. `json` is sent exactly as given."""

    method: str
    path: str
    json: object | None = None
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """What came back. Header names are lower case; `truncated` when the size cap was reached."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Quota:
    """What a provider says is left of its window of `seconds`, in requests."""

    seconds: int
    left: int
    resets_in: float | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One person inside a call. `key` is unique in the call, `[a-z0-9]{1,32}`."""

    key: str
    person: PersonInputs
    products: frozenset[str]


@dataclass(frozen=True, slots=True)
class Call:
    """One request for up to `Limits.maximum` persons under one set of call options (`group`).

    `webhook_url` is set when the group needs one; `job_id` once the provider has given one.
    `reference` names the call among all of ours, for providers that echo what they were sent.
    `awaited`: keys of the items whose answers are still out; None: all of them. A poll that asks
    item by item asks for these only.
    """

    group: str
    items: tuple[Item, ...]
    webhook_url: str | None = None
    job_id: str | None = None
    reference: str | None = None
    awaited: frozenset[str] | None = None


class Verdict(StrEnum):
    """What a provider says about one (person, product)."""

    FOUND = "found"
    NOT_FOUND = "not_found"
    INVALID_INPUT = "invalid_input"
    FILTERED = "filtered"
    """Known to the provider but withheld by an option, a price cap or a region: not a miss."""
    PENDING = "pending"
    FAILED = "failed"
    """The provider says that it failed, timed out or was cancelled, without a charge."""


MATCHED_NO_DATA = "matched_no_data"
"""Reason of a miss that costs like a hit: the provider had data, and none of it is usable."""


@dataclass(frozen=True, slots=True)
class FoundValue:
    """One reported value. `observed_at` only where the provider states when it established it."""

    attribute: Attribute
    value: str
    status: ValueStatus
    observed_at: datetime | None = None
    confidence: str | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom an answer is about, as far as the provider says: held against what was sent."""

    first_name: str | None = None
    last_name: str | None = None
    full_name: str | None = None
    linkedin: str | None = None
    email: str | None = None
    provider_id: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The verdict on one charge line.

    `cost_micro` only where the provider reports it per item. `created_at`: when the provider made
    what it answers with, where it says so; work older than our request is not charged again.
    """

    key: str
    product: str
    verdict: Verdict
    values: tuple[FoundValue, ...] = ()
    subject: Subject = Subject()
    cost_micro: int | None = None
    created_at: datetime | None = None
    reason: str | None = None


class Disposition(StrEnum):
    """What happened to a request as a whole."""

    ANSWERED = "answered"
    """Final: every line that got no answer is an anomaly, none is still on its way."""
    ACCEPTED = "accepted"
    """Taken on; lines without a final answer are pending."""
    NOT_READY = "not_ready"
    """A poll that found nothing new."""
    THROTTLED = "throttled"
    """429: nothing happened, come back after `retry_after`."""
    TRANSIENT = "transient"
    """The provider's own word that it failed without a charge; may be sent again."""
    NO_CREDITS = "no_credits"
    UNAUTHORIZED = "unauthorized"
    REFUSED = "refused"
    """Consent, plan or account restriction: a person must change something."""
    INVALID = "invalid"
    """Input refused as a whole: bisect to find the record."""
    IN_DOUBT = "in_doubt"
    """Not understood, or not documented as free of charge."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply in our words.

    `cost_micro`: the provider's own figure for this settlement in micro-credits of its unit;
    None where it states none (then the tariff decides). `webhook_will_come` is False when the
    provider says that no callback follows. `anomalies` are short codes with counts, no values.
    """

    disposition: Disposition
    answers: tuple[Answer, ...] = ()
    cost_micro: int | None = None
    job_id: str | None = None
    retry_after: float | None = None
    reason: str = ""
    anomalies: tuple[str, ...] = ()
    webhook_will_come: bool = True


Poll = Generator[Sequence[HttpRequest], Sequence[HttpResponse], Reply]
"""Yields free requests to be sent at once, receives their responses in order, returns the reply.

It must be a pure function of what it receives: the engine stores the responses before it reads
them and replays the generator from the store after a crash.
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """Documented bounds of one call. `single`: a lone record has an endpoint of its own."""

    minimum: int
    maximum: int
    single: bool = False


class Options(BaseModel):
    """Base of a provider's own settings: unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Provider(ABC):
    """One external API. Subclasses live in one file each and are registered by entry point."""

    name: ClassVar[str]
    title: ClassVar[str]
    default_base_url: ClassVar[str]
    unit: ClassVar[str]
    """What one credit is called: "credit" or "US cent"."""
    limits: ClassVar[Limits]
    in_doubt: ClassVar[InDoubtPolicy]
    options_model: ClassVar[type[Options]] = Options
    default_prices: ClassVar[Mapping[str, str]]
    """Product -> price in credits as a decimal string, by the provider's published tariff."""
    uses_webhooks: ClassVar[bool] = False
    uses_polling: ClassVar[bool] = False

    def __init__(self, options: Options) -> None:
        self.options = options

    @abstractmethod
    def offers(self, *, consented: bool) -> tuple[Offer, ...]:
        """Products sold to persons with or without consent to personal e-mail."""

    def unavailable(self, wanted: Field, *, consented: bool) -> Unavailable | None:
        """Why no offer serves `wanted`, where that is not simply "not sold"."""
        return None

    @abstractmethod
    def groups(self, offers: Sequence[Offer]) -> tuple[tuple[str, tuple[Offer, ...]], ...]:
        """Cuts the offers chosen for one person into calls: (call options, offers of that call).

        `offers` includes those of the products that a chosen one brings.
        """

    def cap_micro(self, product: str) -> int | None:
        """The most that one record may cost, in micro-credits; None where only the tariff says it.

        Held is the dearer of this and the tariff. Sent with the call where the provider takes one.
        """
        return None

    def tariff_micro(self, prices: Mapping[str, int], charged: Sequence[str]) -> int:
        """What the tariff asks for one call in which these products were charged, per person."""
        return sum(prices[product] for product in charged)

    @abstractmethod
    def headers(self, api_key: str) -> dict[str, str]:
        """Authentication headers."""

    @abstractmethod
    def request(self, call: Call) -> HttpRequest:
        """The billable request."""

    @abstractmethod
    def read(self, call: Call, response: HttpResponse) -> Reply:
        """Reads the reply to the billable request. Never raises on any bytes."""

    def quotas(self, response: HttpResponse) -> tuple[Quota, ...]:
        """What the headers of any of its replies say of its rate windows."""
        return ()

    def read_delivery(self, call: Call, body: bytes) -> Reply:
        """Reads one webhook delivery that belongs to `call`. Never raises on any bytes."""
        raise NotImplementedError(f"{self.name} delivers nothing")

    def poll(self, call: Call) -> Poll | None:
        """A free conversation that asks for results; None where this call cannot be polled."""
        return None

    @abstractmethod
    def balance_request(self) -> HttpRequest:
        """Asks for the remaining balance, free of charge."""

    @abstractmethod
    def read_balance(self, response: HttpResponse) -> int | None:
        """Remaining balance in micro-credits, None when it cannot be read."""
