"""Prospeo, simulated: POST /bulk-enrich-person and GET /account-information.

Follows the Prospeo API reference, "Bulk enrich person", and its Person and Company objects. A match
costs 1 credit, with a delivered mobile 10; a person matched before is free for the account's
lifetime, and a later mobile costs the difference.
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from . import identifiers as ids
from .answers import View, mobile_share
from .config import MICRO
from .humans import Asked, Human, fingerprint
from .serving import Call, Endpoint, Provider, Refused, Reply
from .world import plain_number

MAXIMUM = 50
_FLAGS = ("only_verified_email", "enrich_mobile", "only_verified_mobile")
_BODY = frozenset({*_FLAGS, "data"})
_ITEM = frozenset(
    {
        "identifier", "first_name", "last_name", "full_name", "linkedin_url", "email",
        "company_name", "company_website", "company_linkedin_url", "person_id",
    }
)  # fmt: skip
_IDENTIFIER = re.compile(r"^[A-Za-z0-9_-]{1,64}$")


class Prospeo(Provider):
    name: ClassVar[str] = "prospeo"

    def reset(self) -> None:
        """What each human has cost so far, by number, from the meter of an earlier run."""
        self._paid: dict[int, int] = {}
        for charge in self.world.meter:
            if charge.provider == self.name and charge.product in ("match", "mobile"):
                self._paid[charge.human] = self._paid.get(charge.human, 0) + charge.amount

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint("POST", "/bulk-enrich-person", self._bulk_enrich, is_billable=True),
            Endpoint("GET", "/account-information", self._account),
        ]

    def key_of(self, headers: Mapping[str, str]) -> str:
        return headers.get("x-key", "")

    def unauthorized(self) -> Reply:
        return _error(401, "INVALID_API_KEY")

    def rate_limited(self, seconds: float) -> Reply:
        reply = _error(429, "RATE_LIMITED")
        reply.headers["x-minute-reset-seconds"] = str(max(1, round(seconds + 0.5)))
        if seconds > 1:
            reply.headers["x-minute-request-left"] = "0"
        return reply

    def insufficient(self) -> Reply:
        return _error(400, "INSUFFICIENT_CREDITS")

    def invalid(self, message: str) -> Reply:
        return _error(400, "INVALID_REQUEST")

    def failure(self, status: int) -> Reply:
        # The vendor answers its own failures with 400; other statuses come from its gateway.
        return _error(status, "INTERNAL_ERROR")

    def standing_headers(self) -> dict[str, str]:
        limiter = self.world.limits[self.name]
        headers = {}
        if limiter.limit.per_second is not None:
            headers["x-second-rate-limit"] = f"{limiter.limit.per_second:g}"
        if limiter.limit.per_minute is not None:
            headers["x-minute-rate-limit"] = f"{limiter.limit.per_minute:g}"
            headers["x-minute-request-left"] = str(limiter.minute_left)
            headers["x-minute-reset-seconds"] = "60"
        return headers

    def records_of(self, body: Any) -> Any:
        return body.get("data")

    def human_of(self, record: Any) -> Human | None:
        return self.world.resolve(_asked(record)) if isinstance(record, dict) else None

    def items_of(self, body: Any) -> list[Any] | None:
        items: list[Any] | None = body.get("matched") or body.get("not_matched")
        return items

    def add_cost(self, body: Any, micro: int) -> None:
        body["total_cost"] += micro // MICRO

    def _account(self, call: Call) -> Reply:
        left = plain_number(self.world.balance(self.name))
        return Reply({"error": False, "response": {"remaining_credits": left}})

    def _bulk_enrich(self, call: Call) -> Reply:
        body = self.json_object(call, _BODY)
        data = self._checked(body)
        only_verified_email = bool(body.get("only_verified_email"))
        only_verified_mobile = bool(body.get("only_verified_mobile"))
        enrich_mobile = bool(body.get("enrich_mobile")) or only_verified_mobile
        matched: list[dict[str, Any]] = []
        not_matched: list[str] = []
        invalid: list[str] = []
        costs: dict[int, tuple[Human, bool, int, int]] = {}
        for item in data:
            for rule in _malformed(item):
                self.note(call, rule)
            asked = _asked(item)
            if not _is_enough(item, asked):
                self.note(call, "missing_datapoint")
                invalid.append(item["identifier"])
                continue
            human = self.world.resolve(asked)
            found = None if human is None else self._found(human, asked, enrich_mobile)
            if (
                human is None
                or found is None
                or (only_verified_email and not found[1])
                or (only_verified_mobile and not found[2])
            ):
                not_matched.append(item["identifier"])
                continue
            has_mobile = enrich_mobile and found[2]
            known = costs.get(human.number)
            if known is None or (has_mobile and not known[1]):
                price = self.world.prices["prospeo.mobile" if has_mobile else "prospeo.match"]
                due = max(0, price - self._paid.get(human.number, 0))
                costs[human.number] = (human, has_mobile, due, fingerprint(asked))
            matched.append({"identifier": item["identifier"], **found[0]})
        total = sum(cost[2] for cost in costs.values())
        if total and not self.world.can_afford(self.name, total):
            raise Refused("insufficient", self.insufficient())
        for human, _, due, sent in costs.values():
            self._charge(call, human, due, sent)
        return Reply(
            {
                "error": False,
                "total_cost": total // MICRO,
                "matched": matched,
                "not_matched": not_matched,
                "invalid_datapoints": invalid,
            }
        )

    def _charge(self, call: Call, human: Human, due: int, sent: int) -> None:
        """The meter keeps the two products apart: the match, and what a mobile adds to it."""
        paid = self._paid.get(human.number, 0)
        self._paid[human.number] = paid + due
        parts = {"match": min(due, max(0, self.world.prices["prospeo.match"] - paid))}
        parts["mobile"] = due - parts["match"]
        for product, amount in parts.items():
            self.world.charge(
                human.number, self.name, product, call.number, amount=amount, identifiers=sent
            )
        call.charged.append(human)

    def _checked(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        data = body.get("data")
        if not isinstance(data, list) or not 1 <= len(data) <= MAXIMUM:
            raise self.broken("batch_size", f"data must hold 1 to {MAXIMUM} records")
        for flag in _FLAGS:
            if not isinstance(body.get(flag, False), bool):
                raise self.broken("flag", "Flags are booleans")
        seen: set[str] = set()
        for item in data:
            if not isinstance(item, dict):
                raise self.broken("item_not_object", "Each record must be an object")
            self.only_strings(item, _ITEM)
            identifier = item.get("identifier", "")
            if not _IDENTIFIER.match(identifier):
                raise self.broken("identifier", "identifier is missing or malformed")
            if identifier in seen:
                raise self.broken("duplicate_identifier", "identifier must be unique")
            seen.add(identifier)
        return data

    def _found(
        self, human: Human, asked: Asked, enrich_mobile: bool
    ) -> tuple[dict[str, Any], bool, bool] | None:
        """The match, whether its e-mail is verified, whether it has a mobile; None for a miss."""
        rates = self.world.rates
        view = self.world.view(human, self.name, bool(asked.last or asked.slug))
        if not view.knows(0, rates["prospeo.match"]):
            return None
        email, is_verified = self._email(view)
        mobile = view.truth.mobile
        if not view.knows(2, rates["prospeo.mobile"], rates["prospeo.match"] * mobile_share(rates)):
            mobile = ""
        person = _person(view, email, _mobile(view, mobile, enrich_mobile))
        return {"person": person, "company": _company(view)}, is_verified, bool(mobile)

    def _email(self, view: View) -> tuple[dict[str, Any], bool]:
        rates = self.world.rates
        if not view.knows(1, rates["prospeo.email"], rates["prospeo.match"]):
            return {
                "status": "UNAVAILABLE", "revealed": False, "email": None,
                "verification_method": None, "email_mx_provider": None,
            }, False  # fmt: skip
        address, quality = view.email(rates["prospeo.verified_share"])
        is_verified = quality == "verified"
        return {
            "status": "VERIFIED" if is_verified else "UNVERIFIED",
            "revealed": True,
            "email": address,
            "verification_method": view.dice.pick(3, ("SMTP", "BOUNCEBAN")),
            "email_mx_provider": view.dice.pick(4, ("Google", "Microsoft", "Other")),
        }, is_verified


def _malformed(item: Mapping[str, str]) -> list[str]:
    """Datapoints that cannot be read: they count as absent."""
    rules = []
    if item.get("linkedin_url") and ids.linkedin_slug(item["linkedin_url"]) is None:
        rules.append("malformed_linkedin_url")
    if item.get("email") and ids.email_address(item["email"]) is None:
        rules.append("malformed_email")
    return rules


def _is_enough(item: Mapping[str, str], asked: Asked) -> bool:
    """The documented minimum requirements for matching."""
    if asked.slug or asked.email or asked.prospeo_id:
        return True
    has_company = any(
        item.get(name) for name in ("company_name", "company_website", "company_linkedin_url")
    )
    has_name = item.get("full_name") or (item.get("first_name") and item.get("last_name"))
    return bool(has_company and has_name)


def _asked(item: Mapping[str, Any]) -> Asked:
    first, last = ids.name_of(item.get("first_name"), item.get("last_name"), item.get("full_name"))
    return Asked(
        slug=ids.linkedin_slug(item.get("linkedin_url")),
        email=ids.email_address(item.get("email")),
        first=first,
        last=last,
        company=ids.clean(item.get("company_name")),
        domain=ids.web_domain(item.get("company_website")),
        prospeo_id=ids.clean(item.get("person_id")).lower() or None,
    )


def _mobile(view: View, mobile: str, is_wanted: bool) -> dict[str, Any]:
    if not mobile:
        return {
            "status": "UNAVAILABLE", "revealed": False, "mobile": None, "mobile_national": None,
            "mobile_international": None, "mobile_country": None, "mobile_country_code": None,
        }  # fmt: skip
    # Not asked for: the vendor shows that there is one, behind asterisks.
    shown = mobile if is_wanted else f"{mobile[:3]} {mobile[3:6]}-**-****"
    return {
        "status": "VERIFIED",
        "revealed": is_wanted,
        "mobile": shown,
        "mobile_national": shown[3:] if is_wanted else shown,
        "mobile_international": shown,
        "mobile_country": view.truth.country,
        "mobile_country_code": view.truth.country_code,
    }


def _person(view: View, email: dict[str, Any], mobile: dict[str, Any]) -> dict[str, Any]:
    truth, job = view.truth, view.job
    return {
        "person_id": truth.prospeo_id,
        "first_name": view.first,
        "last_name": view.last,
        "full_name": view.full_name,
        "linkedin_url": truth.linkedin_url,
        "current_job_title": job.title,
        "current_job_key": f"job-{truth.prospeo_id[:8]}",
        "headline": f"{job.title} at {job.company}",
        "linkedin_member_id": None,
        "last_job_change_detected_at": None,
        "skills": [],
        "job_history": [
            {
                "title": job.title, "company_name": job.company, "logo_url": None, "current": True,
                "start_year": 2019 + view.dice.throw(5) % 6, "start_month": None,
                "end_year": None, "end_month": None, "duration_in_months": None,
                "departments": [], "seniority": None, "company_id": None, "job_key": None,
            }
        ],
        "location": {
            "country": truth.country, "country_code": truth.country_code, "state": None,
            "city": truth.city, "time_zone": truth.time_zone, "time_zone_offset": None,
        },
        "email": email,
        "mobile": mobile,
    }  # fmt: skip


def _company(view: View) -> dict[str, Any]:
    job = view.job
    return {
        "company_id": None,
        "name": job.company,
        "website": f"https://{job.domain}",
        "domain": job.domain,
        "other_websites": [],
        "description": None,
        "type": "Private",
        "industry": None,
        "employee_count": 20 + view.dice.throw(6) % 2000,
        "employee_range": None,
        "location": {"country": view.truth.country, "city": view.truth.city},
        "linkedin_url": f"https://www.linkedin.com/company/{job.domain.partition('.')[0]}",
        "founded": None,
        "keywords": [],
    }


def _error(status: int, code: str) -> Reply:
    return Reply({"error": True, "error_code": code}, status)
