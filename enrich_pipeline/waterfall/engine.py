"""The engine of one run: drains a partition's open enrichments, one provider stage at a time.

Calling any of its methods again, in another process or after a crash, continues where the database
stands. Nothing that decides about money lives in this process.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

from sqlalchemy import Connection, Engine, text

from enrich_pipeline.domain.enrichment import Field
from enrich_pipeline.domain.policy import Policy
from enrich_pipeline.providers.http import ProviderClient
from enrich_pipeline.providers.protocol import Disposition, Provider
from enrich_pipeline.store import breakers, calls, statistics, switch, work
from enrich_pipeline.store.locks import DRAIN
from enrich_pipeline.store.progress import StageMoney, stage_money
from enrich_pipeline.waterfall import collect
from enrich_pipeline.waterfall.claim import Claimed, Cursor, claim
from enrich_pipeline.waterfall.context import Access, Context, Partition, run_key
from enrich_pipeline.waterfall.fault_points import reached
from enrich_pipeline.waterfall.pauses import LONGEST_WAIT_SECONDS, RATE_LIMITED
from enrich_pipeline.waterfall.reachability import Reachability
from enrich_pipeline.waterfall.reconcile import first_reading
from enrich_pipeline.waterfall.send import STOPPED, Sent, give_back, send
from enrich_pipeline.waterfall.settle import Settled
from enrich_pipeline.waterfall.sweep import SweepSummary, sweep
from enrich_pipeline.waterfall.turns import Turns

__all__ = ["Access", "Partition", "StageSummary", "SweepSummary", "Waterfall"]

MAX_RETRIES = 5
"""How often a stage goes over persons whose call was refused for a passing reason."""
_LISTEN_SECONDS = 0.25
_AFTER_FAILURE_SECONDS = 1.0


@dataclass(slots=True)
class StageSummary:
    """What one stage did; amounts in micro-credits of the provider's unit."""

    calls: int = 0
    persons: int = 0
    found: int = 0
    not_found: int = 0
    reused: int = 0
    pending: int = 0
    in_doubt: int = 0
    spent_micro: int = 0
    held_micro: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)
    stopped_reason: str | None = None
    paused: bool = False
    """Whether operators have paused sending."""
    breaker: str = "closed"
    """The provider's circuit breakers when the stage ended; open ones with product and reason."""

    def add(self, settled: Settled) -> None:
        self.found += settled.found
        self.not_found += settled.not_found
        self.spent_micro += settled.posted_micro


Progress = Callable[[StageSummary], None]


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
        }
        self._ctx = Context(
            engine, policy, providers, clients, webhook_public_url, run_id, tuple(fields)
        )
        self._reachability = Reachability(engine, webhook_public_url)
        self._stop = self._ctx.stopping
        # Whoever waits hears of it when the run is asked to stop.
        self._sleep = sleep or self._stop.wait
        self._alive: Connection | None = None

    def __enter__(self) -> Self:
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

    def sweep(self) -> SweepSummary:
        """Recovers what dead processes, deadlines and late answers left behind."""
        return sweep(self._ctx, self._sleep)

    def reuse(self, partition: Partition) -> StageSummary:
        """Opens the partition's enrichments and answers what was answered since it was planned."""
        waterfalls = {f: self._ctx.policy.waterfall(f) for f in Field}
        with self._ctx.engine.begin() as conn:
            opened = work.open_enrichments(
                conn, partition.day, partition.batch, waterfalls, self._ctx.run_id
            )
            statistics.analyze(conn, opened.opened, "enrichment.enrichments")
            reached("opening")
        reached("opened")
        blocked = {"suppressed": opened.blocked} if opened.blocked else {}
        return StageSummary(persons=opened.opened, reused=opened.reused, skipped=blocked)

    def attempt(
        self, partition: Partition, provider: str, *, on_progress: Progress | None = None
    ) -> StageSummary:
        """Asks one provider for everything that stands at it, then waits a while for answers."""
        summary = StageSummary()
        if provider not in self._ctx.providers:
            summary.stopped_reason = "not_enabled"
            return summary
        self._collect(partition, provider, summary)
        for _ in range(MAX_RETRIES):
            if not self._drain(partition, provider, summary, on_progress):
                break
        self._await_answers(partition, provider, summary, on_progress)
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

    def _note(self, summary: StageSummary, money: StageMoney) -> None:
        summary.pending = money.pending
        summary.in_doubt = money.in_doubt
        summary.held_micro = money.held_micro

    def _drain(
        self,
        partition: Partition,
        provider: str,
        summary: StageSummary,
        on_progress: Progress | None,
    ) -> bool:
        """One pass over the stage; True when another may reach more: persons busy or refused."""
        ctx, cursor = self._ctx, Cursor()
        concurrency = ctx.terms(provider).concurrency
        queue: list[Claimed] = []
        flying: set[Future[Sent]] = set()
        again = False
        with (
            ThreadPoolExecutor(concurrency, thread_name_prefix=f"send-{provider}") as pool,
            self._nothing_new_after_a_failure(),
            Turns(ctx, provider) as turns,
        ):
            while True:
                if self._stop.is_set():
                    for claimed in queue:
                        give_back(ctx, claimed, STOPPED)
                    queue.clear()
                may_claim = not self._stop.is_set() and not cursor.is_done
                if may_claim and not queue and not (cursor.budget_short and flying):
                    fresh = self._claim(partition, provider, cursor, concurrency, not flying)
                    queue.extend(fresh)
                    if not fresh and not flying and not cursor.is_done and cursor.budget_short:
                        cursor.carry.clear()
                slots, pause = turns.slots() if queue or flying else 0, 0.0
                while queue and len(flying) < slots:
                    turn, pause = turns.take(min(slots - len(flying), len(queue)))
                    if turn is None:
                        break
                    flying.add(pool.submit(send, ctx, partition, queue.pop(0), turn))
                if pause > LONGEST_WAIT_SECONDS:
                    self._leave_for_later(queue, provider, pause)
                if not flying:
                    if queue:
                        self._sleep(min(pause or _LISTEN_SECONDS, _LISTEN_SECONDS))
                    elif cursor.is_done or self._stop.is_set():
                        break
                    continue
                done, flying = wait(flying, min(pause or 1.0, 1.0), return_when=FIRST_COMPLETED)
                for future in done:
                    sent = future.result()
                    queue.extend(sent.successors)
                    again |= self._count(sent, summary)
                    if sent.is_throttled:
                        turns.forget()
                if on_progress is not None:
                    on_progress(summary)
        summary.persons += cursor.persons
        summary.reused += cursor.reused
        for reason, count in cursor.skipped.items():
            summary.skipped[reason] = summary.skipped.get(reason, 0) + count
        summary.waiting = dict(cursor.waiting)
        if cursor.busy and not again:
            self._sleep(_AFTER_FAILURE_SECONDS)
        return (again or cursor.busy > 0) and not self._stop.is_set()

    def _leave_for_later(self, queue: list[Claimed], provider: str, pause: float) -> None:
        """A window of hours is used up: its provider is left to a later drain."""
        for claimed in queue:
            give_back(self._ctx, claimed, f"unavailable:{RATE_LIMITED}")
        queue.clear()
        everything = [breakers.ALL_PRODUCTS]
        with self._ctx.engine.begin() as conn:
            breakers.trip(conn, provider, everything, RATE_LIMITED, pause)

    @contextmanager
    def _nothing_new_after_a_failure(self) -> Iterator[None]:
        """A step that the database refused ends the run: threads that wait to send send nothing."""
        try:
            yield
        except BaseException:
            self._stop.set()
            raise

    def _claim(
        self,
        partition: Partition,
        provider: str,
        cursor: Cursor,
        concurrency: int,
        last_chance: bool,
    ) -> list[Claimed]:
        ctx = self._ctx
        claimed = claim(
            ctx,
            partition,
            provider,
            cursor,
            2 * concurrency,
            receiver_ready=self._reachability.is_proven,
            last_chance=last_chance,
        )
        if claimed:
            reached("claimed")
            first_reading(ctx, provider)
        cursor.persons += sum(c.persons for c in claimed)
        return claimed

    def _count(self, sent: Sent, summary: StageSummary) -> bool:
        """Adds a sent call to the summary; True when it was refused for a passing reason."""
        summary.calls += sent.settled is not None or sent.stopped_reason == "never_sent"
        if sent.settled is None:
            summary.stopped_reason = sent.stopped_reason or summary.stopped_reason
            return sent.stopped_reason in ("never_sent", "lease_over", "withdrawn", "breaker_open")
        summary.add(sent.settled)
        if sent.settled.reasons:
            summary.stopped_reason = sent.settled.reasons[-1]
        if sent.settled.disposition is Disposition.TRANSIENT:
            self._sleep(_AFTER_FAILURE_SECONDS)
        return sent.settled.disposition in (Disposition.THROTTLED, Disposition.TRANSIENT)

    def _collect(self, partition: Partition, provider: str, summary: StageSummary) -> None:
        for settled in collect.deliveries(self._ctx, provider=provider, partition=partition):
            summary.add(settled)
        for settled in collect.polls(self._ctx, provider=provider, partition=partition):
            summary.add(settled)

    def _await_answers(
        self,
        partition: Partition,
        provider: str,
        summary: StageSummary,
        on_progress: Progress | None,
    ) -> None:
        """Listens for the stage's own results, for at most the provider's `await_seconds`."""
        until = time.monotonic() + self._ctx.terms(provider).await_seconds
        while time.monotonic() < until and not self._stop.is_set():
            with self._ctx.engine.connect() as conn:
                if not calls.unsettled(conn, partition.day, partition.batch, provider):
                    return
            self._collect(partition, provider, summary)
            if on_progress is not None:
                on_progress(summary)
            self._sleep(_LISTEN_SECONDS)
