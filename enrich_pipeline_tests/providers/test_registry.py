"""Rules of the registry: who is found, in what order, and which declarations are refused."""

from collections.abc import Mapping
from decimal import Decimal
from importlib.metadata import EntryPoint, EntryPoints
from importlib.resources import files
from typing import ClassVar

import pytest
import yaml

from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.providers import registry
from enrich_pipeline.providers.protocol import Limits, Offer, Options, Provider
from enrich_pipeline.providers.registry import DEFAULT_ORDER, available
from enrich_pipeline.sandbox.config import DEFAULT_PRICES, MICRO
from enrich_pipeline_tests.conformance.sixth_provider import Hexagon

FILE = "sixth_provider.py"


class Alpha(Hexagon):
    name = "alpha"


def installed(monkeypatch: pytest.MonkeyPatch, **points: str) -> None:
    found = EntryPoints(
        EntryPoint(name, value, registry.ENTRY_POINT_GROUP) for name, value in points.items()
    )
    monkeypatch.setattr(registry, "entry_points", lambda group: found.select(group=group))


def test_the_five_come_in_default_order_and_others_after_them_by_name() -> None:
    assert tuple(available((Hexagon, Alpha))) == (*DEFAULT_ORDER, "alpha", "hexagon")


def test_adapters_packaged_defaults_and_sandbox_ask_the_same_prices() -> None:
    packaged = yaml.safe_load(files("enrich_pipeline").joinpath("defaults.yaml").read_bytes())
    declared = {
        name: {product: Decimal(price) for product, price in cls.default_prices.items()}
        for name, cls in available().items()
    }
    configured = {
        name: {
            k: Decimal(str(v))
            for k, v in packaged["providers"][name]["tariffs"][-1]["prices"].items()
        }
        for name in declared
    }
    assert configured == declared
    # In the sandbox a match with its mobile is one product.
    declared["prospeo"]["mobile"] += declared["prospeo"]["match"]
    assert {
        f"{name}.{product}": price * MICRO
        for name, prices in declared.items()
        for product, price in prices.items()
    } == DEFAULT_PRICES


def test_nothing_is_registered_globally() -> None:
    available((Hexagon,))
    assert "hexagon" not in available()


def test_a_class_that_is_installed_and_passed_is_one_provider(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    value = "enrich_pipeline_tests.conformance.sixth_provider:provider"
    installed(monkeypatch, hexagon=value)
    assert available((Hexagon,)) == {"hexagon": Hexagon}


def test_two_providers_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(Hexagon):
        pass

    installed(monkeypatch)
    with pytest.raises(ConfigurationError, match="two providers are called 'hexagon'"):
        available((Hexagon, Other))


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ({"ghost": "no_such_package.ghost:provider"}, "ghost .* cannot be loaded"),
        ({"ghost": "enrich_pipeline.providers.registry:nothing"}, "ghost .* cannot be loaded"),
        ({"options": "enrich_pipeline.providers.protocol:Options"}, "is not a Provider class"),
        ({"base": "enrich_pipeline.providers.protocol:Provider"}, "does not implement"),
        (
            {"seven": "enrich_pipeline_tests.conformance.sixth_provider:provider"},
            "'hexagon' is registered as 'seven'",
        ),
    ],
)
def test_an_entry_point_that_is_no_provider_is_named(
    monkeypatch: pytest.MonkeyPatch, points: Mapping[str, str], message: str
) -> None:
    installed(monkeypatch, **points)
    with pytest.raises(ConfigurationError, match=message):
        available()


class NoName(Hexagon):
    name = ""


class BadUrl(Hexagon):
    default_base_url = "http://api.hexagon.example"


class NoPrice(Hexagon):
    default_prices: ClassVar[Mapping[str, str]] = {}


class FloatPrice(Hexagon):
    default_prices: ClassVar[Mapping[str, str]] = {"phone": "0.0000001"}


class WordPrice(Hexagon):
    default_prices: ClassVar[Mapping[str, str]] = {"phone": "cheap"}


class NoRoom(Hexagon):
    limits = Limits(5, 4)


class Nothing(Hexagon):
    limits = Limits(0, 10)


class IdleSingle(Hexagon):
    limits = Limits(1, 10, single=True)


class Strict(Options):
    token: str


class NeedsSetting(Hexagon):
    options_model = Strict


class NoOffer(Hexagon):
    def offers(self, *, consented: bool) -> tuple[Offer, ...]:
        return ()


class Deaf(Hexagon):
    def offers(self, *, consented: bool) -> tuple[Offer, ...]:
        (offer,) = super().offers(consented=consented)
        return (
            Offer(offer.product, offer.fields, offer.requires, offer.identity, needs_webhook=True),
        )


class Twice(Hexagon):
    def offers(self, *, consented: bool) -> tuple[Offer, ...]:
        return super().offers(consented=consented) * 2


@pytest.mark.parametrize(
    ("cls", "problem"),
    [
        (NoName, "name ''"),
        (BadUrl, "default_base_url must start with https://"),
        (NoPrice, "product phone has no price"),
        (FloatPrice, "price of phone"),
        (WordPrice, "price of phone"),
        (NoRoom, r"limits 5\.\.4"),
        (Nothing, r"limits 0\.\.10"),
        (IdleSingle, "single record"),
        (NeedsSetting, "without a default"),
        (NoOffer, "offers nothing"),
        (Deaf, "needs a webhook"),
        (Twice, "one product twice"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_an_incoherent_declaration_is_refused_and_its_file_named(
    cls: type[Provider], problem: str
) -> None:
    with pytest.raises(ConfigurationError, match=problem) as caught:
        available((cls,))
    assert "test_registry.py" in str(caught.value)


def test_a_class_that_declares_nothing_is_told_what_is_missing() -> None:
    class Half(Hexagon):
        pass

    namespace = {
        name: getattr(Hexagon, name)
        for name in (*Provider.__abstractmethods__, "limits", "name", "title")
    }
    bare = type("Bare", (Provider,), namespace)
    (problem,) = registry.declaration_problems(bare)
    assert problem == "Bare does not declare default_base_url, unit, in_doubt, default_prices"
    assert registry.declaration_problems(Half) == []
