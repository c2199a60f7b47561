"""Rules of finding, reaching and describing the database."""

import os
from pathlib import Path

import pytest
import sqlalchemy
from dagster import DagsterInstance
from sqlalchemy import URL, Engine, text

from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.store import connection, migrate


def test_without_an_address_the_embedded_server_is_used(tmp_path: Path) -> None:
    for unset in (None, "", "  "):
        url = connection.database_url(tmp_path, unset)
        assert connection.is_embedded(tmp_path, url)
        assert str(url.query["host"]).startswith("/")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_every_postgresql_scheme_ends_at_the_one_driver(tmp_path: Path, scheme: str) -> None:
    url = connection.database_url(
        tmp_path, f"{scheme}://me:secret@db.example:6543/crm?sslmode=require"
    )
    assert url.drivername == "postgresql+psycopg"
    assert (url.host, url.port, url.database) == ("db.example", 6543, "crm")
    assert url.query["sslmode"] == "require"
    assert not connection.is_embedded(tmp_path, url)


@pytest.mark.parametrize(
    "given",
    [
        "mysql://me:hunter2@db/crm",
        "hunter2",
        "postgresql://me:hunter2@db:port/crm",
        "me:hunter2@db",
    ],
)
def test_a_wrong_address_is_refused_by_name_and_not_repeated(tmp_path: Path, given: str) -> None:
    with pytest.raises(ConfigurationError, match="^ENRICH_DATABASE_URL is not") as refusal:
        connection.database_url(tmp_path, given)
    assert "hunter2" not in str(refusal.value)
    assert refusal.value.__cause__ is None


def test_sessions_run_in_utc_and_commit_to_disk_whatever_the_database_says(database: URL) -> None:
    administrator = connection.create_engine(database)
    with administrator.begin() as session:
        session.execute(text(f"alter database {database.database} set timezone = 'Asia/Tokyo'"))
        session.execute(text(f"alter database {database.database} set synchronous_commit = off"))
    administrator.dispose()

    engine = connection.create_engine(database.update_query_dict({"options": "-c work_mem=7MB"}))
    with engine.connect() as session:
        shown = {
            name: session.execute(text(f"show {name}")).scalar_one()
            for name in ("timezone", "synchronous_commit", "application_name", "work_mem")
        }
    engine.dispose()
    assert shown == {
        "timezone": "UTC",
        "synchronous_commit": "on",
        "application_name": "enrich",
        "work_mem": "7MB",
    }


def test_parameters_do_not_appear_in_errors(engine: Engine) -> None:
    with engine.connect() as session, pytest.raises(sqlalchemy.exc.DBAPIError) as failure:
        session.execute(text("select :value / 0 from nowhere"), {"value": "ada@example.org"})
    assert "ada@example.org" not in str(failure.value)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("bigint", [1, 2**40, -3]),
        ("bigint", [7]),
        ("bigint", []),
        ("bigint", [1, None]),
        ("boolean", [True, False]),
        ("text", ["", "a,b", '{"}', "null", None]),
        ("text", []),
    ],
)
def test_lists_arrive_as_they_were(engine: Engine, kind: str, given: list[object]) -> None:
    with engine.connect() as conn:
        for _ in range(7):  # more often than the driver waits until it prepares a statement
            returned = conn.execute(text(f"select cast(:given as {kind}[])"), {"given": given})
            assert returned.scalar_one() == given


def test_a_reachable_server_is_accepted(engine: Engine) -> None:
    connection.require_reachable(engine)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("postgresql://me:hunter2@127.0.0.1:1/crm", "Connection refused"),
        ("postgresql://me:hunter2@/crm?host=/nowhere", "No such file or directory"),
    ],
)
def test_an_unreachable_server_is_one_line_without_the_password(
    tmp_path: Path, address: str, reason: str
) -> None:
    engine = connection.create_engine(connection.database_url(tmp_path, address))
    with pytest.raises(ConfigurationError) as refusal:
        connection.require_reachable(engine)
    message = str(refusal.value)
    assert message.startswith("ENRICH_DATABASE_URL: no connection to postgresql://me:***@")
    assert reason in message
    assert "hunter2" not in message
    assert "\n" not in message


def test_an_unknown_database_is_named(database: URL) -> None:
    engine = connection.create_engine(database.set(database="absent"))
    with pytest.raises(ConfigurationError, match='database "absent" does not exist'):
        connection.require_reachable(engine)


def test_a_stopped_embedded_server_asks_for_init(tmp_path: Path) -> None:
    engine = connection.create_engine(connection.database_url(tmp_path, None))
    with pytest.raises(ConfigurationError, match="run `enrich init`"):
        connection.require_reachable(engine, is_embedded=True)


def test_servers_before_15_are_refused() -> None:
    connection.require_version(150_000)
    with pytest.raises(ConfigurationError, match="PostgreSQL 14; 15 or later is needed"):
        connection.require_version(140_021)


def test_redacted_keeps_neither_password_nor_query(tmp_path: Path) -> None:
    url = connection.database_url(tmp_path, "postgresql://me:hunter2@db/crm?sslpassword=hunter2")
    assert connection.redacted(url) == "postgresql://me:***@db/crm"


def test_dagster_keeps_its_tables_in_its_own_schema(
    empty_database: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = connection.create_engine(empty_database)
    migrate.upgrade(engine)
    monkeypatch.setenv("ENRICH_DAGSTER_DATABASE_URL", connection.dagster_url(empty_database))
    monkeypatch.chdir(tmp_path)
    with DagsterInstance.from_config(os.fspath(Path(__file__).parents[2])) as instance:
        assert instance.get_runs_count() == 0
        assert not instance.telemetry_enabled
    with engine.connect() as session:
        schema = text("select schemaname from pg_tables where tablename = 'event_logs'")
        assert session.execute(schema).scalars().all() == ["dagster"]
    engine.dispose()
