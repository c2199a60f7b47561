"""agntdata, simulated: POST /people/bulk-enrich and GET /credits.

Follows the agntdata API catalogue, "Bulk enrich people". Where it is silent: every input needs a
distinct `identifier`, which the result echoes; a matched record costs 1 cent, a miss nothing; a cap
below the price makes every record a miss. One bad input refuses the whole call.
"""

import time
from collections.abc import Mapping
from typing import Any, ClassVar

from . import identifiers as ids
from .answers import View, mobile_share
from .config import MICRO
from .humans import Asked, Human, fingerprint
from .serving import Call, Endpoint, Provider, Refused, Reply
from .world import plain_number

MAXIMUM = 100
FIELDS = (
    "email", "personal_email", "phone", "job_title", "company_name", "company_domain",
    "linkedin_url", "location",
)  # fmt: skip
_BODY = frozenset({"inputs", "fields", "max_cost_cents_per_record"})
_IDENTIFIERS = frozenset({"email", "linkedin_url"})
_INPUT = frozenset({"identifier", "email", "linkedin_url", "identifiers"})
_FORBIDDEN = frozenset({"first_name", "last_name", "domain"})


class Agntdata(Provider):
    name: ClassVar[str] = "agntdata"

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint("POST", "/people/bulk-enrich", self._bulk_enrich, is_billable=True),
            Endpoint("GET", "/credits", self._credits),
        ]

    def key_of(self, headers: Mapping[str, str]) -> str:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        return key.strip() if scheme == "Bearer" else ""

    def unauthorized(self) -> Reply:
        return _error(401, "UNAUTHORIZED", "Invalid or missing API key")

    def rate_limited(self, seconds: float) -> Reply:
        wait = max(1, round(seconds + 0.5))
        reply = _error(429, "RATE_LIMITED", "Too many requests")
        reply.body["error"]["retryAfter"] = wait
        reply.headers["Retry-After"] = str(wait)
        return reply

    def insufficient(self) -> Reply:
        return _error(402, "INSUFFICIENT_CREDITS", "Insufficient credits")

    def invalid(self, message: str) -> Reply:
        return _error(400, "VALIDATION_ERROR", message)

    def failure(self, status: int) -> Reply:
        code = "PROVIDER_UNAVAILABLE" if status == 503 else "INTERNAL_ERROR"
        return _error(status, code, "Something went wrong")

    def records_of(self, body: Any) -> Any:
        return body.get("inputs")

    def human_of(self, record: Any) -> Human | None:
        return self.world.resolve(_asked(record)) if isinstance(record, dict) else None

    def items_of(self, body: Any) -> list[Any] | None:
        return body["data"]["results"] if "data" in body else None

    def add_cost(self, body: Any, micro: int) -> None:
        body["meta"]["costCents"] += plain_number(micro)

    def _credits(self, call: Call) -> Reply:
        return Reply({"purchasedBalanceCents": plain_number(self.world.balance(self.name))})

    def _bulk_enrich(self, call: Call) -> Reply:
        started = time.monotonic()
        body = self.json_object(call, _BODY)
        inputs, fields, cap = self._checked(body)
        price = self.world.prices["agntdata.record"]
        results: list[dict[str, Any]] = []
        paid: list[tuple[Human, Asked]] = []
        for item in inputs:
            asked = _asked(item)
            human = self.world.resolve(asked)
            person = None
            if human is not None and (cap is None or price <= cap * MICRO):
                person = self._person(human, asked, fields)
            if human is not None and person is not None:
                paid.append((human, asked))
            results.append(
                {
                    "identifier": item["identifier"],
                    "matched": person is not None,
                    "person": person,
                    "cost_cents": 0 if person is None else plain_number(price),
                }
            )
        if not self.world.can_afford(self.name, price * len(paid)):
            raise Refused("insufficient", self.insufficient())
        options = ",".join(sorted(fields))
        for human, asked in paid:
            sent = fingerprint(asked)
            self.world.charge(
                human.number, self.name, "record", call.number, options=options, identifiers=sent
            )
            call.charged.append(human)
        meta = {
            "costCents": plain_number(price * len(paid)),
            "purchasedBalanceCents": plain_number(self.world.balance(self.name)),
            "cached": False,
            "latencyMs": round((time.monotonic() - started) * 1000),
        }
        return Reply({"success": True, "data": {"results": results}, "meta": meta})

    def _checked(
        self, body: dict[str, Any]
    ) -> tuple[list[dict[str, Any]], list[str], int | float | None]:
        inputs, fields = body.get("inputs"), body.get("fields")
        cap = body.get("max_cost_cents_per_record")
        if not isinstance(inputs, list) or not 1 <= len(inputs) <= MAXIMUM:
            raise self.broken("batch_size", f"inputs must hold 1 to {MAXIMUM} records")
        if not isinstance(fields, list) or not fields or not set(fields) <= set(FIELDS):
            raise self.broken("fields", f"fields must be some of {', '.join(FIELDS)}")
        if len(set(fields)) != len(fields):
            raise self.broken("fields", "fields must be distinct")
        if cap is not None and (
            isinstance(cap, bool) or not isinstance(cap, int | float) or cap < 0
        ):
            raise self.broken("cost_cap", "max_cost_cents_per_record must be a number")
        seen: set[str] = set()
        for item in inputs:
            self._check_input(item, seen)
        return inputs, fields, cap

    def _check_input(self, item: Any, seen: set[str]) -> None:
        if not isinstance(item, dict):
            raise self.broken("input_not_object", "Each input must be an object")
        nested = item.get("identifiers", {})
        if not isinstance(nested, dict):
            raise self.broken("input_not_object", "identifiers must be an object")
        if _FORBIDDEN & (set(item) | set(nested)):
            raise self.broken("forbidden_input", "first_name, last_name, domain are not accepted")
        self.only_known(item, _INPUT)
        self.only_strings(nested, _IDENTIFIERS)
        identifier = item.get("identifier")
        if not isinstance(identifier, str) or not 1 <= len(identifier) <= 128:
            raise self.broken("identifier", "Each input needs an identifier")
        if identifier in seen:
            raise self.broken("duplicate_identifier", "Identifiers must be distinct")
        seen.add(identifier)
        email = item.get("email", nested.get("email"))
        linkedin = item.get("linkedin_url", nested.get("linkedin_url"))
        if email is None and linkedin is None:
            raise self.broken("missing_datapoint", "Each input needs email and/or linkedin_url")
        if email is not None and ids.email_address(email) is None:
            raise self.broken("malformed_email", "email is not an address")
        if linkedin is not None and ids.linkedin_slug(linkedin) is None:
            raise self.broken("malformed_linkedin_url", "linkedin_url is not a profile address")

    def _person(self, human: Human, asked: Asked, fields: list[str]) -> dict[str, Any] | None:
        """The requested fields, or None for a miss (which includes having none of them)."""
        world, rates = self.world, self.world.rates
        # The reply holds no name: only the profile address could show that it is somebody else.
        can_confuse = asked.slug is not None and "linkedin_url" in fields
        view = world.view(human, self.name, can_confuse)
        if not view.knows(0, rates["agntdata.record"]):
            return None
        known = {
            "email": self._email(view),
            "personal_email": self._has(view, 2, "personal_email", view.truth.personal_email),
            "phone": self._has(view, 3, "phone", view.truth.mobile),
            "job_title": view.job.title,
            "company_name": view.job.company,
            "company_domain": view.job.domain,
            "linkedin_url": view.truth.linkedin_url,
            "location": view.truth.location,
        }
        person = {name: known[name] or None for name in fields}
        return person if any(person.values()) else None

    def _email(self, view: View) -> str | None:
        rates = self.world.rates
        if not view.knows(1, rates["agntdata.email"], rates["agntdata.record"]):
            return None
        return view.email(1 - rates["agntdata.guessed_share"])[0]

    def _has(self, view: View, throw: int, name: str, value: str) -> str | None:
        rates = self.world.rates
        among = rates["agntdata.record"]
        among *= mobile_share(rates) if name == "phone" else rates["truth.personal_email"]
        return value if view.knows(throw, rates[f"agntdata.{name}"], among) else None


def _asked(item: dict[str, Any]) -> Asked:
    nested = item.get("identifiers")
    if not isinstance(nested, dict):
        nested = {}
    return Asked(
        slug=ids.linkedin_slug(item.get("linkedin_url", nested.get("linkedin_url"))),
        email=ids.email_address(item.get("email", nested.get("email"))),
    )


def _error(status: int, code: str, message: str) -> Reply:
    return Reply({"success": False, "error": {"code": code, "message": message}}, status)
