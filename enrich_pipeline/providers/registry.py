"""Which providers exist: finds their classes by entry point and refuses incoherent declarations.

Nothing is registered globally: every caller gets its own mapping, and tests pass classes along.
Which of them are enabled, with what keys and prices, is a matter of settings.
"""

import inspect
import re
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from importlib.metadata import entry_points

from pydantic import ValidationError

from enrich_pipeline.domain.enrichment import Field
from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.providers.http import validate_base_url
from enrich_pipeline.providers.protocol import Offer, Provider

ENTRY_POINT_GROUP = "enrich_pipeline.providers"
DEFAULT_ORDER = ("prospeo", "agntdata", "pronto", "lance", "apollo")
"""Of equally short chains of ops the first in this order is taken; others follow by name."""


def available(extra: Iterable[type[Provider]] = ()) -> dict[str, type[Provider]]:
    """All installed providers by name, in default order; `extra` classes count as installed.

    Raises:
        ConfigurationError: a class cannot be loaded or declares nonsense; its file is named.
    """
    found: dict[str, type[Provider]] = {}
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name):
        try:
            loaded = point.load()
        except Exception as error:
            raise ConfigurationError(
                f"provider {point.name} ({point.value}) cannot be loaded: {type(error).__name__}"
            ) from error
        if not (inspect.isclass(loaded) and issubclass(loaded, Provider)):
            raise ConfigurationError(
                f"entry point {point.name} ({point.value}) is not a Provider class"
            )
        _add(found, loaded)
        if loaded.name != point.name:
            raise ConfigurationError(
                f"{_file(loaded)}: provider {loaded.name!r} is registered as {point.name!r}"
            )
    for cls in extra:
        _add(found, cls)
    rank = {name: position for position, name in enumerate(DEFAULT_ORDER)}
    return {name: found[name] for name in sorted(found, key=lambda n: (rank.get(n, len(rank)), n))}


def _add(found: dict[str, type[Provider]], cls: type[Provider]) -> None:
    problems = declaration_problems(cls)
    if problems:
        raise ConfigurationError(f"{_file(cls)}: " + "; ".join(problems))
    other = found.setdefault(cls.name, cls)
    if other is not cls:
        raise ConfigurationError(
            f"two providers are called {cls.name!r}: {_file(other)} and {_file(cls)}"
        )


def declaration_problems(cls: type[Provider]) -> list[str]:
    """What is wrong with the declarations of a provider class, one clear line each."""
    if inspect.isabstract(cls):
        missing = sorted(cls.__abstractmethods__)
        return [f"{cls.__name__} does not implement {', '.join(missing)}"]
    undeclared = [
        name
        for name in (
            "name",
            "title",
            "default_base_url",
            "unit",
            "limits",
            "in_doubt",
            "default_prices",
        )
        if not hasattr(cls, name)
    ]
    if undeclared:
        return [f"{cls.__name__} does not declare {', '.join(undeclared)}"]
    problems = []
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,30}", cls.name):
        problems.append(f"name {cls.name!r} is not lower-case letters, digits and underscores")
    if not cls.title or not cls.unit:
        problems.append("title and unit must not be empty")
    try:
        validate_base_url(cls.default_base_url, setting="default_base_url")
    except ConfigurationError as error:
        problems.append(str(error))
    limits = cls.limits
    if not 1 <= limits.minimum <= limits.maximum:
        problems.append(f"limits {limits.minimum}..{limits.maximum} are not sane")
    if limits.single and limits.minimum == 1:
        problems.append("limits: an endpoint for a single record is only for a minimum above 1")
    for product, price in cls.default_prices.items():
        if not _is_price(price):
            problems.append(f"price of {product} is not a decimal number of credits above 0")
    try:
        provider = cls(cls.options_model())
    except ValidationError:
        return [*problems, "options_model has a setting without a default"]
    for consented in (False, True):
        problems += _offer_problems(cls, provider.offers(consented=consented))
    if not any(provider.offers(consented=consented) for consented in (False, True)):
        problems.append("offers nothing")
    return list(dict.fromkeys(problems))


def _offer_problems(cls: type[Provider], offers: tuple[Offer, ...]) -> list[str]:
    problems = []
    products = [offer.product for offer in offers]
    if len(set(products)) != len(products):
        problems.append("offers one product twice")
    for offer in offers:
        label = f"product {offer.product}"
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,30}", offer.product):
            problems.append(f"{label}: name is not lower-case letters, digits and underscores")
        if offer.product not in cls.default_prices:
            problems.append(f"{label} has no price")
        if not offer.fields or not all(isinstance(field, Field) for field in offer.fields):
            problems.append(f"{label} serves no field")
        if not offer.requires or not all(offer.requires):
            problems.append(f"{label} requires nothing of a person")
        if not offer.identity:
            problems.append(f"{label} has no identifying datapoint")
        if not set(offer.brings) <= set(products) - {offer.product}:
            problems.append(f"{label} brings a product that is not offered")
        if offer.needs_webhook and not cls.uses_webhooks:
            problems.append(f"{label} needs a webhook and the provider declares none")
    return problems


def _is_price(text: object) -> bool:
    if not isinstance(text, str):
        return False
    try:
        price = Decimal(text)
    except InvalidOperation:
        return False
    # Money is kept in millionths of a credit.
    return price.is_finite() and 0 < price < 1_000_000 and price == round(price, 6)


def _file(cls: type[Provider]) -> str:
    try:
        return inspect.getsourcefile(cls) or cls.__module__
    except (OSError, TypeError):
        return cls.__module__
