"""Reads the budgets of a database again and again while others spend: what must hold at any moment.

It has a connection of its own, and each reading is one statement, so one snapshot.
"""

import threading
from types import TracebackType
from typing import Any, Self

import sqlalchemy
from sqlalchemy import URL, Connection, text

_EVERY_SECONDS = 0.02
_LINES_EVERY = 10
"""Charge lines are many: they are added up in every tenth reading only."""

_BUDGETS = """
    select scope || ' ' || key || ' ' || day as name, scope, cap, held, in_doubt, spent
    from enrichment.budgets
    union all
    select 'person ' || person_id, 'person', cap, held, in_doubt, spent
    from enrichment.person_budgets
    where held + in_doubt + spent > cap or least(held, in_doubt, spent) < 0
"""
_OPEN_LINES = """
    with lines as (
        select l.provider, c.spend_date, l.state, sum(l.hold_micro) as micro,
            sum(l.hold_usd_micro) as usd_micro
        from enrichment.charge_lines as l join enrichment.calls as c using (call_id)
        where l.state in ('held', 'in_doubt') group by 1, 2, 3
    )
    select b.scope || ' ' || b.key || ' ' || b.day as name, b.cap - b.spent as room, b.held,
        b.in_doubt,
        coalesce(sum(case b.scope when 'night' then usd_micro else micro end)
            filter (where state = 'held'), 0) as lines_held,
        coalesce(sum(case b.scope when 'night' then usd_micro else micro end)
            filter (where state = 'in_doubt'), 0) as lines_in_doubt
    from enrichment.budgets as b
    left join lines on lines.spend_date = b.day and b.key in ('all', lines.provider)
    group by b.scope, b.key, b.day, b.cap, b.spent, b.held, b.in_doubt
"""


class Gauge:
    """`with Gauge(database) as gauge:` reads until the block ends."""

    def __init__(self, database: URL) -> None:
        self._engine = sqlalchemy.create_engine(database, isolation_level="AUTOCOMMIT")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read_on, name="gauge", daemon=True)
        self.violations: set[str] = set()
        self.readings = 0
        self.least_free: dict[str, int] = {}
        """The least that any budget of a scope had left, in its own micro-units."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        self._engine.dispose()

    def _read_on(self) -> None:
        with self._engine.connect() as conn:
            while not self._over.wait(_EVERY_SECONDS):
                self._read(conn)
                if self.readings % _LINES_EVERY == 0:
                    self._read_lines(conn)
                self.readings += 1

    def _read(self, conn: Connection) -> None:
        for row in conn.execute(text(_BUDGETS)):
            free = row.cap - row.held - row.in_doubt - row.spent
            self.least_free[row.scope] = min(free, self.least_free.get(row.scope, free))
            if free < 0 or min(row.held, row.in_doubt, row.spent) < 0:
                self._blame(row.name, row, "beyond its cap or below zero")

    def _read_lines(self, conn: Connection) -> None:
        for row in conn.execute(text(_OPEN_LINES)):
            if row.lines_held + row.lines_in_doubt > row.room:
                self._blame(row.name, row, "less room than its open holds")
            if (row.lines_held, row.lines_in_doubt) != (row.held, row.in_doubt):
                self._blame(row.name, row, "other holds than its charge lines")

    def _blame(self, name: str, row: Any, what: str) -> None:
        amounts = ", ".join(f"{key} {value}" for key, value in row._asdict().items())
        if not any(v.startswith(f"budget {name} has {what}") for v in self.violations):
            self.violations.add(f"budget {name} has {what}: {amounts}")
