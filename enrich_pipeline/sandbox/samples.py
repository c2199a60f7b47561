"""Sample contacts: an export of imaginary people, as messy as real ones, and the truth about it.

Everything is drawn from a seed. The messes: duplicates under other spellings, nicknames, "Last,
First", shared role mailboxes, namesakes in one company, bad addresses, numbers, URLs, countries and
timestamps, words that mean nothing, invisible characters, many scripts, former employers.
"""

import csv
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from . import identifiers as ids
from . import pools

HEADER = (
    "contact_id",
    "first_name",
    "last_name",
    "full_name",
    "email",
    "personal_email",
    "phone",
    "linkedin_url",
    "job_title",
    "company_name",
    "company_domain",
    "company_linkedin_url",
    "country_code",
    "segment",
    "lance_person_id",
    "prospeo_person_id",
    "apollo_person_id",
    "personal_email_consent",
    "do_not_enrich",
    "created_at",
    "updated_at",
    "email_verified_at",
    "phone_verified_at",
    "personal_email_verified_at",
    "profile_verified_at",
)
TRUTH_HEADER = ("contact_id", "person_id", "kind", "duplicate_of", "shared_identifiers")

_AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
_YES = ("true", "True", "TRUE", "1", "yes", "Y", "t")
_NO = ("false", "False", "FALSE", "0", "no", "N", "f", "")
_NULLS = ("N/A", "n/a", "#N/A", "null", "NULL", "None", "-", ".", "unknown")
_NICKNAMES = {
    "Abigail": "Abby", "Benjamin": "Ben", "Daniel": "Dan", "Eleanor": "Nell", "Frederick": "Fred",
    "Katherine": "Kate", "Margaret": "Maggie", "Nathan": "Nate", "Philip": "Phil",
    "Samuel": "Sam", "Theodore": "Theo", "Victoria": "Vicky", "William": "Bill",
}  # fmt: skip
_COUNTRY_NAMES = {"US": "United States", "GB": "UK", "DE": "Deutschland", "FR": "France"}
_SEGMENTS = ("enterprise", "mid-market", "smb", "startup", "strategic")

Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class _Person:
    """One imaginary human, with all that is true of them."""

    number: int
    first: str
    last: str
    country: str
    company: str
    domain: str
    email: str
    personal_email: str
    mobile: str
    slug: str
    title: str
    lance_id: str
    prospeo_id: str
    apollo_id: str


def sample_contacts(n: int, seed: int = 1, as_of: datetime = _AS_OF) -> Iterator[Row]:
    """n contacts with the header of a contacts export; every value is text.

    `as_of` is the newest moment that a timestamp may name.
    """
    for row, _ in _sample(n, seed, as_of):
        yield row


def write_sample(
    contacts: Path, persons: Path, n: int, seed: int = 1, as_of: datetime = _AS_OF
) -> None:
    """Writes the contacts and, in a second CSV, who is who in them."""
    with (
        contacts.open("w", encoding="utf-8", newline="") as contacts_file,
        persons.open("w", encoding="utf-8", newline="") as persons_file,
    ):
        rows = csv.DictWriter(contacts_file, HEADER)
        truths = csv.DictWriter(persons_file, TRUTH_HEADER)
        rows.writeheader()
        truths.writeheader()
        for row, truth in _sample(n, seed, as_of):
            rows.writerow(row)
            truths.writerow(truth)


def _sample(n: int, seed: int, as_of: datetime) -> Iterator[tuple[Row, Row]]:
    rng = random.Random(seed)
    companies = _companies(rng, max(1, n // 9))
    people: list[tuple[_Person, Row]] = []
    for position in range(n):
        contact_id = f"SMP-{position:07d}"
        luck = rng.random()
        if people and luck < 0.08:
            person, first_row = rng.choice(people)
            row = _duplicate_row(rng, contact_id, person, companies, as_of)
            yield row, _truth(contact_id, person, "duplicate", first_row, row)
            continue
        if people and luck < 0.10:
            person = _namesake(rng, position, rng.choice(people)[0])
        else:
            person = _person(rng, position, rng.choice(companies))
        row = _row(rng, contact_id, person, as_of)
        people.append((person, row))
        yield row, _truth(contact_id, person, "primary", None, row)


def _companies(rng: random.Random, count: int) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    while len(found) < count:
        words = (
            rng.choice(pools.COMPANY_FIRST),
            rng.choice(pools.COMPANY_SECOND),
            rng.choice(pools.COMPANY_TRADE),
        )
        domain = f"{''.join(words).lower()}.{rng.choice(pools.COMPANY_TLD)}"
        found.setdefault(" ".join(words), domain)
    return list(found.items())


def _person(rng: random.Random, number: int, company: tuple[str, str]) -> _Person:
    place = rng.choices(pools.PLACES, weights=(30, 16, 12, 10, 7, 7, 5, 4, 5, 4))[0]
    first, last, country = rng.choice(place.first_names), rng.choice(place.last_names), place.code
    if rng.random() < 0.03:
        first, last, country = rng.choice(pools.OTHER_SCRIPTS)
    name, domain = company
    left, right = _latin(first) or "x", _latin(last) or f"p{number}"
    local = rng.choice((f"{left}.{right}", f"{left[0]}{right}", f"{right}.{left}", left))
    prefix, count = rng.choice(place.mobile)
    return _Person(
        number=number,
        first=first,
        last=last,
        country=country,
        company=name,
        domain=domain,
        # The number keeps addresses distinct: colleagues of one name exist.
        email=f"{local}{number}@{domain}",
        personal_email=f"{left}.{right}{number}@{rng.choice(pools.PERSONAL_HOSTS)}",
        mobile=prefix + str(rng.randrange(2, 10)) + _digits(rng, count - 1),
        slug=f"{left}-{right}-{rng.getrandbits(40):010x}",
        title=rng.choice(pools.TITLES),
        lance_id=_uuid4(rng),
        prospeo_id=f"{rng.getrandbits(84):021x}",
        apollo_id=f"{rng.getrandbits(96):024x}",
    )


def _namesake(rng: random.Random, number: int, other: _Person) -> _Person:
    """Somebody else of the same name in the same company."""
    person = _person(rng, number, (other.company, other.domain))
    left, right = _latin(other.first) or "x", _latin(other.last) or f"p{number}"
    return replace(
        person,
        first=other.first,
        last=other.last,
        country=other.country,
        email=f"{left}.{right}{number}@{other.domain}",
        personal_email=f"{left}.{right}{number}@{rng.choice(pools.PERSONAL_HOSTS)}",
        mobile=person.mobile,
        slug=f"{left}-{right}-{rng.getrandbits(40):010x}",
    )


def _row(rng: random.Random, contact_id: str, person: _Person, as_of: datetime) -> Row:
    row = _clean_row(rng, contact_id, person)
    if rng.random() < 0.05:
        # Nothing but a name, as from a badge scanned at a fair.
        for column in ("email", "phone", "linkedin_url", "company_domain", "personal_email"):
            row[column] = ""
        for column in ("lance_person_id", "prospeo_person_id", "apollo_person_id"):
            row[column] = ""
    _add_flags_and_times(rng, row, as_of)
    _mess_up(rng, row, person)
    return row


def _duplicate_row(
    rng: random.Random,
    contact_id: str,
    person: _Person,
    companies: Sequence[tuple[str, str]],
    as_of: datetime,
) -> Row:
    """The same human again: another spelling, an alias, a nickname, or an earlier employer."""
    variant = person
    luck = rng.random()
    if luck < 0.2:
        name, domain = rng.choice(companies)
        local = person.email.partition("@")[0]
        variant = replace(person, company=name, domain=domain, email=f"{local}@{domain}")
    elif luck < 0.4:
        variant = replace(person, first=_NICKNAMES.get(person.first, person.first[:1] + "."))
    elif luck < 0.6:
        local, _, domain = person.email.partition("@")
        variant = replace(person, email=f"{local}+{rng.choice(('news', 'crm', 'li'))}@{domain}")
    elif luck < 0.7 and _latin(person.first) and _latin(person.last):
        variant = replace(
            person, first=_latin(person.first).title(), last=_latin(person.last).title()
        )
    row = _clean_row(rng, contact_id, variant)
    _add_flags_and_times(rng, row, as_of)
    _mess_up(rng, row, variant)
    return row


def _clean_row(rng: random.Random, contact_id: str, person: _Person) -> Row:
    def maybe(share: float, value: str) -> str:
        return value if rng.random() < share else ""

    company_slug = person.company.lower().replace(" ", "-")
    return {
        "contact_id": contact_id,
        "first_name": maybe(0.86, person.first),
        "last_name": maybe(0.86, person.last),
        "full_name": maybe(0.8, f"{person.first} {person.last}"),
        "email": maybe(0.85, person.email),
        "personal_email": maybe(0.14, person.personal_email),
        "phone": maybe(0.3, person.mobile),
        "linkedin_url": maybe(0.76, f"https://www.linkedin.com/in/{person.slug}"),
        "job_title": maybe(0.7, person.title),
        "company_name": maybe(0.88, person.company),
        "company_domain": maybe(0.72, person.domain),
        "company_linkedin_url": maybe(0.33, f"https://www.linkedin.com/company/{company_slug}"),
        "country_code": maybe(0.9, person.country),
        "segment": maybe(0.86, rng.choice(_SEGMENTS)),
        "lance_person_id": maybe(0.44, person.lance_id),
        "prospeo_person_id": maybe(0.13, person.prospeo_id),
        "apollo_person_id": maybe(0.18, person.apollo_id),
    }


def _add_flags_and_times(rng: random.Random, row: Row, as_of: datetime) -> None:
    row["personal_email_consent"] = rng.choice(_YES if rng.random() < 0.15 else _NO)
    row["do_not_enrich"] = rng.choice(_YES if rng.random() < 0.03 else _NO)
    if rng.random() < 0.01:
        row[rng.choice(("personal_email_consent", "do_not_enrich"))] = "maybe"
    updated = as_of - timedelta(minutes=rng.randrange(60 * 24 * 400))
    created = updated - timedelta(minutes=rng.randrange(60 * 24 * 1200))
    row["created_at"], row["updated_at"] = _time(rng, created), _time(rng, updated)
    for column, share in (("email", 0.7), ("phone", 0.2), ("personal_email", 0.15)):
        row[f"{column}_verified_at"] = _verified(rng, as_of, share)
    row["profile_verified_at"] = _verified(rng, as_of, 0.4)


def _verified(rng: random.Random, as_of: datetime, share: float) -> str:
    if rng.random() >= share:
        return ""
    return _time(rng, as_of - timedelta(minutes=rng.randrange(60 * 24 * 900)))


def _time(rng: random.Random, moment: datetime) -> str:
    luck = rng.random()
    if luck < 0.84:
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    if luck < 0.88:
        return moment.strftime("%Y-%m-%d %H:%M:%S")
    if luck < 0.92:
        return moment.strftime("%Y-%m-%d")
    if luck < 0.96:
        return moment.isoformat()
    if luck < 0.985:
        return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return rng.choice(("yesterday", "31/02/2024", "2024-13-45T00:00:00Z", "not verified"))


def _mess_up(rng: random.Random, row: Row, person: _Person) -> None:
    if row["full_name"] and rng.random() < 0.1:
        row["full_name"] = f"{person.last}, {person.first}"
    if row["full_name"] and rng.random() < 0.04:
        row["full_name"] = rng.choice((f"Dr. {row['full_name']}", f"{row['full_name']} 🚀"))
    if rng.random() < 0.06:
        change = rng.choice((str.upper, str.lower))
        for column in ("first_name", "last_name", "full_name"):
            row[column] = change(row[column])
    for column in ("first_name", "last_name", "company_name"):
        if row[column] and rng.random() < 0.03:
            wrap = rng.choice(("\u200b{}", "{}\u00a0", "  {} ", "{}\t"))
            row[column] = wrap.format(row[column])
    if row["company_name"] and rng.random() < 0.1:
        row["company_name"] += rng.choice((" Inc", ", Inc.", " Ltd.", " GmbH", "®"))
    row["email"] = _messy_email(rng, row["email"], person.domain)
    row["phone"] = _messy_phone(rng, row["phone"])
    row["linkedin_url"] = _messy_profile(rng, row["linkedin_url"], person.slug)
    row["company_domain"] = _messy_domain(rng, row["company_domain"])
    if row["country_code"] and rng.random() < 0.08:
        code = row["country_code"]
        row["country_code"] = rng.choice(
            (_COUNTRY_NAMES.get(code, code.lower()), f"{code.lower()} ", "??", "Europe", "1")
        )
    if row["lance_person_id"] and rng.random() < 0.04:
        row["lance_person_id"] = rng.choice(
            (row["lance_person_id"].upper(), row["lance_person_id"][:20], "null")
        )
    for column in ("prospeo_person_id", "apollo_person_id"):
        if row[column] and rng.random() < 0.05:
            row[column] = rng.choice((row[column].upper(), f"id:{row[column]}", "None"))
    for column in ("job_title", "personal_email", "segment", "company_name"):
        if rng.random() < 0.03:
            row[column] = rng.choice(_NULLS)
    if rng.random() < 0.004:
        row["job_title"] = rng.choice(
            (
                '=HYPERLINK("http://attack.example","open")',
                "'; DROP TABLE contacts;--",
                "<b>CEO</b>",
            )
        )


def _messy_email(rng: random.Random, email: str, domain: str) -> str:
    luck = rng.random()
    if luck < 0.025:
        return f"{rng.choice(('info', 'sales', 'office'))}@{domain}"
    if not email:
        return rng.choice(_NULLS) if luck < 0.2 else ""
    if luck < 0.10:
        return rng.choice((email.upper(), f" {email} ", f"<{email}>", email.title()))
    if luck < 0.13:
        return rng.choice(
            (email.replace("@", " (at) "), email.replace("@", ""), "none@none", "undefined")
        )
    return email


def _messy_phone(rng: random.Random, phone: str) -> str:
    luck = rng.random()
    if not phone:
        return rng.choice((*_NULLS, "call me", "000-000-0000")) if luck < 0.03 else ""
    if luck < 0.15:
        return f"{phone[:3]} ({phone[3:6]}) {phone[6:]}"
    if luck < 0.25:
        return f"{phone[:3]} {phone[3:6]} {phone[6:]}"
    if luck < 0.32:
        return f"tel:{phone}"
    if luck < 0.36:
        return f"{phone} ext. {rng.randrange(10, 99)}"
    if luck < 0.42:
        return f"00{phone[1:]}"
    return "555-CALL-NOW" if luck < 0.45 else phone


def _messy_profile(rng: random.Random, url: str, slug: str) -> str:
    luck = rng.random()
    if not url:
        return rng.choice(_NULLS) if luck < 0.05 else ""
    if luck < 0.5:
        return url
    if luck < 0.97:
        form = rng.choice(
            (
                "http://www.linkedin.com/in/{}", "https://linkedin.com/in/{}/",
                "linkedin.com/in/{}", "https://de.linkedin.com/in/{}?trk=people",
                "HTTPS://WWW.LinkedIn.com/in/{}", "https://m.linkedin.com/in/{}/en-us/",
                "www.linkedin.com/in/{}#about", " https://www.linkedin.com/in/{} ",
            )
        )  # fmt: skip
        return form.format(slug)
    return rng.choice((f"https://twitter.com/{slug}", "https://www.linkedin.com/feed/", "linkedin"))


def _messy_domain(rng: random.Random, domain: str) -> str:
    if not domain or rng.random() < 0.6:
        return domain
    form = rng.choice(
        ("http://www.{}/", "https://{}", " {}", "www.{}", "https://www.{}/about?x=1", "upper")
    )
    return domain.upper() if form == "upper" else form.format(domain)


def _truth(contact_id: str, person: _Person, kind: str, first: Row | None, row: Row) -> Row:
    shared = [] if first is None else sorted(_strong(first) & _strong(row))
    return {
        "contact_id": contact_id,
        "person_id": str(person.number),
        "kind": kind,
        "duplicate_of": first["contact_id"] if first else "",
        "shared_identifiers": " ".join(dict.fromkeys(name for name, _ in shared)),
    }


def _strong(row: Row) -> set[tuple[str, str]]:
    """The identifiers by which anybody could tell who the row is about."""
    email = ids.email_address(row["email"])
    found = {
        "email": email if email and not ids.is_role(email) else None,
        "linkedin": ids.linkedin_slug(row["linkedin_url"]),
        "lance": ids.uuid4(row["lance_person_id"]),
        "prospeo": ids.hex_id(row["prospeo_person_id"]),
        "apollo": ids.hex_id(row["apollo_person_id"]),
    }
    return {(name, value) for name, value in found.items() if value}


def _latin(name: str) -> str:
    return "".join(c for c in ids.fold(name) if c.isascii() and c.isalpha())


def _digits(rng: random.Random, count: int) -> str:
    return "".join(str(rng.randrange(10)) for _ in range(count))


def _uuid4(rng: random.Random) -> str:
    value = f"{rng.getrandbits(128):032x}"
    variant = "89ab"[int(value[16], 16) % 4]
    return f"{value[:8]}-{value[8:12]}-4{value[13:16]}-{variant}{value[17:20]}-{value[20:]}"
