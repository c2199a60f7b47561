"""One provider's stage of one partition: claims calls, sends several at once, counts what came."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock

from enrich_pipeline.providers.protocol import Disposition
from enrich_pipeline.store import breakers, calls
from enrich_pipeline.waterfall import collect
from enrich_pipeline.waterfall.claim import Cursor, claim, fills_a_call
from enrich_pipeline.waterfall.context import Context, Partition
from enrich_pipeline.waterfall.fault_points import reached
from enrich_pipeline.waterfall.pauses import LONGEST_WAIT_SECONDS, RATE_LIMITED
from enrich_pipeline.waterfall.reachability import Reachability
from enrich_pipeline.waterfall.reconcile import first_reading
from enrich_pipeline.waterfall.reserve import Claimed
from enrich_pipeline.waterfall.send import STOPPED, Sent, give_back, send, settle_answered
from enrich_pipeline.waterfall.settle import Settled
from enrich_pipeline.waterfall.turns import Turns

_LISTEN_SECONDS = 0.25
_AFTER_FAILURE_SECONDS = 1.0
_LOOK_EVERY_SECONDS = 1.0
_PAUSES_PER_LOOK = 30
"""In vain, looking for whom earlier stages have passed on takes 3 % of the time at most."""


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


class Stage:
    """Sends to one provider what one partition has for it. `summary` grows with every pass."""

    def __init__(
        self,
        ctx: Context,
        partition: Partition,
        provider: str,
        reachability: Reachability,
        sleep: Callable[[float], object],
    ) -> None:
        self.summary = StageSummary()
        self._ctx, self._partition, self._provider = ctx, partition, provider
        self._reachability, self._sleep = reachability, sleep
        self._stop = ctx.stopping
        self._collecting, self._counting = Lock(), Lock()

    def drain(self, on_progress: Progress | None) -> bool:
        """One pass over everybody; True when another may reach more: persons busy or refused."""
        cursor = Cursor()
        again = self._send_all(cursor, Event(), on_progress)
        self.summary.waiting = dict(cursor.waiting)
        if cursor.busy and not again:
            self._sleep(_AFTER_FAILURE_SECONDS)
        return (again or cursor.busy > 0) and not self._stop.is_set()

    def work_ahead(self, earlier: frozenset[str], over: Event) -> None:
        """Sends full calls for whoever is done with the `earlier` stages, until told that is over.

        Nobody waits for this: whatever it leaves, refused calls too, is the stage's own turn's.
        """
        while not (over.is_set() or self._stop.is_set()):
            began, called = time.monotonic(), self.summary.calls
            cursor = Cursor(earlier=earlier)
            if fills_a_call(self._ctx, self._partition, self._provider, cursor):
                self._send_all(cursor, over, None)
            looked = time.monotonic() - began if self.summary.calls == called else 0.0
            over.wait(max(_LOOK_EVERY_SECONDS, _PAUSES_PER_LOOK * looked))

    def keep_collecting(self, over: Event) -> None:
        """Collects beside the sending, until told that is over: who follows waits for answers."""
        with self._nothing_new_after_a_failure():
            while not (over.wait(_LOOK_EVERY_SECONDS) or self._stop.is_set()):
                self.collect(over)

    def collect(self, over: Event | None = None) -> None:
        """Applies what came for the stage's accepted calls, by webhook and by poll."""
        ctx, provider, partition = self._ctx, self._provider, self._partition
        with self._collecting:
            for settled in collect.deliveries(ctx, provider=provider, partition=partition):
                self._add(settled)
            for settled in collect.polls(ctx, provider=provider, partition=partition, over=over):
                self._add(settled)

    def await_answers(self, on_progress: Progress | None) -> None:
        """Listens for the stage's own results, for at most the provider's `await_seconds`."""
        until = time.monotonic() + self._ctx.terms(self._provider).await_seconds
        while time.monotonic() < until and not self._stop.is_set():
            day, batch = self._partition.day, self._partition.batch
            with self._ctx.engine.connect() as conn:
                if not calls.unsettled(conn, day, batch, self._provider):
                    return
            self.collect()
            if on_progress is not None:
                on_progress(self.summary)
            self._sleep(_LISTEN_SECONDS)

    def _send_all(self, cursor: Cursor, over: Event, on_progress: Progress | None) -> bool:
        ctx, provider = self._ctx, self._provider
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
                is_ending = self._stop.is_set() or over.is_set()
                may_claim = not is_ending and not cursor.is_done
                if may_claim and not queue and not (cursor.budget_short and flying):
                    fresh = self._claim(cursor, concurrency, not flying)
                    queue.extend(fresh)
                    if not fresh and not flying and not cursor.is_done and cursor.budget_short:
                        cursor.carry.clear()
                slots, pause = turns.slots() if queue or flying else 0, 0.0
                while queue and len(flying) < slots:
                    turn, pause = turns.take(min(slots - len(flying), len(queue)))
                    if turn is None:
                        break
                    flying.add(pool.submit(send, ctx, queue.pop(0), turn))
                if pause > LONGEST_WAIT_SECONDS:
                    self._leave_for_later(queue, pause)
                if not flying:
                    if queue:
                        self._sleep(min(pause or _LISTEN_SECONDS, _LISTEN_SECONDS))
                    elif cursor.is_done or is_ending:
                        break
                    continue
                done, flying = wait(flying, min(pause or 1.0, 1.0), return_when=FIRST_COMPLETED)
                came = [future.result() for future in done]
                answered = [sent.answered for sent in came if sent.answered is not None]
                # Before anything else is sent: what they say may forbid it.
                came.extend(settle_answered(ctx, self._partition, answered))
                for sent in came:
                    queue.extend(sent.successors)
                    again |= self._count(sent)
                    if sent.is_throttled:
                        turns.forget()
                if on_progress is not None:
                    on_progress(self.summary)
        self.summary.persons += cursor.persons
        self.summary.reused += cursor.reused
        for reason, count in cursor.skipped.items():
            self.summary.skipped[reason] = self.summary.skipped.get(reason, 0) + count
        return again

    def _leave_for_later(self, queue: list[Claimed], pause: float) -> None:
        """A window of hours is used up: its provider is left to a later drain."""
        for claimed in queue:
            give_back(self._ctx, claimed, f"unavailable:{RATE_LIMITED}")
        queue.clear()
        everything = [breakers.ALL_PRODUCTS]
        with self._ctx.engine.begin() as conn:
            breakers.trip(conn, self._provider, everything, RATE_LIMITED, pause)

    @contextmanager
    def _nothing_new_after_a_failure(self) -> Iterator[None]:
        """A step that the database refused ends the run: threads that wait to send send nothing."""
        try:
            yield
        except BaseException:
            self._stop.set()
            raise

    def _claim(self, cursor: Cursor, concurrency: int, last_chance: bool) -> list[Claimed]:
        claimed = claim(
            self._ctx,
            self._partition,
            self._provider,
            cursor,
            2 * concurrency,
            receiver_ready=self._reachability.is_proven,
            last_chance=last_chance and not cursor.earlier,
        )
        if claimed:
            reached("claimed")
            first_reading(self._ctx, self._provider)
        cursor.persons += sum(c.persons for c in claimed)
        return claimed

    def _add(self, settled: Settled) -> None:
        with self._counting:
            self.summary.add(settled)

    def _count(self, sent: Sent) -> bool:
        """Adds a sent call to the summary; True when it was refused for a passing reason."""
        if sent.answered is not None:
            return False
        summary = self.summary
        summary.calls += sent.settled is not None or sent.stopped_reason == "never_sent"
        if sent.settled is None:
            summary.stopped_reason = sent.stopped_reason or summary.stopped_reason
            return sent.stopped_reason in ("never_sent", "lease_over", "withdrawn", "breaker_open")
        self._add(sent.settled)
        if sent.settled.reasons:
            summary.stopped_reason = sent.settled.reasons[-1]
        if sent.settled.disposition is Disposition.TRANSIENT:
            self._sleep(_AFTER_FAILURE_SECONDS)
        return sent.settled.disposition in (Disposition.THROTTLED, Disposition.TRANSIENT)
