"""What every part of the engine is given: the database, the terms, the clients, the run."""

import hashlib
import hmac
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property

from sqlalchemy import Connection, Engine

from enrich_pipeline.domain.enrichment import Field
from enrich_pipeline.domain.policy import Policy, ProviderPolicy
from enrich_pipeline.providers.http import ProviderClient
from enrich_pipeline.providers.protocol import Call, Offer, Provider
from enrich_pipeline.store.calls import StoredCall
from enrich_pipeline.store.statement import text


@dataclass(frozen=True, slots=True)
class Partition:
    """One date and one batch: what one run drains."""

    day: date
    batch: int

    @property
    def batch_key(self) -> str:
        return f"{self.batch:02d}"


def run_key(run_id: str) -> int:
    """The second key of a run's advisory lock, by which others see that it lives."""
    return zlib.crc32(run_id.encode()) - 2**31


@dataclass(frozen=True, slots=True)
class Access:
    """Where a provider is reached, and with which key."""

    base_url: str
    api_key: str = field(repr=False)


@dataclass(frozen=True)
class Context:
    """Shared by all threads of one run, with what they tell each other."""

    engine: Engine
    policy: Policy
    providers: Mapping[str, Provider]
    clients: Mapping[str, ProviderClient]
    webhook_public_url: str | None
    run_id: str
    fields: tuple[Field, ...] = tuple(Field)
    stopping: threading.Event = field(default_factory=threading.Event)
    """Once set nothing more is claimed or sent; what is under way is finished."""
    free_until: dict[str, float] = field(default_factory=dict)
    """Until when who asks a provider without rate windows needs no leave; monotonic seconds."""

    def terms(self, provider: str) -> ProviderPolicy:
        return self.policy.providers[provider]

    def maximum(self, provider: str) -> int:
        """Persons per call: the configured size within the documented maximum."""
        documented = self.providers[provider].limits.maximum
        return min(self.terms(provider).batch_size or documented, documented)

    def offers(self, provider: str, *, consented: bool) -> tuple[Offer, ...]:
        return self._offers[(provider, consented)]

    @cached_property
    def _offers(self) -> Mapping[tuple[str, bool], tuple[Offer, ...]]:
        return {
            (name, consented): provider.offers(consented=consented)
            for name, provider in self.providers.items()
            for consented in (False, True)
        }

    @cached_property
    def _webhook_secret(self) -> bytes:
        with self.engine.connect() as conn:
            return bytes(
                conn.execute(
                    text("SELECT value FROM enrichment.secrets WHERE name = 'webhook'")
                ).scalar_one()
            )

    def token(self, call_id: int) -> str:
        """The unguessable part of a call's webhook address; only its hash is stored."""
        return hmac.new(self._webhook_secret, str(call_id).encode(), hashlib.sha256).hexdigest()

    def wire_call(self, stored: StoredCall, awaited: frozenset[str] | None = None) -> Call:
        """A stored call as its provider's adapter knows it; `awaited` as in `Call`."""
        url = self.webhook_url(stored.provider, stored.call_id) if stored.has_webhook else None
        return Call(
            stored.group,
            stored.items,
            webhook_url=url,
            job_id=stored.job_id,
            reference=str(stored.call_id),
            awaited=awaited,
        )

    def webhook_url(self, provider: str, call_id: int) -> str | None:
        """The address for this call's deliveries; None without a public URL."""
        if self.webhook_public_url is None:
            return None
        base = self.webhook_public_url.rstrip("/")
        return f"{base}/webhooks/{provider}/{self.token(call_id)}"


def database_now(conn: Connection) -> datetime:
    """The database's clock: the one that leases, reuse windows and budgets go by."""
    now: datetime = conn.execute(text("SELECT clock_timestamp()")).scalar_one()
    return now
