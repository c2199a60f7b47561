"""Gathers deliveries that arrive together, so that one commit answers all their senders.

What a delivery is and where it is kept is `store/inbox.py`'s; nothing here knows HTTP.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine, exc
from starlette.concurrency import run_in_threadpool

from enrich_pipeline.store import inbox
from enrich_pipeline.store.inbox import Arrival, Key

MAX_BATCH = 100
"""Deliveries per commit: at most 6.4 MB."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Mailbag:
    """Stores deliveries through `engine`, from one event loop.

    While a commit is under way the next arrivals wait for each other: the busier the receiver, the
    more of them share a commit.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: list[tuple[Arrival, asyncio.Future[None]]] = []
        self._repeated: Counter[Key] = Counter()
        self._storing: asyncio.Task[None] | None = None
        self._counting: asyncio.Task[None] | None = None

    async def put(self, arrival: Arrival) -> None:
        """Returns when the delivery is kept.

        Raises:
            sqlalchemy.exc.DBAPIError, sqlalchemy.exc.TimeoutError: it is not.
        """
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((arrival, kept))
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store())
        await kept

    async def _store(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
            arrivals = [arrival for arrival, _ in batch]
            error: Exception | None = None
            try:
                repeated = await run_in_threadpool(
                    self._transaction, lambda conn, a=arrivals: inbox.put_all(conn, a)
                )
                self._repeated += repeated
            except Exception as raised:  # noqa: BLE001  (every sender is told, whatever it was)
                error = raised
            for _, kept in batch:
                if kept.done():
                    continue
                if error is None:
                    kept.set_result(None)
                else:
                    kept.set_exception(error)
            if self._repeated and (self._counting is None or self._counting.done()):
                self._counting = asyncio.create_task(self._count())

    async def _count(self) -> None:
        """Repetitions are kept already: their count may wait for a settlement, their sender not."""
        while self._repeated:
            repetitions, self._repeated = self._repeated, Counter()
            try:
                await run_in_threadpool(
                    self._transaction, lambda conn, r=repetitions: inbox.count_repetitions(conn, r)
                )
            except (exc.DBAPIError, exc.TimeoutError) as error:
                _log.error("repetitions not counted: %s", type(error).__name__)

    def _transaction(self, work: Callable[[Connection], T]) -> T:
        with self._engine.begin() as connection:
            return work(connection)
