"""Everything that is configured, read once and passed down: environment, `.env` and YAML.

The typed models are in `domain/policy.py`, every default in `defaults.yaml`. Nothing here opens a
connection; nothing below this module reads the environment.
"""

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from dotenv import dotenv_values
from pydantic import BaseModel, ValidationError
from sqlalchemy import URL

from enrich_pipeline.domain.enrichment import Field
from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.domain.policy import Policy
from enrich_pipeline.providers import registry
from enrich_pipeline.providers.http import validate_base_url
from enrich_pipeline.providers.protocol import Offer, Provider
from enrich_pipeline.store import connection
from enrich_pipeline.waterfall.context import Access

DEFAULT_WEBHOOK_PORT = 8787
DAGSTER_DATABASE_VARIABLE = "ENRICH_DAGSTER_DATABASE_URL"
"""Read by `dagster.yaml`, written by `enrich init`; not a setting of the pipeline itself."""

_VARIABLES = (
    "ENRICH_HOME",
    "ENRICH_DATABASE_URL",
    "ENRICH_CONFIG",
    "ENRICH_WEBHOOK_PUBLIC_URL",
    "ENRICH_WEBHOOK_PORT",
    "ENRICH_ALERT_URLS",
    "ENRICH_CELERY_BROKER_URL",
    DAGSTER_DATABASE_VARIABLE,
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration, checked.

    `providers` and `access` hold every installed provider, the disabled ones too: a late answer of
    theirs must still be read. `warnings` are lines for the person at the keyboard.
    """

    home: Path
    database_url: URL
    is_embedded: bool
    policy: Policy
    providers: Mapping[str, Provider]
    access: Mapping[str, Access]
    webhook_public_url: str | None
    webhook_port: int
    alert_urls: tuple[str, ...] = field(default=(), repr=False)
    celery_broker_url: str | None = field(default=None, repr=False)
    warnings: tuple[str, ...] = ()

    @property
    def enabled(self) -> tuple[str, ...]:
        """Names of the enabled providers."""
        return tuple(name for name, terms in self.policy.providers.items() if terms.enabled)

    def needs_webhooks(self) -> tuple[str, ...]:
        """Enabled providers that would be asked for something that only a webhook brings back."""
        return tuple(
            name
            for name in self.enabled
            if any(
                offer.needs_webhook
                and any(name in self.policy.waterfall(field) for field in offer.fields)
                for offer in _offers(self.providers[name])
            )
        )

    def require_spendable(self) -> None:
        """Raise ConfigurationError unless everything is there that paid calls need."""
        problems = [
            f"{_variable(name, 'API_KEY')} is not set: provider {name} is enabled "
            f"(or set providers.{name}.enabled to false)"
            for name in self.enabled
            if not self.access[name].api_key
        ]
        waiting = self.needs_webhooks()
        if waiting and self.webhook_public_url is None:
            problems.append(
                "ENRICH_WEBHOOK_PUBLIC_URL is not set: results of "
                f"{', '.join(waiting)} arrive by webhook"
            )
        _refuse(problems)

    def require_celery_broker(self) -> str:
        """The broker of the executor `celery`; raises ConfigurationError where none is set."""
        if self.celery_broker_url is None:
            raise ConfigurationError(
                "ENRICH_CELERY_BROKER_URL is not set: refresh.executor is celery, whose workers "
                "take their steps from there"
            )
        return self.celery_broker_url


def load(
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    extra_providers: Iterable[type[Provider]] = (),
) -> Settings:
    """Read the settings that hold in the folder `cwd` under the environment `environ`.

    Variables of `.env` in `cwd` count where the environment does not set them. The defaults are
    this process's environment and working directory.

    Raises:
        ConfigurationError: one line per setting that is unknown, of a wrong type or incoherent.
    """
    folder = (cwd or Path.cwd()).resolve()
    variables = _variables(os.environ if environ is None else environ, folder)
    classes = registry.available(extra_providers)
    content, origin = _configuration(variables, folder, classes)
    for name in classes:
        if address := variables.get(_variable(name, "BASE_URL")):
            content["providers"][name]["base_url"] = address
    policy = _policy(content, origin)
    providers = _providers(policy, classes, origin)
    home = folder / variables.get("ENRICH_HOME", ".enrich")
    database_url = connection.database_url(home, variables.get("ENRICH_DATABASE_URL"))
    return Settings(
        home=home,
        database_url=database_url,
        is_embedded=connection.is_embedded(home, database_url),
        policy=policy,
        providers=providers,
        access=_access(policy, variables),
        webhook_public_url=_public_url(variables),
        webhook_port=_port(variables),
        alert_urls=_alert_urls(policy, variables),
        celery_broker_url=_celery_broker_url(variables),
        warnings=_unknown_variables(variables, classes),
    )


def _variables(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The environment over `.env`; a variable set to nothing counts as not set."""
    try:
        written = dotenv_values(folder / ".env", interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f".env cannot be read: {type(error).__name__}") from None
    merged = {name: value for name, value in written.items() if value is not None} | dict(environ)
    return {
        name: value.strip()
        for name, value in merged.items()
        if name.startswith("ENRICH_") and value.strip()
    }


def _variable(provider: str, what: str) -> str:
    return f"ENRICH_{provider.upper()}_{what}"


def _unknown_variables(variables: Mapping[str, str], classes: Iterable[str]) -> tuple[str, ...]:
    known = [*_VARIABLES]
    for name in classes:
        known += [_variable(name, "BASE_URL"), _variable(name, "API_KEY")]
    return tuple(
        f"unknown environment variable {name} is ignored{_hint(name, known)}"
        for name in sorted(variables)
        if name not in known
    )


# ---- YAML -------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice: which of two budgets holds must not be a guess."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str):
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{key} is given twice", key_node.start_mark
                    )
                seen.add(key)
        return super().construct_mapping(node, deep)


def _read_yaml(content: str | bytes, origin: str) -> dict[str, Any]:
    try:
        loaded = yaml.load(content, _Loader)  # noqa: S506  (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigurationError(f"{origin}{line}: {error.problem or 'not YAML'}") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise ConfigurationError(f"{origin}: not YAML ({type(error).__name__})") from None
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigurationError(f"{origin}: expected settings by name, got {_kind(loaded)}")
    return loaded


def _configuration(
    variables: Mapping[str, str], folder: Path, classes: Mapping[str, type[Provider]]
) -> tuple[dict[str, Any], str]:
    """The packaged defaults with the user's file laid over them, and where the latter came from."""
    packaged = files("enrich_pipeline").joinpath("defaults.yaml").read_bytes()
    content = _read_yaml(packaged, "defaults.yaml")
    for name, cls in classes.items():
        content["providers"].setdefault(name, _terms(cls))
    given = variables.get("ENRICH_CONFIG")
    if given is None:
        return content, ""
    path = folder / given
    origin = f"ENRICH_CONFIG={given}"
    try:
        own = _read_yaml(path.read_bytes(), origin)
    except OSError as error:
        raise ConfigurationError(f"{origin} cannot be read: {error.strerror}") from None
    named = own.get("providers")
    if isinstance(named, dict):
        _refuse(
            f"{origin}: unknown provider {name!r}{_hint(str(name), classes)} "
            f"(installed: {', '.join(classes)})"
            for name in named
            if name not in classes
        )
    return _laid_over(content, own), f"{origin}: "


def _terms(cls: type[Provider]) -> dict[str, Any]:
    """Terms of an installed provider that the packaged defaults do not know: off until enabled."""
    return {
        "enabled": False,
        "base_url": cls.default_base_url,
        "batch_size": None,
        "concurrency": 4,
        "connect_timeout_seconds": 10,
        "timeout_seconds": 60,
        "rate": [{"seconds": 1, "limit": 5, "per": "request"}],
        "await_seconds": 120 if cls.uses_webhooks or cls.uses_polling else 0,
        "poll_seconds": 5,
        "deadline_minutes": 60,
        "in_doubt_hours": 24,
        "on_unavailable": "wait",
        "budget_credits": None,
        "low_credits": None,
        "tariffs": [
            {
                "valid_from": date(2026, 1, 1),
                "usd_per_credit": "0.01",
                "prices": dict(cls.default_prices),
            }
        ],
        "options": {},
    }


def _laid_over(below: Mapping[str, Any], above: Mapping[Any, Any]) -> dict[str, Any]:
    """Mappings merge, everything else replaces."""
    merged = dict(below)
    for name, value in above.items():
        under = merged.get(name)
        if isinstance(under, dict) and isinstance(value, dict):
            value = _laid_over(under, value)
        merged[name] = value
    return merged


# ---- validation -------------------------------------------------------------------------------


def _policy(content: dict[str, Any], origin: str) -> Policy:
    try:
        return Policy.model_validate(content)
    except ValidationError as error:
        _refuse(_problems(error, origin, Policy))
        raise AssertionError("unreachable") from error


def _providers(
    policy: Policy, classes: Mapping[str, type[Provider]], origin: str
) -> dict[str, Provider]:
    built: dict[str, Provider] = {}
    problems: list[str] = []
    for name, cls in classes.items():
        terms = policy.providers[name]
        path = f"{origin}providers.{name}"
        try:
            built[name] = cls(cls.options_model.model_validate(dict(terms.options)))
        except ValidationError as error:
            problems += _problems(error, origin, cls.options_model, "providers", name, "options")
            continue
        limits = cls.limits
        if terms.batch_size is not None and not (
            limits.minimum <= terms.batch_size <= limits.maximum
        ):
            problems.append(
                f"{path}.batch_size: {terms.batch_size} is outside what {cls.title} takes, "
                f"{limits.minimum} to {limits.maximum}"
            )
        if terms.enabled:
            problems += _tariff_problems(path, policy, built[name])
    _refuse(problems)
    return built


def _tariff_problems(path: str, policy: Policy, provider: Provider) -> list[str]:
    sold = sorted({offer.product for offer in _offers(provider)})
    known = {*sold, *provider.default_prices}
    problems = []
    for index, tariff in enumerate(policy.providers[provider.name].tariffs):
        where = f"{path}.tariffs[{index}].prices"
        problems += [
            f"{where}: no price for the product {product!r}"
            for product in sold
            if product not in tariff.prices
        ]
        problems += [
            f"{where}: unknown product {product!r}{_hint(product, known)}"
            for product in tariff.prices
            if product not in known
        ]
    return problems


def _offers(provider: Provider) -> tuple[Offer, ...]:
    return (*provider.offers(consented=False), *provider.offers(consented=True))


def _problems(
    error: ValidationError, origin: str, model: type[BaseModel], *within: str
) -> list[str]:
    """One line per problem of the settings `within`, which `model` describes, by dotted path."""
    found = error.errors(include_url=False)
    strange = [problem["loc"][:-1] for problem in found if problem["loc"][-1:] == ("[key]",)]
    lines = []
    for problem in found:
        location = problem["loc"]
        path = _dotted((*within, *location))
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            known = _siblings(model, location)
            message = f"unknown setting {path}{_hint(str(location[-1]), known, _parent(path))}"
        elif location[-1:] == ("[key]",):
            path = _dotted(location[:-1])
            message = f"unknown setting {path}{_hint(str(location[-2]), Field, _parent(path))}"
        elif location[:2] in strange:
            continue
        elif problem["type"] == "missing":
            message = f"{path} is missing"
        elif problem["type"] in ("model_type", "dict_type"):
            message = f"{path}: expected settings by name, got {_kind(problem['input'])}"
        elif path:
            message = f"{path}: {message[:1].lower()}{message[1:]}, got {_kind(problem['input'])}"
        lines.append(f"{origin}{message}")
    return list(dict.fromkeys(lines))


def _siblings(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """Names of the settings that do exist where an unknown one was found."""
    for part in location[:-1]:
        model = _model_below(model, part)
    return list(model.model_fields)


def _model_below(model: type[BaseModel], part: str | int) -> type[BaseModel]:
    """The model of the setting `part` of `model`; the members of a mapping or list share one."""
    if not isinstance(part, str) or part not in model.model_fields:
        return model
    annotation = model.model_fields[part].annotation
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    for candidate in candidates:
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return model


def _dotted(location: Iterable[str | int]) -> str:
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else part
    return path


def _parent(path: str) -> str:
    head, dot, _ = path.rpartition(".")
    return head + dot


def _hint(name: str, known: Iterable[str], prefix: str = "") -> str:
    nearest = difflib.get_close_matches(name, [str(each) for each in known], n=1, cutoff=0.6)
    return f"; did you mean {prefix}{nearest[0]}?" if nearest else ""


def _kind(value: object) -> str:
    """How a wrong value is shown: short plain ones as they are, the rest by type."""
    if value is None:
        return "nothing"
    if isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= 40):
        return repr(value)
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return "a long text" if isinstance(value, str) else type(value).__name__


def _refuse(problems: Iterable[str]) -> None:
    if lines := list(problems):
        raise ConfigurationError("\n".join(lines))


# ---- addresses and keys -----------------------------------------------------------------------


def _access(policy: Policy, variables: Mapping[str, str]) -> dict[str, Access]:
    access = {}
    for name, terms in policy.providers.items():
        variable = _variable(name, "BASE_URL")
        setting = variable if variable in variables else f"providers.{name}.base_url"
        validate_base_url(terms.base_url, setting=setting)
        key = variables.get(_variable(name, "API_KEY"), "")
        if not re.fullmatch(r"[\x21-\x7e]*", key):
            raise ConfigurationError(
                f"{_variable(name, 'API_KEY')} holds characters that no key has"
            )
        access[name] = Access(terms.base_url.rstrip("/"), key)
    return access


def _public_url(variables: Mapping[str, str]) -> str | None:
    url = variables.get("ENRICH_WEBHOOK_PUBLIC_URL")
    if url is None:
        return None
    validate_base_url(url, setting="ENRICH_WEBHOOK_PUBLIC_URL")
    return url.rstrip("/")


def _alert_urls(policy: Policy, variables: Mapping[str, str]) -> tuple[str, ...]:
    """The channels of the environment, else of the file. No message shows one: they hold secrets.

    Several addresses stand apart by spaces, or by commas before the next scheme.
    """
    given = variables.get("ENRICH_ALERT_URLS")
    if given is None:
        setting, urls = "alerts.urls", [url.get_secret_value() for url in policy.alerts.urls]
    else:
        setting, urls = "ENRICH_ALERT_URLS", re.split(r"[\s,]+(?=[a-z][a-z0-9]*://)", given)
    _refuse(
        f"{setting}: address {number} of {len(urls)} is not of the form scheme://..."
        for number, url in enumerate(urls, 1)
        if not re.fullmatch(r"[a-z][a-z0-9]*://\S+", url.strip().rstrip(","))
    )
    return tuple(url.strip().rstrip(",") for url in urls)


def _celery_broker_url(variables: Mapping[str, str]) -> str | None:
    """Not shown when it is wrong: it may hold a password."""
    url = variables.get("ENRICH_CELERY_BROKER_URL")
    if url is not None and not re.fullmatch(r"rediss?://\S+", url):
        raise ConfigurationError(
            "ENRICH_CELERY_BROKER_URL is not a Redis address; expected redis://host:6379/0"
        )
    return url


def _port(variables: Mapping[str, str]) -> int:
    given = variables.get("ENRICH_WEBHOOK_PORT", str(DEFAULT_WEBHOOK_PORT))
    if not re.fullmatch(r"[0-9]{1,5}", given) or not 1 <= int(given) <= 65535:
        raise ConfigurationError(f"ENRICH_WEBHOOK_PORT: {given!r} is not a port from 1 to 65535")
    return int(given)
