"""One contact of the CRM, normalized: the contract's columns and nothing else.

How rows arrive (files, relations) and where they are kept is not known here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from math import isfinite
from typing import Final, TypeVar
from uuid import UUID

from enrich_pipeline.domain import normalize
from enrich_pipeline.domain.normalize import Normalized
from enrich_pipeline.domain.normalize.ids import MAX_CONTACT_ID
from enrich_pipeline.domain.normalize.text import clean, is_null_word

T = TypeVar("T")

COLUMNS: Final = (
    "contact_id", "first_name", "last_name", "full_name", "email", "personal_email", "phone",
    "linkedin_url", "job_title", "company_name", "company_domain", "company_linkedin_url",
    "country_code", "segment", "lance_person_id", "prospeo_person_id", "apollo_person_id",
    "personal_email_consent", "do_not_enrich", "created_at", "updated_at", "email_verified_at",
    "phone_verified_at", "personal_email_verified_at", "profile_verified_at",
)  # fmt: skip
"""The header of a contact file and the columns of `crm.contacts`, in order."""

_READABLE: Final = (str, bool, int, date, UUID)

MAX_JOB_TITLE: Final = 300
MAX_SEGMENT: Final = 100


class BadRow(Exception):
    """A row that names no contact. `reason` is a code; the row's values are not in it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a value of a column was made absent: a code, never the value."""

    column: str
    code: str


@dataclass(frozen=True, slots=True)
class Contact:
    """A contact with clean values; None is "not known". Times are aware UTC.

    `linkedin_slug` is the public name behind `linkedin_url`; `company_linkedin_url` is canonical;
    `phone` is E.164; `company_domain` is the registrable domain.
    """

    contact_id: str
    first_name: str | None = None
    last_name: str | None = None
    full_name: str | None = None
    email: str | None = None
    personal_email: str | None = None
    phone: str | None = None
    linkedin_slug: str | None = None
    job_title: str | None = None
    company_name: str | None = None
    company_domain: str | None = None
    company_linkedin_url: str | None = None
    country_code: str | None = None
    segment: str | None = None
    lance_person_id: str | None = None
    prospeo_person_id: str | None = None
    apollo_person_id: str | None = None
    personal_email_consent: bool = False
    do_not_enrich: bool = False
    created_at: datetime | None = None
    updated_at: datetime | None = None
    email_verified_at: datetime | None = None
    phone_verified_at: datetime | None = None
    personal_email_verified_at: datetime | None = None
    profile_verified_at: datetime | None = None


def normalize_contact(
    row: Mapping[str, object], now: datetime
) -> tuple[Contact, tuple[Problem, ...]]:
    """Return the contact of a row and what had to be left out of it.

    Args:
        row: Column to raw value: text of a file, or typed values of a relation. Missing columns
            count as empty, unknown ones are ignored.
        now: Aware; timestamps later than it are not believed.

    Raises:
        BadRow: Without a usable `contact_id` the row names no contact (`missing_contact_id`,
            `contact_id_too_long`).
    """
    problems: list[Problem] = []

    def keep(column: str, result: Normalized[T]) -> T | None:
        if result.problem is not None:
            problems.append(Problem(column, result.problem))
        return result.value

    cell = {column: _typed(row.get(column), column, problems) for column in COLUMNS}
    contact_id = _contact_id(cell["contact_id"])
    name = normalize.person_name(cell["first_name"], cell["last_name"], cell["full_name"])
    problems.extend(Problem(column, code) for column, code in name.problems)
    email = keep("email", normalize.email(cell["email"]))
    personal = keep("personal_email", normalize.email(cell["personal_email"]))
    country = keep("country_code", normalize.country(cell["country_code"]))
    phone = keep("phone", normalize.phone(cell["phone"], country))
    slug = keep("linkedin_url", normalize.linkedin_slug(cell["linkedin_url"]))
    job_title = keep("job_title", normalize.text(cell["job_title"], MAX_JOB_TITLE))
    company = keep("company_name", normalize.company_name(cell["company_name"]))
    domain = keep("company_domain", normalize.domain(cell["company_domain"]))
    company_page = keep(
        "company_linkedin_url", normalize.company_linkedin_url(cell["company_linkedin_url"])
    )
    lance = keep("lance_person_id", normalize.lance_person_id(cell["lance_person_id"]))
    prospeo = keep("prospeo_person_id", normalize.prospeo_person_id(cell["prospeo_person_id"]))
    apollo = keep("apollo_person_id", normalize.apollo_person_id(cell["apollo_person_id"]))

    def flag(column: str, *, unreadable: bool) -> bool:
        read = normalize.flag(cell[column])
        if Problem(column, "unreadable_type") in problems:
            return unreadable
        if isinstance(read, bool):
            return read
        problems.append(Problem(column, "unreadable_flag"))
        return unreadable

    def moment(column: str) -> datetime | None:
        return keep(column, normalize.timestamp(cell[column], now))

    def verified(column: str, *values: str | None) -> datetime | None:
        at = moment(column)
        if at is not None and all(value is None for value in values):
            problems.append(Problem(column, "date_without_value"))
            return None
        return at

    contact = Contact(
        contact_id=contact_id,
        first_name=name.first,
        last_name=name.last,
        full_name=name.full,
        email=email,
        personal_email=personal,
        phone=phone,
        linkedin_slug=slug,
        job_title=job_title,
        company_name=company,
        company_domain=domain,
        company_linkedin_url=company_page,
        country_code=country,
        segment=keep("segment", normalize.text(cell["segment"], MAX_SEGMENT)),
        lance_person_id=lance,
        prospeo_person_id=prospeo,
        apollo_person_id=apollo,
        # What cannot be read fails closed: no consent, and not to be enriched.
        personal_email_consent=flag("personal_email_consent", unreadable=False),
        do_not_enrich=flag("do_not_enrich", unreadable=True),
        created_at=moment("created_at"),
        updated_at=moment("updated_at"),
        email_verified_at=verified("email_verified_at", email),
        phone_verified_at=verified("phone_verified_at", phone),
        personal_email_verified_at=verified("personal_email_verified_at", personal),
        profile_verified_at=verified("profile_verified_at", job_title, company, domain, slug),
    )
    return contact, tuple(problems)


def _typed(raw: object, column: str, problems: list[Problem]) -> object:
    """Return the value of a cell as one of the types that normalizers read, or None.

    Data frames write what is absent as a float that is not a number, and whole numbers with a
    fraction of zero.
    """
    if raw is None or isinstance(raw, _READABLE):
        return raw
    if isinstance(raw, float | Decimal):
        if raw != raw:
            return None
        return int(raw) if isfinite(raw) and raw == int(raw) else raw
    problems.append(Problem(column, "unreadable_type"))
    return None


def _contact_id(raw: object) -> str:
    if isinstance(raw, str) and len(raw) > 10 * MAX_CONTACT_ID:
        raise BadRow("contact_id_too_long")
    contact_id = clean(raw)
    if not contact_id or is_null_word(contact_id):
        raise BadRow("missing_contact_id")
    if len(contact_id) > MAX_CONTACT_ID:
        raise BadRow("contact_id_too_long")
    return contact_id
