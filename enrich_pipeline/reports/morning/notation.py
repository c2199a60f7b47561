"""How figures are written on the page: the same figure reads the same wherever it stands."""

from datetime import date, datetime
from decimal import Decimal

NONE = "–"
"""What stands where there is no figure."""

FIELDS = {
    "work_email": "Work e-mail",
    "phone": "Phone",
    "personal_email": "Personal e-mail",
    "profile": "Profile",
}


def field(name: str) -> str:
    return FIELDS.get(name, name.replace("_", " ").capitalize())


def count(number: int) -> str:
    return f"{number:,}"


def counted(number: int, noun: str) -> str:
    """`1 call`, `2 calls`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def usd(amount: Decimal | None) -> str:
    """Dollars to the cent."""
    return NONE if amount is None else f"${amount:,.2f}"


def usd_each(amount: Decimal | None) -> str:
    """Dollars for one of many, to a tenth of a cent."""
    return NONE if amount is None else f"${amount:,.3f}"


def share(part: Decimal | None) -> str:
    """A share of 1 as a percentage with one decimal."""
    return NONE if part is None else f"{part:.1%}"


def gain(before: Decimal | None, after: Decimal | None) -> str:
    """The difference of two shares in percentage points, with its sign."""
    return NONE if before is None or after is None else f"{(after - before) * 100:+.1f}"


def long_day(day: date) -> str:
    return f"{day:%A}, {day.day} {day:%B %Y}"


def short_day(day: date) -> str:
    return f"{day.day} {day:%b}"


def moment(at: datetime | None) -> str:
    """A UTC time to the minute."""
    return NONE if at is None else f"{at:%Y-%m-%d %H:%M}"
