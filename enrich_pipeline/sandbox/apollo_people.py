"""How Apollo shows what it knows of people: matches, phone numbers, e-mails.

JSON of the Apollo API reference, "Bulk people enrichment", and of its callbacks. `rates` are shares
of all people (see `config`); what is charged for any of it is not decided here.
"""

from collections.abc import Mapping
from typing import Any

from .answers import View, mobile_share
from .pools import GDPR_COUNTRIES

Rates = Mapping[str, float]


def person(view: View, rates: Rates, *, personal: bool, with_email: bool) -> dict[str, Any]:
    """One entry of `matches`."""
    truth, job = view.truth, view.job
    organization_id = truth.apollo_id[::-1]
    shown: dict[str, Any] = {
        "id": truth.apollo_id,
        "first_name": view.first,
        "last_name": view.last,
        "name": view.full_name,
        "linkedin_url": truth.linkedin_url,
        "title": job.title,
        "photo_url": None,
        "headline": f"{job.title} at {job.company}",
        "organization_id": organization_id,
        "employment_history": [
            {"current": True, "title": job.title, "organization_name": job.company}
        ],
        "state": None,
        "city": truth.city,
        "country": truth.country,
        "organization": {
            "id": organization_id,
            "name": job.company,
            "website_url": f"http://www.{job.domain}",
            "linkedin_url": None,
            "primary_domain": job.domain,
        },
        "departments": [],
        "seniority": None,
    }
    if with_email:
        shown["email"], shown["email_status"] = _email(view, rates)
    if personal:
        shown["personal_emails"] = _personal_emails(view, rates)
    return shown


def phone_numbers(view: View, rates: Rates) -> list[dict[str, Any]]:
    mobile = view.truth.mobile
    among = rates["apollo.profile"] * mobile_share(rates)
    if not mobile or not view.knows(3, rates["apollo.phone"], among):
        return []
    return [
        {
            "raw_number": f"{mobile[:3]} {mobile[3:]}",
            "sanitized_number": mobile,
            "type_cd": "mobile",
            "status_cd": "valid_number",
            "confidence_cd": "high",
            "dnc_status_cd": "not_found",
            "position": 0,
        }
    ]


def waterfall_emails(view: View, rates: Rates) -> list[dict[str, Any]]:
    if not view.knows(4, rates["apollo.waterfall_email"], rates["apollo.profile"]):
        return []
    address, quality = view.email(rates["apollo.verified_share"])
    status = "verified" if quality == "verified" else "unverified"
    return [{"email": address, "email_status_cd": status, "position": 0}]


def without_values(payload: Mapping[str, Any]) -> dict[str, Any]:
    """What is left of a callback that nobody took: ids and counts."""
    kept = [{"id": one["id"], "status": one["status"]} for one in payload["people"]]
    return {**payload, "people": kept}


def _email(view: View, rates: Rates) -> tuple[str | None, str]:
    if not view.knows(1, rates["apollo.email"], rates["apollo.profile"]):
        return None, "unavailable"
    address, quality = view.email(rates["apollo.verified_share"])
    return address, "verified" if quality == "verified" else "unverified"


def _personal_emails(view: View, rates: Rates) -> list[str]:
    """Never of people in regions where the vendor does not reveal them."""
    if view.truth.country_code in GDPR_COUNTRIES or not view.truth.personal_email:
        return []
    among = rates["apollo.profile"] * rates["truth.personal_email"]
    knows = view.knows(2, rates["apollo.personal_email"], among)
    return [view.truth.personal_email] if knows else []
