"""The in-memory model: what the five providers sell, to whom and for how much.

It stands here a second time on purpose: the engine's own catalog is what is held against it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from .model_said import MICRO, PRICES


@dataclass(frozen=True, slots=True)
class Product:
    name: str
    fields: tuple[str, ...]
    needs: tuple[frozenset[str], ...] = ()
    told_by: frozenset[str] = frozenset()
    options: str = ""
    brings: str | None = None
    repeat_costs: bool = True
    needs_receiver: bool = False


_EVERY_ID = frozenset({"email", "linkedin", "company_domain"})


def catalog(provider: str, *, consents: bool) -> tuple[Product, ...]:
    """What a provider sells to somebody who consents to personal e-mail, or does not."""
    personal = ("personal_email",) if consents else ()
    options = "personal_email" if consents else ""
    by_profile = (frozenset({"linkedin"}),)
    match provider:
        case "prospeo":
            mail_and_profile = ("work_email", "profile")
            told_by = _EVERY_ID | {"prospeo_id"}
            return (
                Product("match", mail_and_profile, (), told_by, repeat_costs=False),
                Product("mobile", ("phone",), (), told_by, brings="match", repeat_costs=False),
            )
        case "agntdata":
            either = (frozenset({"email"}), frozenset({"linkedin"}))
            told_by = frozenset({"email", "linkedin"})
            fields = ("work_email", "profile", *personal)
            return (Product("record", fields, either, told_by, options),)
        case "pronto":
            told_by = frozenset({"company_domain", "linkedin"})
            email = Product("email", ("work_email",), (), told_by, needs_receiver=True)
            others = [
                Product(f, (f,), by_profile, frozenset({"linkedin"}), needs_receiver=True)
                for f in ("phone", *personal)
            ]
            return (email, *others)
        case "lance":
            by_id = frozenset({"lance_id"})
            return tuple(
                Product(name, (f,), (by_id,), by_id, repeat_costs=False)
                for name, f in (("emails", "work_email"), ("phones", "phone"))
            )
        case _:
            fields = ("profile", "work_email", *personal)
            told_by = _EVERY_ID | {"apollo_id"}
            return (
                Product("match", fields, (), told_by, options),
                Product("mobile", ("phone",), (), told_by, brings="match", needs_receiver=True),
            )


def group_of(provider: str, products: Sequence[Product]) -> list[tuple[str, tuple[Product, ...]]]:
    """How one person's products are spread over calls."""
    names = {p.name for p in products}
    if provider == "prospeo":
        return [("mobile" if "mobile" in names else "", tuple(products))]
    if provider == "apollo":
        flags = (names | {p.options for p in products}) & {"mobile", "personal_email"}
        return [("+".join(sorted(flags)), tuple(products))]
    return [(p.options if provider == "agntdata" else p.name, (p,)) for p in products]


def price(provider: str, product: Product) -> int:
    return PRICES[provider][product.name] * MICRO
