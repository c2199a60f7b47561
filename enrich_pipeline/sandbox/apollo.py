"""Apollo, simulated: bulk people enrichment with phones and waterfalls by webhook.

POST /people/bulk_match, GET /webhook_result/{request_id}, POST /usage_stats/credit_usage_stats.
Follows the Apollo API reference, "Bulk people enrichment" and "Webhook results". 1 credit a match,
every time; 8 more when a mobile is delivered, 5 for a waterfall e-mail. The reply to a waterfall
reports no credits, its match included; a callback reports the credits that fell with it. A callback
that nobody took leaves a stored result without its values. How people are shown is in
`apollo_people`.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from . import apollo_people as people
from . import identifiers as ids
from .answers import View
from .humans import Asked, Human, fingerprint
from .serving import Call, Endpoint, Provider, Refused, Reply, RuleBroken
from .world import decimal_text, plain_number

MAXIMUM = 10
_FLAGS = (
    "run_waterfall_email", "run_waterfall_phone", "reveal_personal_emails", "reveal_phone_number",
)  # fmt: skip
_MOBILE = "mobile"
_WATERFALLS = ("waterfall_email", "waterfall_phone")
_DETAIL = frozenset(
    {
        "first_name", "last_name", "name", "email", "hashed_email", "organization_name", "domain",
        "id", "linkedin_url",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Match:
    human: Human
    view: View
    sent: int


@dataclass(slots=True)
class _Later:
    """An asynchronous part of one request: its mobiles, or its waterfalls."""

    request_id: int
    products: list[str]
    matches: list[_Match]
    requested: int
    url: str
    call: int
    reserved: int = 0
    payload: dict[str, Any] | None = None
    webhook_status: str = "in_progress"

    @property
    def is_waterfall(self) -> bool:
        return _MOBILE not in self.products


class Apollo(Provider):
    name: ClassVar[str] = "apollo"

    def reset(self) -> None:
        self._random = random.Random(self.world.config.seed)
        self._later: dict[str, _Later] = {}
        self._phones_under_way: set[int] = set()

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint("POST", "/people/bulk_match", self._bulk_match, is_billable=True),
            Endpoint("GET", "/webhook_result/{request_id}", self._webhook_result),
            Endpoint("POST", "/usage_stats/credit_usage_stats", self._usage),
        ]

    def key_of(self, headers: Mapping[str, str]) -> str:
        return headers.get("x-api-key", "")

    def unauthorized(self) -> Reply:
        return Reply("Invalid access credentials.", 401, {}, "text/plain; charset=utf-8")

    def rate_limited(self, seconds: float) -> Reply:
        wait = max(1, round(seconds + 0.5))
        message = "The maximum number of api calls allowed was reached"
        return Reply({"message": message}, 429, {"retry-after": str(wait)})

    def insufficient(self) -> Reply:
        return _error(422, "INSUFFICIENT_CREDITS", "Insufficient credits")

    def invalid(self, message: str) -> Reply:
        return _error(400, "INVALID_REQUEST", message)

    def failure(self, status: int) -> Reply:
        return _error(status, "UNKNOWN_ERROR", "Something went wrong")

    def standing_headers(self) -> dict[str, str]:
        limiter = self.world.limits[self.name]
        limit, left = limiter.limit.per_minute, limiter.minute_left
        headers = {
            f"x-{window}": ""
            for window in (
                "rate-limit-hourly", "rate-limit-24-hour", "hourly-usage", "24-hour-usage",
                "hourly-requests-left", "24-hour-requests-left",
            )
        }  # fmt: skip
        headers["x-rate-limit-minute"] = "" if limit is None else f"{limit:g}"
        headers["x-minute-requests-left"] = "" if left is None else str(left)
        used = "" if limit is None or left is None else str(max(0, int(limit) - left))
        headers["x-minute-usage"] = used
        return headers

    def records_of(self, body: Any) -> Any:
        return body.get("details")

    def human_of(self, record: Any) -> Human | None:
        return self.world.resolve(_asked(record)) if isinstance(record, dict) else None

    def items_of(self, body: Any) -> list[Any] | None:
        items: list[Any] | None = body.get("matches")
        return items

    def add_cost(self, body: Any, micro: int) -> None:
        if "credits_consumed" in body:
            body["credits_consumed"] += plain_number(micro)

    def _usage(self, call: Call) -> Reply:
        used = self.world.meter.charged.get(self.name, 0)
        left = self.world.balance(self.name)
        return Reply({"credits_remaining": decimal_text(left), "credits_used": decimal_text(used)})

    def _bulk_match(self, call: Call) -> Reply:
        flags, url = self._query(call)
        details = self._details(call)
        wants_email = flags["run_waterfall_email"]
        is_waterfall = wants_email or flags["run_waterfall_phone"]
        wants_mobile = flags["reveal_phone_number"] and not flags["run_waterfall_phone"]
        found = [self._match(detail) for detail in details]
        matches = list({match.human.number: match for match in found if match}.values())
        price, rates = self.world.prices["apollo.match"], self.world.rates
        late = [name for name in _WATERFALLS if flags[f"run_{name}"]] + [_MOBILE] * wants_mobile
        most = price + self._late_price(late)
        if not self.world.can_afford(self.name, most * len(matches)):
            raise Refused("insufficient", self.insufficient())
        for match in matches:
            call.charged.append(match.human)
            self.world.charge(
                match.human.number, self.name, "match", call.number, identifiers=match.sent
            )
        request_id = self._request_id()
        reply: dict[str, Any] = {
            "request_id": request_id,
            "status": "success",
            "error_code": None,
            "error_message": None,
            "total_requested_enrichments": len(details),
        }
        personal = flags["reveal_personal_emails"]
        shown = [
            m and people.person(m.view, rates, personal=personal, with_email=not wants_email)
            for m in found
        ]
        if is_waterfall:
            waterfalls = [name for name in late if name != _MOBILE]
            reply["waterfall"] = self._promise(
                _Later(request_id, waterfalls, matches, len(details), url, call.number)
            )
        else:
            reply["unique_enriched_records"] = len(matches)
            reply["missing_records"] = sum(match is None for match in found)
            reply["credits_consumed"] = plain_number(price * len(matches))
        if wants_mobile:
            phone_id = self._request_id() if is_waterfall else request_id
            reply["phone_enrichment"] = self._promise(
                _Later(phone_id, [_MOBILE], matches, len(details), url, call.number)
            )
        reply["matches"] = shown
        return Reply(reply)

    def _webhook_result(self, call: Call) -> Reply:
        text = call.path["request_id"]
        if not text.lstrip("-").isdigit():
            raise RuleBroken("request_id", Reply({"error_code": "invalid_request_id"}, 400))
        later = self._later.get(text)
        if later is None:
            raise Refused("unknown", Reply({"error_code": "request_id_unknown"}, 404))
        if later.payload is None:
            pending = {"error_code": "result_pending", "retry_after_seconds": 1}
            raise Refused("pending", Reply(pending, 404))
        payload = later.payload
        if later.webhook_status == "failed":
            payload = people.without_values(payload)
        return Reply(
            {
                "request_id": text,
                "webhook_status": later.webhook_status,
                "request_type": "waterfall" if later.is_waterfall else "phone",
                "last_dispatched_at": None,
                "failure_reason": None,
                "webhook_result": payload,
            }
        )

    def _query(self, call: Call) -> tuple[dict[str, bool], str]:
        flags = dict.fromkeys(_FLAGS, False)
        url = ""
        seen: set[str] = set()
        for name, value in call.query:
            if name in seen or (name not in flags and name != "webhook_url"):
                raise self.broken("query_parameter", "A query parameter is not documented")
            seen.add(name)
            if name == "webhook_url":
                url = value
            elif value.lower() in ("true", "false"):
                flags[name] = value.lower() == "true"
            else:
                raise self.broken("flag", "Flags are true or false")
        needs_url = any(flags[name] for name in _FLAGS if name != "reveal_personal_emails")
        if needs_url and not url:
            raise self.broken("webhook_missing", "webhook_url is required with these parameters")
        if url and not needs_url:
            raise self.broken("webhook_without_flag", "webhook_url is only for phones, waterfalls")
        if url and not self.world.is_acceptable_webhook(url):
            raise self.broken("webhook_url", "webhook_url is not acceptable")
        return flags, url

    def _details(self, call: Call) -> list[dict[str, str]]:
        body = self.json_object(call, frozenset({"details"}))
        details = body.get("details")
        if not isinstance(details, list) or not details:
            raise self.broken("details", "details must be an array of objects")
        if len(details) > MAXIMUM:
            error = self.broken("batch_size", "Too many records")
            error.reply.body["error_code"] = "RECORD_LIMIT_EXCEEDED"
            raise error
        for detail in details:
            if not isinstance(detail, dict):
                raise self.broken("detail_not_object", "Each detail must be an object")
            self.only_strings(detail, _DETAIL)
            domain = detail.get("domain", "")
            if "@" in domain or domain.lower().startswith(("www.", "http")):
                raise self.broken("malformed_domain", "domain is given without www and @")
        return details

    def _match(self, detail: dict[str, str]) -> _Match | None:
        asked = _asked(detail)
        human = self.world.resolve(asked)
        if human is None:
            return None
        view = self.world.view(human, self.name, bool(asked.last or asked.slug))
        if not view.knows(0, self.world.rates["apollo.profile"]):
            return None
        return _Match(human, view, fingerprint(asked))

    def _promise(self, later: _Later) -> dict[str, Any]:
        """The status of an asynchronous part, which is scheduled unless nothing is to come."""
        request_id = str(later.request_id)
        if not later.is_waterfall:
            under_way = self._phones_under_way
            later.matches = [m for m in later.matches if m.human.number not in under_way]
        if not later.matches:
            status = "rejected" if later.is_waterfall else "skipped"
            return {"request_id": request_id, "status": status, "message": "Nothing to do"}
        self._later[request_id] = later
        later.reserved = self._late_price(later.products) * len(later.matches)
        self.world.reserved[self.name] += later.reserved
        if not later.is_waterfall:
            self._phones_under_way.update(match.human.number for match in later.matches)
        shortest, longest = self.world.config.apollo_delay_s
        delay = shortest + (longest - shortest) * self._random.random()
        self.world.courier.after(delay, lambda: self._finish(later))
        message = "Results will be delivered to the webhook"
        if later.is_waterfall:
            return {"status": "accepted", "message": message}
        return {"request_id": request_id, "status": "pending", "message": message}

    def _finish(self, later: _Later) -> None:
        """The results are found, charged and sent."""
        world = self.world
        if not later.is_waterfall:
            self._phones_under_way.difference_update(m.human.number for m in later.matches)
        world.reserved[self.name] -= later.reserved
        rates = world.rates
        spent = 0
        found = dict.fromkeys(later.products, 0)
        delivered: list[dict[str, Any]] = []
        for match in later.matches:
            person: dict[str, Any] = {"id": match.view.truth.apollo_id, "status": "success"}
            for product in later.products:
                if product == "waterfall_email":
                    values = person["emails"] = people.waterfall_emails(match.view, rates)
                else:
                    values = person["phone_numbers"] = people.phone_numbers(match.view, rates)
                if values:
                    found[product] += 1
                    spent += world.charge(
                        match.human.number, self.name, product, later.call, identifiers=match.sent
                    )
            delivered.append(person)
        world.meter.save()
        later.payload = _payload(later, delivered, found, spent)

        def done(is_delivered: bool) -> None:
            later.webhook_status = "success" if is_delivered else "failed"

        world.courier.deliver(self.name, later.url, later.payload, done)

    def _late_price(self, products: list[str]) -> int:
        return sum(self.world.prices[f"apollo.{product}"] for product in products)

    def _request_id(self) -> int:
        """Signed 64-bit numbers, as often negative as not."""
        return self._random.randrange(-(1 << 63), 1 << 63)


def _payload(
    later: _Later, delivered: list[dict[str, Any]], found: dict[str, int], spent: int
) -> dict[str, Any]:
    """The body of a callback; that of mobiles does not name its request."""
    common = {
        "status": "success",
        "total_requested_enrichments": later.requested,
        "credits_consumed": plain_number(spent),
        "people": delivered,
    }
    if not later.is_waterfall:
        mobiles = found[_MOBILE]
        counts = {"unique_enriched_records": mobiles, "missing_records": len(delivered) - mobiles}
        return {**common, **counts}
    emails, phones = found.get("waterfall_email"), found.get("waterfall_phone")
    return {
        **common,
        "request_id": later.request_id,
        "target_fields": [name.removeprefix("waterfall_") for name in later.products],
        "records_enriched": sum(bool(p.get("emails") or p.get("phone_numbers")) for p in delivered),
        "email_records_enriched": emails or 0,
        "mobile_records_enriched": phones or 0,
        "email_records_not_found": 0 if emails is None else len(delivered) - emails,
        "mobile_records_not_found": 0 if phones is None else len(delivered) - phones,
    }


def _asked(detail: Mapping[str, Any]) -> Asked:
    first, last = ids.name_of(detail.get("first_name"), detail.get("last_name"), detail.get("name"))
    return Asked(
        slug=ids.linkedin_slug(detail.get("linkedin_url")),
        email=ids.email_address(detail.get("email")),
        first=first,
        last=last,
        company=ids.clean(detail.get("organization_name")),
        domain=ids.web_domain(detail.get("domain")),
        apollo_id=ids.clean(detail.get("id")).lower() or None,
    )


def _error(status: int, code: str, message: str) -> Reply:
    return Reply({"status": "failed", "error_code": code, "error_message": message}, status)
