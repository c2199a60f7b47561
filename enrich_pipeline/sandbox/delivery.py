"""Things that happen later: results that finish, webhooks that are delivered and tried again.

One heap of due times and one task that watches it, however many thousand are waiting. What is
delivered, and what it costs, is decided by the provider that schedules it.
"""

import asyncio
import contextlib
import heapq
import ipaddress
import json
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .faults import WEBHOOK, Faults, Occasion
from .posting import NotDelivered, Poster

_SIMULTANEOUS = 64


@dataclass(slots=True)
class DeliveryCounts:
    scheduled: int = 0
    attempts: int = 0
    delivered: int = 0
    failed: int = 0
    lost: int = 0
    duplicated: int = 0
    late: int = 0


class Courier:
    """Runs jobs at their time and posts webhooks until somebody answers 2xx."""

    def __init__(self, faults: Faults, attempts: int, backoff: float) -> None:
        self._faults = faults
        self._attempts = attempts
        self._backoff = backoff
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = 0
        self._wake: asyncio.Event | None = None
        self._clock: asyncio.Task[None] | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self._gate = asyncio.Semaphore(_SIMULTANEOUS)
        self._poster = Poster()
        self.counts = DeliveryCounts()

    @property
    def waiting(self) -> int:
        return len(self._heap) + len(self._sending)

    def after(self, seconds: float, job: Callable[[], None]) -> None:
        """Runs the job in so many seconds; needs a running event loop."""
        self._serial += 1
        heapq.heappush(self._heap, (time.monotonic() + seconds, self._serial, job))
        if self._clock is None or self._clock.done():
            self._wake = asyncio.Event()
            self._clock = asyncio.get_running_loop().create_task(self._watch(self._wake))
        elif self._wake is not None:
            self._wake.set()

    def deliver(
        self,
        provider: str,
        url: str,
        body: dict[str, Any],
        done: Callable[[bool], None] | None = None,
    ) -> None:
        """Posts the body; `done` hears whether the receiver took it, as far as the vendor knows."""
        self.counts.scheduled += 1
        fault = self._faults.strike(Occasion(provider, "webhook", is_billable=True), WEBHOOK)
        if fault is None:
            self._start(self._post(url, body, done))
        elif fault.kind == "lose_webhook":
            self.counts.lost += 1
            if done is not None:
                done(True)
        elif fault.kind == "late_webhook":
            self.counts.late += 1
            self.after(fault.seconds, lambda: self._start(self._post(url, body, done)))
        else:
            self.counts.duplicated += 1
            self._start(self._post(url, body, done))
            self._start(self._post(url, body, None))

    async def stop(self) -> None:
        """Forgets what has not been delivered."""
        tasks = [*self._sending, *([self._clock] if self._clock else [])]
        self._heap.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._sending.clear()
        self._clock = None
        self.counts = DeliveryCounts()
        await self._poster.close()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _watch(self, wake: asyncio.Event) -> None:
        while self._heap:
            wait = self._heap[0][0] - time.monotonic()
            if wait > 0:
                wake.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(wake.wait(), wait)
                continue
            heapq.heappop(self._heap)[2]()
            if self._serial % 50 == 0:
                await asyncio.sleep(0)

    async def _post(
        self, url: str, body: dict[str, Any], done: Callable[[bool], None] | None
    ) -> None:
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        for attempt in range(self._attempts):
            if attempt:
                await asyncio.sleep(self._backoff * 2 ** (attempt - 1))
            async with self._gate:
                self.counts.attempts += 1
                try:
                    status = await self._poster.post(url, content)
                except NotDelivered:
                    continue
            if 200 <= status < 300:
                self.counts.delivered += 1
                if done is not None:
                    done(True)
                return
        self.counts.failed += 1
        if done is not None:
            done(False)


def is_acceptable(url: object, require_https: bool, extra_hosts: tuple[str, ...]) -> bool:
    """Vendors demand https; plain http is taken here for receivers on this machine."""
    if not isinstance(url, str):
        return False
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme == "https":
        return bool(host)
    if parts.scheme != "http" or require_https:
        return False
    return host in extra_hosts or _is_loopback(host)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
