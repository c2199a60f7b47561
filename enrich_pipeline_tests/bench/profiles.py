"""Where the time of one batch goes: functions by own processor time, statements by time waited.

The batch runs in this process, all its threads watched, which slows it to about half its speed.
Statements are timed as SQLAlchemy sends them (the embedded server has no pg_stat_statements), so
without what COPY moves.
"""

import cProfile
import os
import pstats
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import sqlalchemy
from rich.console import Console
from rich.table import Table
from sqlalchemy import event
from sqlalchemy.engine.default import DefaultDialect

from enrich_pipeline.settings import load as load_settings
from enrich_pipeline.store import connection
from enrich_pipeline.waterfall.planning import plan_night
from enrich_pipeline.webhooks import embedded

from .contending.engine import drain_with
from .trial import Arena, say

TOP = 10


def show(place: Arena) -> None:
    """Print both lists for the first batch of a night."""
    with place.night() as night:
        settings = load_settings({**os.environ, **night.environment}, night.folder)
        now = datetime.now(UTC)
        engine = connection.create_engine(settings.database_url)
        plan_night(engine, settings.policy, settings.providers, now.date(), None, now)
        engine.dispose()
        say("one batch, watched")
        with (
            embedded.receiving(
                settings.database_url, list(settings.providers), settings.webhook_public_url
            ),
            _timed_statements() as statements,
            _watched_threads() as watched,
        ):
            drain_with(settings, now.date(), 0)
    _print_functions(watched)
    _print_statements(statements)


class Statements:
    """How often each statement was sent and for how long it was waited for."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.times: Counter[str] = Counter()
        self._turn = threading.Lock()

    def add(self, statement: str, seconds: float) -> None:
        with self._turn:
            self.seconds[statement] = self.seconds.get(statement, 0.0) + seconds
            self.times[statement] += 1


@contextmanager
def _timed_statements() -> Iterator[Statements]:
    statements = Statements()

    def before(_conn: Any, _cursor: Any, _sql: str, _given: Any, context: Any, _many: bool) -> None:
        context.began = time.perf_counter()

    def after(_conn: Any, _cursor: Any, sql: str, _given: Any, context: Any, _many: bool) -> None:
        statements.add(sql, time.perf_counter() - context.began)

    commit = DefaultDialect.do_commit

    def timed_commit(dialect: DefaultDialect, dbapi_connection: Any) -> None:
        began = time.perf_counter()
        commit(dialect, dbapi_connection)  # type: ignore[no-untyped-call]
        statements.add("COMMIT", time.perf_counter() - began)

    event.listen(sqlalchemy.Engine, "before_cursor_execute", before)
    event.listen(sqlalchemy.Engine, "after_cursor_execute", after)
    DefaultDialect.do_commit = timed_commit  # type: ignore[method-assign]
    try:
        yield statements
    finally:
        event.remove(sqlalchemy.Engine, "before_cursor_execute", before)
        event.remove(sqlalchemy.Engine, "after_cursor_execute", after)
        DefaultDialect.do_commit = commit  # type: ignore[method-assign]


@contextmanager
def _watched_threads() -> Iterator[list[cProfile.Profile]]:
    """A profile of this thread and of every one that starts meanwhile, of processor time."""
    watched = [cProfile.Profile(time.thread_time)]

    def watch(_frame: FrameType, _event: str, _argument: Any) -> None:
        watched.append(cProfile.Profile(time.thread_time))
        watched[-1].enable()

    threading.setprofile(watch)
    watched[0].enable()
    try:
        yield watched
    finally:
        watched[0].disable()
        threading.setprofile(None)


def _print_functions(watched: list[cProfile.Profile]) -> None:
    first, *others = watched
    stats: dict[Any, Any] = pstats.Stats(first, *others).stats  # type: ignore[attr-defined]
    rows = sorted(
        ((own, calls, where) for where, (_, calls, own, *_) in stats.items()), reverse=True
    )
    total = sum(own for own, _, _ in rows)
    _print(
        f"Functions by own time, of {total:.1f} s of processor time",
        ((_place(*where), own, calls) for own, calls, where in rows),
    )


def _print_statements(statements: Statements) -> None:
    rows = sorted(statements.seconds.items(), key=lambda row: row[1], reverse=True)
    total = sum(seconds for _, seconds in rows)
    _print(
        f"Statements by time waited, of {total:.1f} s in all threads",
        ((" ".join(sql.split()), seconds, statements.times[sql]) for sql, seconds in rows),
    )


def _print(title: str, rows: Any) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("what", max_width=110, no_wrap=True, overflow="ellipsis")
    table.add_column("s", justify="right")
    table.add_column("times", justify="right")
    for (what, seconds, times), _ in zip(rows, range(TOP), strict=False):
        table.add_row(what, f"{seconds:.2f}", f"{times:,}")
    Console(width=max(140, Console().width)).print(table)


def _place(file: str, line: int, function: str) -> str:
    if file == "~":
        return function
    return f"{file.rpartition('site-packages/')[2].removeprefix(sys.prefix)}:{line} {function}"
