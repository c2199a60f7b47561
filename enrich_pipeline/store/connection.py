"""Which PostgreSQL is used, and engines for it.

One database holds everything: the package's schemas and, in schema `dagster`, Dagster's own
storage. It is the one of `ENRICH_DATABASE_URL`, else the embedded server's. No statements here
beyond asking the server for its version.
"""

import time
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy
from psycopg.abc import Buffer
from psycopg.types.array import ListDumper
from pydantic_core import from_json
from sqlalchemy import URL, Engine, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, InvalidatePoolError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.store import embedded

DAGSTER_SCHEMA = "dagster"
OLDEST_SERVER = 15
_RESTED_SECONDS = 0.1
"""Sooner no server has gone and come back; whether it is there the next statement says."""

_DRIVERS = {"postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2"}
# A process that is put to sleep inside a transaction would keep its locks until somebody woke it.
# The server's own price of a look by index is that of a disk which turns: by it a settlement reads
# through tables of some ten thousand rows for the few that it is about.
_SESSION = (
    "-c timezone=UTC -c synchronous_commit=on -c idle_in_transaction_session_timeout=5min "
    "-c random_page_cost=1.1"
)


def database_url(home: Path, url: str | None) -> URL:
    """Return the address of the database: `url` if given, else that of the embedded server.

    `home` is ENRICH_HOME, `url` is ENRICH_DATABASE_URL. The embedded server is not started here.

    Raises ConfigurationError when `url` is not a PostgreSQL address.
    """
    if url is None or not url.strip():
        return embedded.url(home)
    try:
        parsed = sqlalchemy.make_url(url.strip())
    except (ArgumentError, ValueError):
        parsed = None
    if parsed is None or parsed.drivername not in _DRIVERS:
        # Neither the text nor the cause is shown: a mistyped address may hold a password anywhere.
        raise ConfigurationError(
            "ENRICH_DATABASE_URL is not a PostgreSQL address; "
            "expected postgresql://user:password@host:5432/database"
        ) from None
    return parsed.set(drivername="postgresql+psycopg")


def is_embedded(home: Path, url: URL) -> bool:
    """Tell whether `url` is that of the embedded server of `home`."""
    return url == embedded.url(home)


def create_engine(url: URL, pool_size: int = 5) -> Engine:
    """Return an engine whose sessions run in UTC and whose commits are on disk when they return.

    `pool_size` is the number of connections kept open; as many again may open under load.
    """
    engine = sqlalchemy.create_engine(
        _with_options(url, _SESSION),
        pool_size=pool_size,
        # Who worked last works on: few connections have the statements prepared, and those all.
        pool_use_lifo=True,
        max_overflow=pool_size,
        json_deserializer=from_json,
        # Parameters are values of persons and must not appear in exceptions.
        hide_parameters=True,
        connect_args={"application_name": "enrich", "connect_timeout": 10},
    )
    _write_ids_at_once(engine)
    _ping_who_rested(engine)
    return engine


class _IdsDumper(ListDumper):
    """Lists of whole numbers in one step; the driver looks at each of their members on its own.

    Every statement of the hot path is given hundreds of ids: it was a twentieth of a night.
    """

    def dump(self, obj: list[Any]) -> Buffer | None:
        if {int}.issuperset(map(type, obj)):
            return f"{{{str(obj)[1:-1]}}}".encode()
        return super().dump(obj)


def _write_ids_at_once(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def _(connection: psycopg.Connection[Any], _record: ConnectionPoolEntry) -> None:
        connection.adapters.register_dumper(list, _IdsDumper)


def _ping_who_rested(engine: Engine) -> None:
    """Replace connections that died while they lay unused.

    `pool_pre_ping` asks before every use, which is as much work as the statement that follows.
    """

    @event.listens_for(engine, "checkin")
    def _(_connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        record.info["used_at"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _(connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: object) -> None:
        used_at = record.info.get("used_at")
        if used_at is None or time.monotonic() - used_at < _RESTED_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError from error


def dagster_url(url: URL) -> str:
    """Return the value of ENRICH_DAGSTER_DATABASE_URL, password included, for `dagster.yaml`.

    dagster-postgres needs the driver psycopg2, and keeps its tables in the first schema of the
    search path: that is `dagster`, which `migrate.upgrade` creates.
    """
    address = _with_options(url, f"-csearch_path={DAGSTER_SCHEMA}")
    return address.set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)


def redacted(url: URL) -> str:
    """Return the address for messages and logs: without password, query and driver."""
    shown = url.set(drivername="postgresql", query={})
    return shown.render_as_string(hide_password=True)


def require_reachable(engine: Engine, *, is_embedded: bool = False) -> None:
    """Raise ConfigurationError with one line unless a PostgreSQL that is new enough answers."""
    try:
        with engine.connect() as connection:
            version = int(connection.execute(text("show server_version_num")).scalar_one())
    except OperationalError as error:
        if is_embedded:
            raise ConfigurationError(
                "the embedded database is not running: run `enrich init`"
            ) from None
        raise ConfigurationError(
            f"ENRICH_DATABASE_URL: no connection to {redacted(engine.url)}: "
            f"{_reason(error, engine.url)}"
        ) from None
    require_version(version)


def require_version(version_number: int) -> None:
    """Raise ConfigurationError if a `server_version_num` (150004 is 15.4) is too old."""
    major = version_number // 10_000
    if major < OLDEST_SERVER:
        raise ConfigurationError(
            f"ENRICH_DATABASE_URL: the server is PostgreSQL {major}; "
            f"{OLDEST_SERVER} or later is needed"
        )


def _with_options(url: URL, options: str) -> URL:
    """Add session options to the address; they come last and so win over the address's own."""
    given = url.query.get("options", "")
    if isinstance(given, tuple):
        given = " ".join(given)
    return url.update_query_dict({"options": f"{given} {options}".strip()})


def _reason(error: OperationalError, url: URL) -> str:
    """Return the driver's reason as one line, without the password should it quote it."""
    lines = [line.strip() for line in str(error.orig).splitlines() if line.strip()]
    reason = lines[-1] if lines else "no reason given"
    if len(lines) > 1 and reason.startswith("Is the server running"):
        reason = lines[-2]
    return reason.replace(str(url.password), "***") if url.password else reason
