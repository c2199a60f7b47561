"""Pronto, simulated: bulk and single contact enrichment, results by webhook.

POST /contacts/bulk_enrich, POST /contacts/single_enrich, GET /contacts/{enrichment_id}, GET
/credits. Follows the Pronto API reference, "Bulk contact enrichment" and "Single contact
enrichment". Credits are checked for the whole request up front and charged per contact when
something was found. A bulk job's id cannot be polled; its results only come by webhook.
"""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from . import identifiers as ids
from .answers import View, is_permitted, mobile_share
from .humans import Asked, Human, fingerprint
from .serving import Call, Endpoint, Provider, Refused, Reply
from .world import plain_number

MINIMUM, MAXIMUM = 2, 100
TYPES = ("email", "phone", "personal_email")
_CONTACT = frozenset({"firstname", "lastname", "domain", "company_name", "linkedin_url", "custom"})
_SHARED = frozenset({"enrichment_type", "webhook_url", "phone_country_codes"})
_COUNTRY = re.compile(r"^[A-Z]{2}$")


@dataclass(slots=True)
class _Job:
    """One contact under way."""

    enrichment_id: str
    contact: dict[str, Any]
    kind: str
    countries: tuple[str, ...]
    webhook_url: str | None
    call: int
    result: dict[str, Any] | None = None


class Pronto(Provider):
    name: ClassVar[str] = "pronto"

    def reset(self) -> None:
        self._singles: dict[str, _Job] = {}

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint("POST", "/contacts/bulk_enrich", self._bulk, is_billable=True),
            Endpoint("POST", "/contacts/single_enrich", self._single, is_billable=True),
            Endpoint("GET", "/contacts/{enrichment_id}", self._poll),
            Endpoint("GET", "/credits", self._credits),
        ]

    def key_of(self, headers: Mapping[str, str]) -> str:
        return headers.get("x-api-key", "")

    def unauthorized(self) -> Reply:
        return Reply({"error": "Unauthorized"}, 401)

    def rate_limited(self, seconds: float) -> Reply:
        wait = str(max(1, round(seconds + 0.5)))
        return Reply({"error": "Too many requests"}, 429, {"Retry-After": wait})

    def insufficient(self) -> Reply:
        return Reply({"error": "Insufficient credits: not enough enrichment credits"}, 422)

    def invalid(self, message: str) -> Reply:
        return Reply({"errors": [f"Invalid input: {message}"]}, 422)

    def failure(self, status: int) -> Reply:
        return Reply({"error": "Internal server error"}, status)

    def records_of(self, body: Any) -> Any:
        return body.get("contacts", [body])

    def human_of(self, record: Any) -> Human | None:
        return self.world.resolve(_asked(record)) if isinstance(record, dict) else None

    def items_of(self, body: Any) -> list[Any] | None:
        return None

    def _credits(self, call: Call) -> Reply:
        return Reply({"credits": plain_number(self.world.balance(self.name))})

    def _bulk(self, call: Call) -> Reply:
        body = self.json_object(call, _SHARED | {"contacts"})
        contacts = body.get("contacts")
        if not isinstance(contacts, list) or not MINIMUM <= len(contacts) <= MAXIMUM:
            raise self.broken("batch_size", f"contacts must hold {MINIMUM} to {MAXIMUM} contacts")
        kind, countries = self._shared(body)
        if not isinstance(body.get("webhook_url"), str):
            raise self.broken("webhook_missing", "webhook_url is required")
        for contact in contacts:
            self._check_contact(contact, kind)
        return self._accept(call, contacts, kind, countries, body["webhook_url"], is_single=False)

    def _single(self, call: Call) -> Reply:
        body = self.json_object(call, _SHARED | _CONTACT)
        kind, countries = self._shared(body)
        contact = {key: value for key, value in body.items() if key in _CONTACT}
        self._check_contact(contact, kind)
        return self._accept(
            call, [contact], kind, countries, body.get("webhook_url"), is_single=True
        )

    def _poll(self, call: Call) -> Reply:
        job = self._singles.get(call.path["enrichment_id"])
        if job is None:
            raise Refused("unknown", Reply({"error": "Not found"}, 404))
        return Reply(job.result or _body(job, "pending"))

    def _shared(self, body: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
        kinds = body.get("enrichment_type")
        if not isinstance(kinds, list) or len(kinds) != 1 or kinds[0] not in TYPES:
            raise self.broken("enrichment_type", "enrichment_type must hold exactly one type")
        countries = body.get("phone_country_codes", [])
        if not isinstance(countries, list) or not all(
            isinstance(code, str) and _COUNTRY.match(code) for code in countries
        ):
            raise self.broken("country_codes", "phone_country_codes must be ISO alpha-2 codes")
        url = body.get("webhook_url")
        if url is not None and not self.world.is_acceptable_webhook(url):
            raise self.broken("webhook_url", "webhook_url is not acceptable")
        return kinds[0], tuple(countries)

    def _check_contact(self, contact: Any, kind: str) -> None:
        if not isinstance(contact, dict):
            raise self.broken("contact_not_object", "Each contact must be an object")
        if not isinstance(contact.get("custom", {}), dict):
            raise self.broken("custom", "custom must be an object")
        plain = {key: value for key, value in contact.items() if key != "custom"}
        self.only_strings(plain, _CONTACT)
        if not (ids.clean(plain.get("firstname")) and ids.clean(plain.get("lastname"))):
            raise self.broken("missing_datapoint", "firstname and lastname are required")
        if kind == "email":
            if not (plain.get("domain") or plain.get("company_name")):
                raise self.broken("missing_datapoint", "domain or company_name is required")
            if plain.get("domain") and ids.web_domain(plain["domain"]) is None:
                raise self.broken("malformed_domain", "domain is not a domain")
        elif not plain.get("linkedin_url"):
            raise self.broken("missing_datapoint", "linkedin_url is required")
        if plain.get("linkedin_url") and ids.linkedin_slug(plain["linkedin_url"]) is None:
            raise self.broken("malformed_linkedin_url", "linkedin_url is not a profile address")

    def _accept(
        self,
        call: Call,
        contacts: list[dict[str, Any]],
        kind: str,
        countries: tuple[str, ...],
        url: str | None,
        *,
        is_single: bool,
    ) -> Reply:
        world = self.world
        if kind == "personal_email" and not world.pronto_consent:
            message = (
                "You can't use the personal email enrichment feature without consenting with our "
                "terms of use"
            )
            raise Refused("consent", Reply({"error": message}, 422))
        price = world.prices[f"pronto.{kind}"]
        if not world.can_afford(self.name, price * len(contacts)):
            raise Refused("insufficient", self.insufficient())
        world.reserved[self.name] += price * len(contacts)
        enrichment_id = str(uuid.uuid4())
        for contact in contacts:
            job = _Job(enrichment_id, contact, kind, countries, url, call.number)
            if is_single:
                self._singles[enrichment_id] = job
            human = world.resolve(_asked(contact))
            if human is not None:
                call.charged.append(human)
            world.courier.after(self._delay(human), lambda job=job: self._finish(job))  # type: ignore[misc]
        return Reply({"enrichment_id": enrichment_id}, 202)

    def _delay(self, human: Human | None) -> float:
        shortest, longest = self.world.config.pronto_delay_s
        share = 0 if human is None else human.number % 1000 / 1000
        return shortest + (longest - shortest) * share

    def _finish(self, job: _Job) -> None:
        """The result is found, charged and sent."""
        world = self.world
        asked = _asked(job.contact)
        human = world.resolve(asked)
        world.reserved[self.name] -= world.prices[f"pronto.{job.kind}"]
        body = _body(job, "finished")
        if human is not None:
            view = world.view(human, self.name)
            body["first_name"], body["last_name"] = view.first, view.last
            if self._fill(body, view, job):
                world.charge(
                    human.number,
                    self.name,
                    job.kind,
                    job.call,
                    options=",".join(job.countries),
                    identifiers=fingerprint(asked),
                )
                world.meter.save()
        job.result = body
        if job.webhook_url is not None:
            world.courier.deliver(self.name, job.webhook_url, body)

    def _fill(self, body: dict[str, Any], view: View, job: _Job) -> bool:
        """Adds what was found; whether anything was."""
        rates = self.world.rates
        truth = view.truth
        if job.kind == "email" and view.knows(0, rates["pronto.email"]):
            address, quality = view.email(1 - rates["pronto.catch_all_share"])
            body["email"] = address
            body["email_status"] = "deliverable" if quality == "verified" else "catch-all"
            return True
        if job.kind == "personal_email" and truth.personal_email:
            if view.knows(1, rates["pronto.personal_email"], rates["truth.personal_email"]):
                body["personal_email"] = truth.personal_email
                body["personal_email_status"] = "valid"
                return True
        elif job.kind == "phone" and truth.mobile:
            has_it = view.knows(2, rates["pronto.phone"], mobile_share(rates))
            if has_it and is_permitted(truth.mobile, job.countries):
                body["phone"] = [truth.mobile]
                return True
        return False


def _body(job: _Job, status: str) -> dict[str, Any]:
    return {
        "enrichment_id": job.enrichment_id,
        "first_name": job.contact["firstname"],
        "last_name": job.contact["lastname"],
        "status": status,
        "email": None,
        "email_status": "N/A",
        "personal_email": None,
        "personal_email_status": "N/A",
        "phone": [],
        "custom": job.contact.get("custom", {}),
    }


def _asked(contact: Mapping[str, Any]) -> Asked:
    return Asked(
        slug=ids.linkedin_slug(contact.get("linkedin_url")),
        first=ids.plain_name(contact.get("firstname")),
        last=ids.plain_name(contact.get("lastname")),
        company=ids.clean(contact.get("company_name")),
        domain=ids.web_domain(contact.get("domain")),
    )
