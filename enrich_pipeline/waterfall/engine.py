"""The engine of one run: drains a partition's open enrichments, one provider stage at a time.

Calling any of its methods again, in another process or after a crash, continues where the database
stands. Nothing that decides about money lives in this process.
"""

import functools
import gc
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from sqlalchemy import Connection, Engine, text

from enrich_pipeline.domain.enrichment import Field
from enrich_pipeline.domain.policy import Policy
from enrich_pipeline.providers.http import ProviderClient
from enrich_pipeline.providers.protocol import Provider
from enrich_pipeline.store import breakers, opening, statistics, switch
from enrich_pipeline.store.locks import DRAIN
from enrich_pipeline.store.progress import StageMoney, stage_money
from enrich_pipeline.waterfall.ahead import queue_of, working_ahead
from enrich_pipeline.waterfall.context import Access, Context, Partition, run_key
from enrich_pipeline.waterfall.fault_points import reached
from enrich_pipeline.waterfall.reachability import Reachability
from enrich_pipeline.waterfall.send import STOPPED
from enrich_pipeline.waterfall.stage import Progress, Stage, StageSummary
from enrich_pipeline.waterfall.sweep import SweepSummary, recover_own, sweep

__all__ = ["Access", "Partition", "StageSummary", "SweepSummary", "Waterfall"]

_NEW_OBJECTS = 10_000
"""How many before the collector looks for cycles: Python's 700 are made by every few persons."""

MAX_RETRIES = 5
"""How often a stage goes over persons whose call was refused for a passing reason."""


class Waterfall:
    """Everything one run needs to drain partitions. Use as a context manager.

    While it is open its process holds an advisory lock by which others see that it lives.
    """

    def __init__(
        self,
        engine: Engine,
        policy: Policy,
        providers: Mapping[str, Provider],
        access: Mapping[str, Access],
        webhook_public_url: str | None,
        run_id: str,
        *,
        fields: Sequence[Field] = tuple(Field),
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        clients = {
            name: ProviderClient(
                access[name].base_url,
                provider.headers(access[name].api_key),
                connect_timeout=policy.providers[name].connect_timeout_seconds,
                timeout=policy.providers[name].timeout_seconds,
                max_connections=policy.providers[name].concurrency,
            )
            for name, provider in providers.items()
            if access[name].api_key
        }
        self._ctx = Context(
            engine, policy, providers, clients, webhook_public_url, run_id, tuple(fields)
        )
        self._reachability = Reachability(engine, webhook_public_url)
        self._stop = self._ctx.stopping
        # Whoever waits hears of it when the run is asked to stop.
        self._sleep = sleep or self._stop.wait
        self._alive: Connection | None = None
        self._stages: dict[tuple[Partition, str], Stage] = {}

    def __enter__(self) -> Self:
        _spare_the_collector()
        self._alive = self._ctx.engine.connect()
        self._alive.execute(
            text("SELECT pg_advisory_lock(:class, :key)"),
            {"class": DRAIN, "key": run_key(self._ctx.run_id)},
        )
        self._alive.commit()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes connections; the advisory lock goes with its session."""
        for client in self._ctx.clients.values():
            client.close()
        if self._alive is not None:
            self._alive.invalidate()
            self._alive.close()
            self._alive = None

    def stop(self) -> None:
        """Asks for a graceful end, from any thread or a signal handler.

        Nothing more is claimed or sent, what is in flight is settled, what is reserved and was not
        sent is given back. Stages return as soon as that is done.
        """
        self._stop.set()

    def resume(self) -> SweepSummary:
        """Recovers what an earlier process of this run left; before anything else is done here."""
        return recover_own(self._ctx)

    def sweep(self) -> SweepSummary:
        """Recovers what dead processes, deadlines and late answers left behind."""
        return sweep(self._ctx, self._sleep)

    def reuse(self, partition: Partition) -> StageSummary:
        """Opens the partition's enrichments and answers what was answered since it was planned."""
        waterfalls = {f: self._ctx.policy.waterfall(f) for f in Field}
        with self._ctx.engine.begin() as conn:
            opened = opening.open_enrichments(
                conn, partition.day, partition.batch, waterfalls, self._ctx.run_id
            )
            statistics.analyze(conn, opened.opened, "enrichment.enrichments")
            reached("opening")
        reached("opened")
        blocked = {"suppressed": opened.blocked} if opened.blocked else {}
        return StageSummary(persons=opened.opened, reused=opened.reused, skipped=blocked)

    def attempt(
        self,
        partition: Partition,
        provider: str,
        *,
        later: Sequence[str] = (),
        on_progress: Progress | None = None,
    ) -> StageSummary:
        """Asks one provider for everything that stands at it, then waits a while for answers.

        Whoever is done with it goes on to the `later` ones, in their order, in the meantime: in
        full calls, so that little is left to do when it is their turn to be attempted.
        """
        stage = self._stage(partition, provider)
        summary = stage.summary
        if provider not in self._ctx.providers:
            summary.stopped_reason = "not_enabled"
            return summary
        followers = [
            (self._stage(partition, name), earlier) for name, earlier in queue_of(provider, later)
        ]
        with working_ahead(stage, followers):
            stage.collect()
            for _ in range(MAX_RETRIES):
                if not stage.drain(on_progress):
                    break
            stage.await_answers(on_progress)
        del self._stages[(partition, provider)]
        with self._ctx.engine.connect() as conn:
            money = stage_money(conn, partition.day, partition.batch, provider)
            summary.paused = switch.paused(conn) is not None
            opened = breakers.open_breakers(conn, provider)
        self._note(summary, money)
        if opened:
            told = (f"{product}: {each.reason}" for product, each in sorted(opened.items()))
            summary.breaker = f"open ({', '.join(told)})"
        if self._stop.is_set():
            summary.stopped_reason = STOPPED
        return summary

    def _stage(self, partition: Partition, provider: str) -> Stage:
        """The stage whose summary holds what was done ahead, if anything was."""
        key = (partition, provider)
        if key not in self._stages:
            self._stages[key] = Stage(
                self._ctx, partition, provider, self._reachability, self._sleep
            )
        return self._stages[key]

    def _note(self, summary: StageSummary, money: StageMoney) -> None:
        summary.pending = money.pending
        summary.in_doubt = money.in_doubt
        summary.held_micro = money.held_micro


@functools.cache
def _spare_the_collector() -> None:
    """Take what the process has imported out of every search for garbage, and search less often.

    Nearly nothing here is in a cycle; looking for some was a seventh of a run's processor time.
    Once in a process: what one run leaves behind must not be kept for ever by the next one.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 20, 20)
