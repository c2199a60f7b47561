"""Processes of the model campaign: the engine's own `send`, halted wherever a process may stop.

Each sender runs `send` in a thread of its own, one at a time and only while the machine lets it: at
its exchange with the provider and at every label outside a transaction it waits to be told how to
go on. Killed, it unwinds from there; doomed, it dies inside its next transaction.
"""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from enrich_pipeline.providers.http import ExchangeError
from enrich_pipeline.providers.protocol import HttpRequest, HttpResponse
from enrich_pipeline.waterfall import fault_points
from enrich_pipeline.waterfall.context import Context, Partition
from enrich_pipeline.waterfall.reserve import Claimed
from enrich_pipeline.waterfall.send import Sent

from ..support.lab import sent_alone

_HALTS = frozenset({"answered", "stored", "unsent", "lost"})
_IN_TRANSACTION = frozenset({"arming", "settling"})
_here = threading.local()


class _Killed(BaseException):
    """The process is gone."""


class Sender:
    """One call on its way through `send`."""

    def __init__(self, ctx: Context, partition: Partition, claimed: Claimed) -> None:
        self.run_id = ctx.run_id
        self.claimed = claimed
        self.place = "new"
        """Then `in_flight`, or the label where it halts; `over` when it has returned or died."""
        self.result: Sent | None = None
        self.failure: BaseException | None = None
        self._reply: HttpResponse | ExchangeError | None = None
        self._is_killed = self._is_doomed = False
        self._may_go, self._has_halted = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(ctx, partition), daemon=True)
        self._thread.start()

    def go_on(self, reply: HttpResponse | ExchangeError | None = None) -> None:
        """Lets it run until it halts again; `reply` is what its exchange comes to."""
        self._reply = reply
        self._may_go.release()
        self._has_halted.acquire()
        if self.place == "over":
            self._thread.join()
        if self.failure is not None:
            raise self.failure

    def kill(self) -> None:
        """Its process dies where it stands."""
        if self.place != "over":
            self._is_killed = True
            self.go_on()

    def die_in_transaction(self) -> None:
        """It goes on and dies before its next commit."""
        self._is_doomed = True
        self.go_on()

    def exchange(self) -> HttpResponse:
        """Called in its thread: the request has left, or has not; `go_on` says what comes of it."""
        self._halt("in_flight")
        if isinstance(self._reply, ExchangeError):
            raise self._reply
        assert self._reply is not None
        return self._reply

    def reached(self, label: str) -> None:
        """Called in its thread at every label."""
        if label in _HALTS:
            self._halt(label)
        elif label in _IN_TRANSACTION and self._is_doomed:
            raise _Killed

    def _halt(self, place: str) -> None:
        self.place = place
        self._has_halted.release()
        self._may_go.acquire()
        if self._is_killed:
            raise _Killed

    def _run(self, ctx: Context, partition: Partition) -> None:
        _here.sender = self
        self._may_go.acquire()
        try:
            if not self._is_killed:
                self.result = sent_alone(ctx, partition, self.claimed)
        except _Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - told to the machine, in its thread
            self.failure = error
        self.place = "over"
        self._has_halted.release()


class Wire:
    """Stands for a provider's HTTP client: senders halt here, everybody else asks at once."""

    def __init__(self, ask: Callable[[HttpRequest], HttpResponse]) -> None:
        self._ask = ask

    def send(self, request: HttpRequest, **_: object) -> HttpResponse:
        sender: Sender | None = getattr(_here, "sender", None)
        return self._ask(request) if sender is None else sender.exchange()


class Halting:
    """While it is open, senders halt at the engine's labels."""

    def __enter__(self) -> Self:
        fault_points.set_hook(_reached)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        fault_points.set_hook(None)


def _reached(label: fault_points.Label) -> None:
    sender: Sender | None = getattr(_here, "sender", None)
    if sender is not None:
        sender.reached(label)
