"""Reads the optional directory: a contacts export, and who is who in it.

The directory is the sandbox's knowledge alone; no reply ever shows a human's label.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path

from . import identifiers as ids
from .humans import Asked, Directory, Facts, Human, keys_of, work_address

_MAX_CELL = 1 << 30
_JOINING = ("email", "slug", "lance", "prospeo", "apollo")

Row = Mapping[str, str]


def load_directory(
    single: Path | None, contacts: Path | None = None, persons: Path | None = None
) -> Directory:
    """The directory of one file (optional column human_id) or of contacts and persons.

    Raises:
        ValueError: a file has no contact_id column where one is needed.
        OSError: a file cannot be read.
    """
    directory = Directory()
    groups: dict[str, list[Row]] = {}
    if contacts is not None and persons is not None:
        labels = _labels(persons)
        for row in _rows(contacts):
            contact_id = ids.clean(row.get("contact_id"))
            groups.setdefault(labels.get(contact_id) or f"contact:{contact_id}", []).append(row)
    elif single is not None:
        rows = list(_rows(single))
        if rows and "human_id" in rows[0]:
            for number, row in enumerate(rows):
                label = ids.clean(row.get("human_id")) or f"row:{number}"
                groups.setdefault(label, []).append(row)
        else:
            groups = _grouped_by_identifiers(rows)
    taken = {
        address
        for members in groups.values()
        for row in members
        if (address := ids.email_address(row.get("email")))
    }
    for label, members in groups.items():
        _add(directory, label, members, taken)
    return directory


def _rows(path: Path) -> Iterator[Row]:
    csv.field_size_limit(_MAX_CELL)
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.DictReader(file)
        if "contact_id" not in (reader.fieldnames or ()):
            raise ValueError(f"{path}: the header has no contact_id column")
        try:
            yield from reader
        except csv.Error as error:
            raise ValueError(f"{path}: line {reader.line_num}: {error}") from error


def _labels(path: Path) -> dict[str, str]:
    labels: dict[str, str] = {}
    for row in _rows(path):
        person_id = ids.clean(row.get("person_id"))
        if person_id:
            labels[ids.clean(row.get("contact_id"))] = f"person:{person_id}"
    return labels


def _asked(row: Row) -> Asked:
    first, last = ids.name_of(row.get("first_name"), row.get("last_name"), row.get("full_name"))
    return Asked(
        slug=ids.linkedin_slug(row.get("linkedin_url")) or ids.bare_slug(row.get("linkedin_url")),
        email=ids.email_address(row.get("email")),
        first=first,
        last=last,
        company=ids.clean(row.get("company_name")),
        domain=ids.web_domain(row.get("company_domain")),
        prospeo_id=ids.hex_id(row.get("prospeo_person_id")),
        apollo_id=ids.hex_id(row.get("apollo_person_id")),
        lance_id=ids.uuid4(row.get("lance_person_id")),
    )


def _grouped_by_identifiers(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows that share an address, a profile or a vendor id, as one human each (transitively)."""
    listed = list(rows)
    parents = list(range(len(listed)))

    def root(position: int) -> int:
        while parents[position] != position:
            parents[position] = parents[parents[position]]
            position = parents[position]
        return position

    seen: dict[tuple[str, str], int] = {}
    for position, row in enumerate(listed):
        for key in keys_of(_asked(row)):
            if key[0] in _JOINING:
                parents[root(position)] = root(seen.setdefault(key, position))
    groups: dict[str, list[Row]] = {}
    for position, row in enumerate(listed):
        groups.setdefault(f"row:{root(position)}", []).append(row)
    return groups


def _add(directory: Directory, label: str, rows: list[Row], taken: set[str]) -> None:
    number = int.from_bytes(blake2b(label.encode(), digest_size=8).digest())
    # The newest row knows the employer best; other rows fill what it lacks.
    newest = sorted(rows, key=_updated_at, reverse=True)
    asked = [_asked(row) for row in newest]
    first, last = _name(asked)
    current = next((a for a in asked if a.domain or a.company), Asked())
    domain = current.domain or ""
    work = [a.email for a in asked if a.email and _is_work(a.email)]
    if not domain and work and not current.company:
        domain = work[0].partition("@")[2]
    email = next((e for e in work if e.partition("@")[2] == domain), "")
    if not domain and current.company and work:
        email, domain = work[0], work[0].partition("@")[2]
    if domain and not email:
        email = _free_address(first, last, domain, number, taken)
    personal = next(
        (e for row in newest if (e := ids.email_address(row.get("personal_email")))),
        next((a.email for a in asked if a.email and not _is_work(a.email)), ""),
    )
    facts = Facts(
        first=first,
        last=last,
        company=current.company or domain.partition(".")[0].title(),
        domain=domain,
        email=email,
        personal_email="" if ids.is_role(personal) else personal,
        phone=next((p for row in newest if (p := _phone(row.get("phone")))), ""),
        country=next((c for row in newest if (c := _country(row.get("country_code")))), ""),
        title=next((t for row in newest if (t := ids.clean(row.get("job_title")))), ""),
        slug=next((a.slug for a in asked if a.slug), ""),
        prospeo_id=next((a.prospeo_id for a in asked if a.prospeo_id), ""),
        apollo_id=next((a.apollo_id for a in asked if a.apollo_id), ""),
    )
    keys = {key for a in asked for key in keys_of(a)}
    if facts.personal_email:
        keys.add(("email", facts.personal_email))
    if email:
        keys.update({("email", email), ("at", ids.at_key(first + last, domain))})
    directory.add(Human(number, label, facts), keys)


def _updated_at(row: Row) -> str:
    """Sortable; "" for what is no date."""
    text = ids.clean(row.get("updated_at"))
    return text if text[:4].isdigit() and text[4:5] == "-" else ""


def _name(asked: list[Asked]) -> tuple[str, str]:
    """The best spelling: mixed case before shouting, names before initials, accents before none."""
    named = [(a.first, a.last) for a in asked if a.first and a.last]
    if not named:
        # Half a name at most.
        return (
            next((a.first for a in asked if a.first), ""),
            next((a.last for a in asked if a.last), ""),
        )

    def quality(name: tuple[str, str]) -> tuple[bool, int, int]:
        text = "".join(name)
        accents = sum(not letter.isascii() for letter in text)
        return not (text.isupper() or text.islower()), len(name[0].rstrip(".")), accents

    first, last = max(named, key=quality)
    if (first + last).isupper() or (first + last).islower():
        return first.title(), last.title()
    return first, last


def _is_work(address: str) -> bool:
    return address.partition("@")[2] not in ids.FREE_MAIL and not ids.is_role(address)


def _free_address(first: str, last: str, domain: str, number: int, taken: set[str]) -> str:
    """The usual address, or one with a digit where a namesake has it."""
    address = work_address(first, last, domain, number)
    local, _, host = address.partition("@")
    serial = 2
    while address in taken:
        address = f"{local}{serial}@{host}"
        serial += 1
    taken.add(address)
    return address


def _phone(text: object) -> str:
    value = ids.clean(text).removeprefix("tel:")
    digits = "".join(c for c in value.partition("ext")[0] if c.isdigit())
    if not value.startswith("+") or value.startswith("++") or not 10 <= len(digits) <= 15:
        return ""
    return f"+{digits}"


def _country(text: object) -> str:
    value = ids.clean(text).upper()
    return value if len(value) == 2 and value.isascii() and value.isalpha() else ""
