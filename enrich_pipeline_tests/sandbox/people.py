"""Request items for imaginary people, as each provider wants them."""

from typing import Any

_NAMES = ("Ada", "Bela", "Cora", "Dora", "Edda", "Fina", "Gesa", "Hedi", "Ilsa", "Jana")


def first(number: int) -> str:
    return _NAMES[number % len(_NAMES)]


def last(number: int) -> str:
    letters = "".join(chr(ord("a") + int(digit)) for digit in str(number))
    return f"Tester{letters}"


def profile(number: int) -> str:
    return f"https://www.linkedin.com/in/{first(number)}-{last(number)}-{number:06d}".lower()


def domain(number: int) -> str:
    return f"copperfox{number % 7}.com"


def email(number: int) -> str:
    return f"{first(number)}.{last(number)}@{domain(number)}".lower()


def prospeo(number: int, **more: str) -> dict[str, str]:
    return {
        "identifier": f"row-{number}",
        "first_name": first(number),
        "last_name": last(number),
        "linkedin_url": profile(number),
        "company_website": domain(number),
        **more,
    }


def agntdata(number: int, **more: str) -> dict[str, Any]:
    return {"identifier": f"row-{number}", "linkedin_url": profile(number), **more}


def pronto(number: int, **more: Any) -> dict[str, Any]:
    return {
        "firstname": first(number),
        "lastname": last(number),
        "domain": domain(number),
        "linkedin_url": profile(number),
        "custom": {"row": str(number)},
        **more,
    }


def apollo(number: int, **more: str) -> dict[str, str]:
    return {
        "first_name": first(number),
        "last_name": last(number),
        "domain": domain(number),
        "linkedin_url": profile(number),
        **more,
    }


def lance(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"
