"""What the user decides: the typed form of the configuration, passed down to everything below.

Pure models without defaults of their own: the packaged `defaults.yaml` states every default once,
`settings.py` lays the user's file and the environment over it.
"""

import re
from collections.abc import Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr, model_validator
from pydantic import Field as Bounded

from enrich_pipeline.domain.enrichment import Field, ValueStatus

MICRO = 1_000_000


def _exact(value: object) -> object:
    """YAML reads `0.01` as a float; its shortest text is what the user wrote."""
    return str(value) if isinstance(value, float) else value


Amount = Annotated[Decimal, BeforeValidator(_exact), Bounded(ge=0, max_digits=18, decimal_places=6)]


def _time_of_day(value: object) -> object:
    """YAML reads an unquoted `16:30` as a number to the base of 60: as minutes."""
    if isinstance(value, int) and 0 <= value < 24 * 60:
        return time(value // 60, value % 60)
    if isinstance(value, str) and (match := re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", value)):
        return time(int(match[1]), int(match[2]))
    raise ValueError("expected a time of day (UTC) such as 06:00")


def _listed(value: object) -> object:
    """One address may stand alone: refused, it would be shown with the secrets it holds."""
    return [value] if isinstance(value, str) else value


TimeOfDay = Annotated[time, BeforeValidator(_time_of_day)]


def micro(amount: Decimal) -> int:
    """Credits or dollars to their millionths; exact because amounts have at most six decimals."""
    return int(amount * MICRO)


class _Policy(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourcePolicy(_Policy):
    """The relation that contacts are read from; `columns` maps our column to the relation's."""

    relation: str
    columns: Mapping[str, str]


class FieldPolicy(_Policy):
    """How one field is kept fresh. `waterfall` may be empty: then the field is never bought."""

    stale_after_days: int = Bounded(ge=1, le=3650)
    accept: frozenset[ValueStatus]
    waterfall: tuple[str, ...]

    @property
    def stale_after(self) -> timedelta:
        return timedelta(days=self.stale_after_days)


class ReusePolicy(_Policy):
    """How long an answer, or a miss, of one provider is not bought again there."""

    found_days: int = Bounded(ge=0, le=3650)
    not_found_days: int = Bounded(ge=0, le=3650)


class RefreshPolicy(_Policy):
    start_date: date
    batches: int = Bounded(ge=1, le=100)
    contacts_per_night: int = Bounded(ge=0)
    hour_utc: int = Bounded(ge=0, le=23)
    weight_column: str | None
    executor: Literal["in_process", "multiprocess", "celery", "k8s"]


class BudgetPolicy(_Policy):
    """`night_usd` over all providers per UTC day, `person_usd` over `person_days` rolling days."""

    night_usd: Amount
    person_usd: Amount
    person_days: int = Bounded(ge=1, le=3650)


class RetentionPolicy(_Policy):
    """After how many days what is removed. Never what an open call needs, never the ledger."""

    raw_replies_days: int = Bounded(ge=1, le=3650)
    requests_days: int = Bounded(ge=1, le=3650)
    inbox_days: int = Bounded(ge=1, le=3650)
    skips_days: int = Bounded(ge=1, le=3650)
    rejects_days: int = Bounded(ge=1, le=3650)
    reports_days: int = Bounded(ge=1, le=3650)


class AlertsPolicy(_Policy):
    """Whom to tell what needs a person. `urls` are Apprise addresses, which hold secrets.

    `deadline` is the time of day (UTC) by which a night must be finished; None: never late. What
    persists is told again after `repeat_hours`.
    """

    urls: Annotated[tuple[SecretStr, ...], BeforeValidator(_listed)]
    deadline: TimeOfDay | None
    repeat_hours: float = Bounded(ge=1)


class Tariff(_Policy):
    """Prices in credits from a day on. `usd_per_credit` only converts for budgets and reports."""

    valid_from: date
    usd_per_credit: Amount
    prices: Mapping[str, Amount]


class RateWindow(_Policy):
    """At most `limit` requests (or records, where `per` says so) in any `seconds`."""

    seconds: int = Bounded(ge=1)
    limit: int = Bounded(ge=1)
    per: Literal["request", "record"]


class ProviderPolicy(_Policy):
    """The terms on which a provider is used.

    `budget_credits` caps a UTC day; None: no own cap. A balance below `low_credits` is an alert;
    None: never.
    """

    enabled: bool
    base_url: str
    batch_size: int | None
    concurrency: int = Bounded(ge=1, le=256)
    connect_timeout_seconds: float = Bounded(gt=0)
    timeout_seconds: float = Bounded(gt=0)
    rate: tuple[RateWindow, ...]
    await_seconds: float = Bounded(ge=0)
    poll_seconds: float = Bounded(gt=0)
    deadline_minutes: float = Bounded(gt=0)
    in_doubt_hours: float = Bounded(gt=0)
    on_unavailable: Literal["wait", "next"]
    budget_credits: Amount | None
    low_credits: Amount | None
    tariffs: tuple[Tariff, ...] = Bounded(min_length=1)
    options: Mapping[str, Any]

    def tariff(self, day: date) -> Tariff:
        """The tariff in force on `day`; before the first one, the first."""
        in_force = [t for t in self.tariffs if t.valid_from <= day]
        if not in_force:
            return min(self.tariffs, key=lambda t: t.valid_from)
        return max(in_force, key=lambda t: t.valid_from)


class Policy(_Policy):
    """The whole configuration below secrets and addresses."""

    source: SourcePolicy
    refresh: RefreshPolicy
    fields: Mapping[Field, FieldPolicy]
    reuse: ReusePolicy
    budget: BudgetPolicy
    retention: RetentionPolicy
    alerts: AlertsPolicy
    providers: Mapping[str, ProviderPolicy]

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.retention.skips_days < self.reuse.not_found_days:
            raise ValueError(
                f"retention.skips_days ({self.retention.skips_days}) is below "
                f"reuse.not_found_days ({self.reuse.not_found_days}): a skip tells for so long "
                "that a provider was not available"
            )
        for name, policy in self.fields.items():
            if self.reuse.found_days > policy.stale_after_days:
                raise ValueError(
                    f"reuse.found_days ({self.reuse.found_days}) is above "
                    f"fields.{name}.stale_after_days ({policy.stale_after_days}): "
                    "a stale value would be answered with itself"
                )
            for provider in policy.waterfall:
                if provider not in self.providers:
                    raise ValueError(
                        f"fields.{name}.waterfall names the unknown provider {provider!r}; "
                        f"known are {', '.join(self.providers)}"
                    )
            if len(set(policy.waterfall)) != len(policy.waterfall):
                raise ValueError(f"fields.{name}.waterfall names a provider twice")
        return self

    @property
    def night_hours(self) -> timedelta | None:
        """How long a night may take, from refresh.hour_utc to alerts.deadline; None: any time."""
        if self.alerts.deadline is None:
            return None
        deadline = timedelta(hours=self.alerts.deadline.hour, minutes=self.alerts.deadline.minute)
        start = timedelta(hours=self.refresh.hour_utc)
        return (deadline - start) % timedelta(days=1) or timedelta(days=1)

    def waterfall(self, field: Field) -> tuple[str, ...]:
        """The enabled providers of a field, in order."""
        policy = self.fields.get(field)
        if policy is None:
            return ()
        return tuple(name for name in policy.waterfall if self.providers[name].enabled)
