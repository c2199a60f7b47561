"""What a sandbox can be told before it starts. No behaviour lives here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

MICRO = 1_000_000

PROVIDERS = ("agntdata", "pronto", "prospeo", "lance", "apollo")

DEFAULT_PRICES: Mapping[str, int] = MappingProxyType(
    {
        "agntdata.record": 1 * MICRO,
        "pronto.email": 1 * MICRO,
        "pronto.phone": 10 * MICRO,
        "pronto.personal_email": 10 * MICRO,
        "prospeo.match": 1 * MICRO,
        "prospeo.mobile": 10 * MICRO,
        "lance.emails": 1 * MICRO,
        "lance.phones": 10 * MICRO,
        "apollo.match": 1 * MICRO,
        "apollo.mobile": 8 * MICRO,
        "apollo.waterfall_email": 5 * MICRO,
        "apollo.waterfall_phone": 8 * MICRO,
    }
)
"""Micro-units of the provider's own unit (agntdata's is one US cent). `prospeo.mobile` is the price
of a match that brings a mobile, not a surcharge; Apollo's late products come on top of a match."""

DEFAULT_RATES: Mapping[str, float] = MappingProxyType(
    {
        # What is true of people.
        "truth.mobile": 0.72,
        "truth.personal_email": 0.78,
        "truth.moved": 0.06,
        "truth.job_change": 0.12,
        # How providers err, all of them alike.
        "answer.other_person": 0.005,
        "answer.respelled": 0.04,
        "answer.lagging": 0.15,
        # What each provider has: shares of all people, unless the name ends in `_share`.
        "agntdata.record": 0.62,
        "agntdata.email": 0.45,
        "agntdata.phone": 0.22,
        "agntdata.personal_email": 0.25,
        "agntdata.guessed_share": 0.10,
        "pronto.email": 0.50,
        "pronto.catch_all_share": 0.15,
        "pronto.phone": 0.35,
        "pronto.personal_email": 0.40,
        "prospeo.match": 0.74,
        "prospeo.email": 0.62,
        "prospeo.verified_share": 0.85,
        "prospeo.mobile": 0.38,
        "lance.emails": 0.45,
        "lance.verified_share": 0.80,
        "lance.phones": 0.40,
        "lance.broken": 0.01,
        "apollo.profile": 0.70,
        "apollo.email": 0.50,
        "apollo.verified_share": 0.75,
        "apollo.personal_email": 0.30,
        "apollo.phone": 0.40,
        "apollo.waterfall_email": 0.55,
    }
)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Allowed requests (or records, see `per_record`) a second and a minute; None is no limit."""

    per_second: float | None = None
    per_minute: float | None = 60_000
    per_record: bool = False


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """Everything a sandbox can be told; the defaults make a useful one.

    Attributes:
        directory: CSV with the header of a contacts export, optionally with a `human_id` column.
            Without that column, rows that share an identifier are one human.
        directory_contacts: the same without `human_id`; together with `directory_persons`.
        directory_persons: CSV with contact_id and person_id: who is who in `directory_contacts`.
        seed: another seed is another world: other coverage, other invented values.
        epoch: the starting epoch; people change employers as it moves.
        latency_ms, latency_jitter_ms: added to every provider reply.
        state: SQLite file that keeps the charges, so that a killed sandbox can be started again
            and still knows what was paid. Results that were under way are lost with the process.
        rates, prices, limits, balances: laid over the defaults; unknown names are refused.
            Prices and balances are micro-units; a rate is a share between 0 and 1.
        api_keys: the only key accepted for a provider; providers not named accept any key that is
            not empty and does not start with "invalid".
        require_https: refuse http:// webhook addresses as the vendors do. Otherwise plain http is
            accepted for loopback addresses and for `webhook_hosts`.
        webhook_attempts, webhook_backoff_s: deliveries tried until a 2xx; the wait doubles.
        pronto_delay_s, apollo_delay_s: shortest and longest time until a result is delivered.
        lance_delay_s: shortest and longest time an enrichment stays pending.
        pronto_consent: the account consented to personal e-mail enrichment.
    """

    host: str = "127.0.0.1"
    port: int = 8799
    directory: Path | None = None
    directory_contacts: Path | None = None
    directory_persons: Path | None = None
    seed: int = 1
    epoch: int = 0
    latency_ms: float = 0.0
    latency_jitter_ms: float = 0.0
    state: Path | None = None
    rates: Mapping[str, float] = field(default_factory=dict)
    prices: Mapping[str, int] = field(default_factory=dict)
    limits: Mapping[str, RateLimit] = field(default_factory=dict)
    balances: Mapping[str, int] = field(default_factory=dict)
    api_keys: Mapping[str, str] = field(default_factory=dict)
    require_https: bool = False
    webhook_hosts: tuple[str, ...] = ()
    webhook_attempts: int = 5
    webhook_backoff_s: float = 0.25
    pronto_delay_s: tuple[float, float] = (0.3, 1.5)
    apollo_delay_s: tuple[float, float] = (0.3, 1.5)
    lance_delay_s: tuple[float, float] = (0.6, 1.4)
    pronto_consent: bool = True

    def __post_init__(self) -> None:
        if (self.directory_contacts is None) != (self.directory_persons is None):
            raise ValueError("directory_contacts and directory_persons go together")
        if self.directory is not None and self.directory_contacts is not None:
            raise ValueError("give either directory or directory_contacts, not both")
        for name in self.rates:
            if name not in DEFAULT_RATES:
                raise ValueError(f"unknown rate {name!r}; known: {', '.join(DEFAULT_RATES)}")
        for name in self.prices:
            if name not in DEFAULT_PRICES:
                raise ValueError(f"unknown price {name!r}; known: {', '.join(DEFAULT_PRICES)}")
        for mapping in (self.limits, self.balances, self.api_keys):
            for name in mapping:
                if name not in PROVIDERS:
                    raise ValueError(f"unknown provider {name!r}; known: {', '.join(PROVIDERS)}")

    @property
    def all_rates(self) -> dict[str, float]:
        return {**DEFAULT_RATES, **self.rates}

    @property
    def all_prices(self) -> dict[str, int]:
        return {**DEFAULT_PRICES, **self.prices}
