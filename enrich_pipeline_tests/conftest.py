"""What every test gets: its own PostgreSQL, no network but this machine, a clean environment.

One embedded server lives for the session, in a temporary folder. Each test that asks for
`database` gets a fresh, migrated database on it (a copy of a template, some ten milliseconds).
"""

import ipaddress
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from hypothesis import settings
from sqlalchemy import URL, Connection, Engine, text

from enrich_pipeline.store import connection, embedded, migrate

# The suite says the same of the same code every time; new examples are the fuzz campaign's part.
settings.register_profile("suite", derandomize=True, deadline=None)
settings.load_profile("suite")

_TEMPLATE = "enrich_template"
_MEMORY_BYTES = 2 * 1024**3
_numbers = count(1)
_finished: list[str] = []


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> Iterator[None]:
    """Keep the settings of the developer's shell out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("ENRICH_", "DAGSTER_", "PG")):
                patch.delenv(name)
        patch.setenv("DAGSTER_DISABLE_TELEMETRY", "1")
        yield


@pytest.fixture(scope="session", autouse=True)
def _only_this_machine() -> Iterator[None]:
    """Refuse every connection of Python code beyond loopback and Unix sockets."""
    connect, connect_ex, getaddrinfo = (
        socket.socket.connect,
        socket.socket.connect_ex,
        socket.getaddrinfo,
    )

    def guarded_connect(self: socket.socket, address: Any) -> None:
        _refuse_distant(address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        _refuse_distant(address)
        return connect_ex(self, address)

    def guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        _refuse_distant((host, 0))
        return getaddrinfo(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        patch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)
        yield


def _refuse_distant(address: Any) -> None:
    if not isinstance(address, tuple):
        return
    host = address[0].decode() if isinstance(address[0], bytes) else address[0]
    if host in (None, "", "localhost", "0.0.0.0", "::"):  # noqa: S104
        return
    try:
        near = ipaddress.ip_address(host).is_loopback
    except ValueError:
        near = False
    if not near:
        raise AssertionError(f"a test tried to reach {host}; tests stay on this machine")


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """A command logs into its home; the process of the tests must not go on doing so."""
    logger = logging.getLogger("enrich_pipeline")
    before = (list(logger.handlers), logger.level, logger.propagate)
    yield
    for handler in set(logger.handlers) - set(before[0]):
        handler.close()
    logger.handlers, logger.level, logger.propagate = before


@pytest.fixture(scope="session")
def server() -> Iterator[URL]:
    """The session's PostgreSQL server, as the address of its maintenance database."""
    home = Path(tempfile.mkdtemp(prefix="enrich-", dir=_fast_folder()))
    try:
        yield embedded.start(home).set(database="postgres")
    finally:
        embedded.stop(home)
        shutil.rmtree(home)


@pytest.fixture(scope="session")
def _administrator(server: URL) -> Iterator[Connection]:
    """A connection for statements that PostgreSQL refuses inside a transaction."""
    engine = sqlalchemy.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as administrator:
        # Nothing here has to survive a power cut; what a killed process committed still does.
        administrator.execute(text("alter system set fsync = off"))
        administrator.execute(text("select pg_reload_conf()"))
        yield administrator
    engine.dispose()


@pytest.fixture(scope="session")
def _template(server: URL, _administrator: Connection) -> str:
    """Name of a migrated database that `database` copies; nobody may be connected to it."""
    _administrator.execute(text(f"create database {_TEMPLATE}"))
    engine = connection.create_engine(server.set(database=_TEMPLATE))
    migrate.upgrade(engine)
    engine.dispose()
    return _TEMPLATE


@pytest.fixture
def empty_database(server: URL, _administrator: Connection) -> Iterator[URL]:
    """Address of a fresh database without anything in it."""
    with _database(_administrator, "template1") as name:
        yield server.set(database=name)


@pytest.fixture
def database(server: URL, _administrator: Connection, _template: str) -> Iterator[URL]:
    """Address of a fresh, migrated database; several processes may connect to it."""
    with _database(_administrator, _template) as name:
        yield server.set(database=name)


@pytest.fixture
def engine(database: URL) -> Iterator[Engine]:
    """Engine on `database`."""
    engine = connection.create_engine(database)
    yield engine
    engine.dispose()


def _fast_folder() -> str:
    """Return a folder in memory where there is room, else on disk.

    A database is some 300 files, and making those takes longer than most tests on some disks.
    """
    memory = Path("/dev/shm")
    if memory.is_dir() and shutil.disk_usage(memory).free > _MEMORY_BYTES:
        return str(memory)
    return "/tmp"


@contextmanager
def _database(administrator: Connection, template: str) -> Iterator[str]:
    # Dropped one test later: by then its connections are gone and nothing waits for them.
    while _finished:
        administrator.execute(text(f"drop database {_finished.pop()} with (force)"))
    name = f"test_{next(_numbers)}"
    administrator.execute(text(f"create database {name} template {template} strategy file_copy"))
    try:
        yield name
    finally:
        _finished.append(name)
