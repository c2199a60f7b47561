"""What a campaign stands on: a PostgreSQL server of its own, fresh databases, labs on them."""

import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import URL, text

from enrich_pipeline.store import connection, embedded, migrate

from ..support.lab import Bench, Lab

_TEMPLATE = "campaign_template"
_MEMORY_BYTES = 2 * 1024**3
_MIGRATING = threading.Lock()
"""Alembic keeps what it works on in globals."""


class Ground:
    """One server, one bench. `with Ground(people) as ground:`

    `is_durable`: the server writes to a disk and waits for it, as one with data worth keeping does.
    """

    def __init__(self, people: int, *, is_durable: bool = False) -> None:
        folder = tempfile.gettempdir() if is_durable else _fast_folder()
        self.home = Path(tempfile.mkdtemp(prefix="campaign-", dir=folder))
        self._numbers = count(1)
        self._people = people
        self._is_durable = is_durable

    def __enter__(self) -> "Ground":
        self.server = embedded.start(self.home / "db").set(database="postgres")
        if not self._is_durable:
            # What a killed process committed survives without it; only a power cut would not. And
            # nobody writes for others: a commit that did not wait for that dies with the server.
            self._administer(
                "alter system set fsync = off",
                "alter system set wal_writer_delay = '10s'",
                # Of a deadlock it tells who waited for whom, and with what; nobody here is real.
                "alter system set log_error_verbosity = 'default'",
                "alter system set log_min_error_statement = error",
                "select pg_reload_conf()",
            )
        self._administer(f"create database {_TEMPLATE}")
        engine = connection.create_engine(self.template)
        with _MIGRATING:
            migrate.upgrade(engine)
        engine.dispose()
        (self.home / "bench").mkdir()
        self.bench = Bench(self.home / "bench", people=self._people)
        return self

    def __exit__(self, *_: object) -> None:
        self.bench.__exit__()
        embedded.stop(self.home / "db")
        shutil.rmtree(self.home, ignore_errors=True)

    @contextmanager
    def lab(
        self,
        own: Mapping[str, Any],
        shares: Mapping[str, float],
        environment: Mapping[str, str] | None = None,
        sandbox_options: Sequence[str] = (),
    ) -> Iterator[Lab]:
        """A lab on a fresh database, which is dropped in the end."""
        with (
            self.database() as database,
            self.bench.lab(database, own, shares, environment, sandbox_options) as lab,
        ):
            yield lab

    @property
    def template(self) -> URL:
        """The database that all are copies of; nobody may be connected to it when one is made."""
        return self.server.set(database=_TEMPLATE)

    @contextmanager
    def database(self) -> Iterator[URL]:
        """A fresh, migrated database, which is dropped in the end."""
        name = f"campaign_{next(self._numbers)}"
        self._administer(f"create database {name} template {_TEMPLATE} strategy file_copy")
        try:
            yield self.server.set(database=name)
        finally:
            self._administer(f"drop database {name} with (force)")

    def _administer(self, *statements: str) -> None:
        engine = sqlalchemy.create_engine(self.server, isolation_level="AUTOCOMMIT")
        with engine.connect() as conn:
            for statement in statements:
                conn.execute(text(statement))
        engine.dispose()


def _fast_folder() -> str:
    """A folder in memory where there is room: databases are many small files."""
    memory = Path("/dev/shm")
    if memory.is_dir() and shutil.disk_usage(memory).free > _MEMORY_BYTES:
        return str(memory)
    return tempfile.gettempdir()
