"""When a process may send: its share of a provider's slots, and its leases of rate tokens."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from sqlalchemy.exc import SQLAlchemyError

from enrich_pipeline.store import rate_limits, slots
from enrich_pipeline.waterfall.context import Context, run_key

_SHARE_SECONDS = 1.0
"""How often a run looks whether another one wants slots too."""
_LONGEST_SLEEP_SECONDS = 5.0


@dataclass(slots=True)
class Turn:
    """Leave for one request, which counts in its provider's windows from when it was taken.

    If it leaves later than that, it has to count from then: otherwise it would leave the window
    before the provider's own count of it does.
    """

    lease: rate_limits.Lease
    fresh_until: float
    """Monotonic seconds."""
    _sent_at: float = 0.0

    def freshen(self, ctx: Context, provider: str) -> None:
        """Right before sending, for which getting ready may have taken a while."""
        now = time.monotonic()
        if now > self.fresh_until:
            self._count_from(ctx, provider, now)

    def sent(self) -> None:
        """Called when the request has been written, maybe in parts."""
        self._sent_at = time.monotonic()

    def correct(self, ctx: Context, provider: str) -> None:
        """When the reply has come: the processor may have been busy with something else between."""
        if self._sent_at > self.fresh_until:
            self._count_from(ctx, provider, self._sent_at)

    def _count_from(self, ctx: Context, provider: str, moment: float) -> None:
        windows = ctx.terms(provider).rate
        # It is counted already: whether later or not does not decide about sending it.
        if windows:
            with contextlib.suppress(SQLAlchemyError), ctx.engine.begin() as conn:
                ago = time.monotonic() - moment
                self.lease = rate_limits.count_anew(conn, provider, windows, self.lease, ago)
                self.fresh_until = moment + self.lease.seconds


class Turns:
    """The turns of one stage at one provider, for the one thread that hands out its calls.

    Use as a context manager: what was not used is given back.
    """

    def __init__(self, ctx: Context, provider: str) -> None:
        self._ctx, self._provider = ctx, provider
        self._terms = ctx.terms(provider)
        self._lease: rate_limits.Lease | None = None
        self._usable_until = 0.0
        self._slots, self._share_at = 0, 0.0
        per_record = any(w.per == "record" for w in self._terms.rate)
        self._records = ctx.maximum(provider) if per_record else 1

    def __enter__(self) -> "Turns":
        return self

    def __exit__(self, *_: object) -> None:
        with self._ctx.engine.begin() as conn:
            slots.give_up(conn, self._provider, run_key(self._ctx.run_id))
        self.forget()

    def slots(self) -> int:
        """How many calls this run may have under way now."""
        if time.monotonic() >= self._share_at:
            limit = self._terms.concurrency
            with self._ctx.engine.begin() as conn:
                self._slots = slots.share(
                    conn, self._provider, run_key(self._ctx.run_id), limit, limit
                )
            self._share_at = time.monotonic() + _SHARE_SECONDS
        return self._slots

    def take(self, wanted: int) -> tuple[Turn | None, float]:
        """One turn, or none and the seconds until there may be one.

        `wanted`: how many calls could leave at once.
        """
        if self._lease is None or not self._lease.requests or time.monotonic() > self._usable_until:
            unused = [self._lease] if self._lease is not None and self._lease.requests else []
            asked_at = time.monotonic()
            with self._ctx.engine.begin() as conn:
                self._lease = rate_limits.lease(
                    conn, self._provider, self._terms.rate, self._records, wanted, unused
                )
            self._usable_until = asked_at + self._lease.seconds
            if not self._lease.requests:
                return None, self._lease.wait
        self._lease = replace(self._lease, requests=self._lease.requests - 1)
        return Turn(replace(self._lease, requests=1), self._usable_until), 0.0

    def forget(self) -> None:
        """Gives the lease back: the provider said that it is too much, or the stage is over."""
        lease, self._lease = self._lease, None
        if lease is not None and lease.requests:
            with self._ctx.engine.begin() as conn:
                rate_limits.lease(conn, self._provider, self._terms.rate, self._records, 0, [lease])


def await_turn(ctx: Context, provider: str, records: int, sleep: Callable[[float], object]) -> Turn:
    """Waits for the turn of one request outside of a stage; when the run stops there is none."""
    windows = ctx.terms(provider).rate
    while not ctx.stopping.is_set():
        asked_at = time.monotonic()
        if not windows and asked_at < ctx.free_until.get(provider, 0.0):
            break
        with ctx.engine.begin() as conn:
            lease = rate_limits.lease(conn, provider, windows, records, 1)
        if lease.requests:
            # Without a window nothing is counted: the next request needs no leave of its own.
            ctx.free_until[provider] = asked_at + lease.seconds
            return Turn(lease, asked_at + lease.seconds)
        sleep(min(lease.wait, _LONGEST_SLEEP_SECONDS))
    return uncounted()


def uncounted() -> Turn:
    """A turn that is in no window, or that the run which stops will not use."""
    return Turn(rate_limits.Lease(0, 0.0, 0.0, {}), float("inf"))
