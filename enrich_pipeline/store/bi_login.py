"""The login by which a BI tool comes into the embedded database: one, for reading, with limits.

Where the server listens is `embedded`'s. What a reader may see are the grants of the migrations.
"""

import secrets
import time
from typing import Final

import psycopg
from psycopg import sql
from sqlalchemy import Connection, Engine, text

LOGIN: Final = "bi_tool"
CONNECTIONS: Final = 10
STATEMENT_SECONDS: Final = 60
SCHEMAS: Final = {"bi_reader": "analytics", "bi_masked": "analytics_masked"}
"""By role, the schema that it reads."""

_ENDING_SECONDS = 2.0
_OF: Final = {"login": LOGIN}


def make(connection: Connection, role: str) -> str:
    """Make the login anew as a member of `role` and return its password, which nothing else knows.

    Sessions of the login before are ended.
    """
    remove(connection)
    password = secrets.token_urlsafe(24)
    driver = _driver(connection)
    # Only what the password is checked by leaves this process, so that no log can hold it.
    verifier = driver.pgconn.encrypt_password(password.encode(), LOGIN.encode(), b"scram-sha-256")
    login = sql.Identifier(LOGIN)
    driver.execute(
        sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} CONNECTION LIMIT {} IN ROLE {}").format(
            login, sql.Literal(verifier.decode()), sql.Literal(CONNECTIONS), sql.Identifier(role)
        )
    )
    limits = {
        "default_transaction_read_only": "on",
        "statement_timeout": f"{STATEMENT_SECONDS}s",
        "idle_in_transaction_session_timeout": "5min",
        "search_path": SCHEMAS[role],
    }
    for name, value in limits.items():
        driver.execute(
            sql.SQL("ALTER ROLE {} SET {} = {}").format(
                login, sql.Identifier(name), sql.Literal(value)
            )
        )
    return password


def remove(connection: Connection) -> None:
    """Take the login away and end its sessions; nothing to do where there is none."""
    known = connection.execute(text("select from pg_roles where rolname = :login"), _OF)
    if known.first() is None:
        return
    driver = _driver(connection)
    driver.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(LOGIN)))
    end = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = :login"
    connection.execute(text(end), _OF)
    driver.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(LOGIN)))
    driver.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(LOGIN)))


def role(connection: Connection) -> str | None:
    """The role that the login is in, None without a login."""
    query = """
        select r.rolname from pg_auth_members as m
        join pg_roles as r on r.oid = m.roleid
        join pg_roles as l on l.oid = m.member
        where l.rolname = :login
    """
    found: str | None = connection.execute(text(query), _OF).scalar()
    return found


def port(connection: Connection) -> int | None:
    """The port that the server listens on, None if it listens on none."""
    query = """
        select cast(current_setting('port') as integer)
        where current_setting('listen_addresses') <> ''
    """
    found: int | None = connection.execute(text(query)).scalar()
    return found


def sessions(connection: Connection) -> int:
    """How many sessions the login has."""
    query = "select count(*) from pg_stat_activity where usename = :login"
    number: int = connection.execute(text(query), _OF).scalar_one()
    return number


def others(engine: Engine) -> int:
    """How many sessions other programs have. One that just ended may show for a moment more."""
    query = """
        select count(*) from pg_stat_activity
        where backend_type = 'client backend' and usename <> :login and pid <> pg_backend_pid()
    """
    deadline = time.monotonic() + _ENDING_SECONDS
    while True:
        # Anew each time: a transaction goes on seeing the sessions that it saw first.
        with engine.connect() as connection:
            number: int = connection.execute(text(query), _OF).scalar_one()
        if number == 0 or time.monotonic() > deadline:
            return number
        time.sleep(0.05)


def _driver(connection: Connection) -> psycopg.Connection:
    """The driver's own connection: roles and passwords are no parameters of a statement."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101  (narrows the type)
    return driver
