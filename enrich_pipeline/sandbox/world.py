"""Everything that one running sandbox remembers, shared by the providers and the admin pages."""

import asyncio
import json
import random
import time
from array import array
from dataclasses import dataclass
from typing import Any

from .answers import Answers, View
from .config import MICRO, PROVIDERS, RateLimit, SandboxConfig
from .delivery import Courier, is_acceptable
from .directory import load_directory
from .faults import Faults
from .humans import Asked, Human, Resolver
from .limits import Limiter
from .meter import Charge, Meter

_START_BALANCE = 1_000_000_000 * MICRO
_KEPT_VIOLATIONS = 5_000


@dataclass(frozen=True, slots=True)
class Violation:
    """A documented rule that a caller broke; never holds a value of a person."""

    provider: str
    endpoint: str
    call: int
    rule: str
    at: float


class RequestLog:
    """Every request of one provider, in columns."""

    def __init__(self) -> None:
        self.endpoints: list[str] = []
        self.outcomes: list[str] = []
        self.records = array("L")
        self.statuses = array("H")
        self.calls = array("Q")
        self.started_at = array("d")
        self.seconds = array("f")
        self.billable = 0
        self.billable_records = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "count": len(self.endpoints),
            "calls": self.billable,
            "calls_records": self.billable_records,
            "by_endpoint": _counted(self.endpoints),
            "by_outcome": _counted(self.outcomes),
            "endpoint": self.endpoints,
            "records": self.records.tolist(),
            "started_at": self.started_at.tolist(),
            "seconds": self.seconds.tolist(),
            "status": self.statuses.tolist(),
            "outcome": self.outcomes,
            "call": self.calls.tolist(),
        }


class World:
    """The state of a sandbox. Only the event loop touches it, one handler at a time."""

    def __init__(self, config: SandboxConfig) -> None:
        self.config = config
        self.rates = config.all_rates
        self.prices = config.all_prices
        self.directory = load_directory(
            config.directory, config.directory_contacts, config.directory_persons
        )
        self.resolver = Resolver(self.directory, config.seed)
        self.answers = Answers(config.seed, self.rates, config.epoch)
        self.meter = Meter(config.state)
        self.faults = Faults(config.seed)
        self.courier = Courier(self.faults, config.webhook_attempts, config.webhook_backoff_s)
        self._number = self.meter.last_call
        self._random = random.Random(config.seed)
        self.resets = 0
        self._start()

    def _start(self) -> None:
        config = self.config
        self.answers.epoch = config.epoch
        self.limits = {p: Limiter(config.limits.get(p, RateLimit())) for p in PROVIDERS}
        self.requests = {p: RequestLog() for p in PROVIDERS}
        self.violations: list[Violation] = []
        self.violation_counts: dict[str, int] = {}
        self.starting = {p: config.balances.get(p, _START_BALANCE) for p in PROVIDERS}
        self.reserved = dict.fromkeys(PROVIDERS, 0)
        self.latency = dict.fromkeys(PROVIDERS, (config.latency_ms, config.latency_jitter_ms))
        self.pronto_consent = config.pronto_consent
        self.other_persons = dict.fromkeys(PROVIDERS, 0)

    async def reset(self) -> None:
        """Back to the start: no charges, no faults, nothing under way, the first epoch."""
        self.resets += 1
        await self.courier.stop()
        self.meter.reset()
        self.faults.reset()
        self._random = random.Random(self.config.seed)
        self._start()

    def next_call(self) -> int:
        self._number += 1
        return self._number

    def balance(self, provider: str) -> int:
        """Micro-units left, what is charged but under way included."""
        return self.starting[provider] - self.meter.charged.get(provider, 0)

    def can_afford(self, provider: str, amount: int) -> bool:
        return self.balance(provider) - self.reserved[provider] >= amount

    def charge(
        self,
        human: int,
        provider: str,
        product: str,
        call: int,
        *,
        amount: int | None = None,
        options: str = "",
        identifiers: int = 0,
    ) -> int:
        """Charges the price of a product, or the amount given, and returns it."""
        price = self.prices[f"{provider}.{product}"] if amount is None else amount
        if price > 0:
            self.meter.add(
                Charge(
                    human, provider, product, options, price, call, self.answers.epoch,
                    time.time(), identifiers,
                )
            )  # fmt: skip
        return price

    def resolve(self, asked: Asked) -> Human | None:
        return self.resolver.resolve(asked)

    def view(self, human: Human, provider: str, can_confuse: bool = True) -> View:
        view = self.answers.view(human, provider, can_confuse=can_confuse)
        if view.is_other_person:
            self.other_persons[provider] += 1
        return view

    def violate(self, provider: str, endpoint: str, call: int, rule: str) -> None:
        key = f"{provider}.{rule}"
        self.violation_counts[key] = self.violation_counts.get(key, 0) + 1
        if len(self.violations) < _KEPT_VIOLATIONS:
            self.violations.append(Violation(provider, endpoint, call, rule, time.time()))

    def is_acceptable_webhook(self, url: object) -> bool:
        return is_acceptable(url, self.config.require_https, self.config.webhook_hosts)

    async def pause(self, provider: str) -> None:
        latency, jitter = self.latency[provider]
        if latency or jitter:
            await asyncio.sleep((latency + self._random.random() * jitter) / 1000)

    def label(self, number: int) -> str:
        known = self.directory.humans.get(number)
        return known.label if known else f"~{number:016x}"


def plain_number(micro: int) -> int | float:
    """Micro-units as the JSON number of whole units: an integer wherever it is one."""
    whole, rest = divmod(micro, MICRO)
    return micro / MICRO if rest else whole


def decimal_text(micro: int) -> str:
    sign = "-" if micro < 0 else ""
    whole, rest = divmod(abs(micro), MICRO)
    return f"{sign}{whole}.{rest:06d}".rstrip("0").rstrip(".")


def as_json_bytes(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _counted(values: list[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return counts
