"""The embedded database is open to a BI tool where somebody said so: to it alone, for reading."""

import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg import conninfo, errors

from enrich_pipeline.domain.errors import EnrichError
from enrich_pipeline.store import connection, embedded, migrate
from enrich_pipeline.store.door import Door

from ..support.sandbox import free_port
from .conftest import Enrich


@pytest.fixture
def home(folder: Path) -> Iterator[Path]:
    """An embedded database of one's own with one contact."""
    home = folder / ".enrich"
    engine = connection.create_engine(embedded.start(home))
    migrate.upgrade(engine)
    engine.dispose()
    with inside(home) as session:
        session.execute(
            "insert into analytics.dim_contacts (contact_id, first_name, work_email) "
            "values ('c1', 'Annalena', 'annalena@copperfox.com')"
        )
    yield home
    embedded.stop(home)


def inside(home: Path) -> psycopg.Connection:
    """The pipeline's own way in: the socket, as the owner of everything."""
    address = embedded.url(home).set(drivername="postgresql")
    return psycopg.connect(address.render_as_string(hide_password=False), autocommit=True)


def opened(enrich: Enrich, *arguments: str) -> str:
    done = enrich("db", "open", *arguments)
    assert done.returncode == 0, done.stderr
    address = done.stdout.strip()
    assert "\n" not in address
    assert str(conninfo.conninfo_to_dict(address)["password"]) not in done.stderr
    return address


def changed(address: str, **parts: str) -> str:
    return conninfo.make_conninfo(address, **parts)


def listening(port: int) -> set[str]:
    """The addresses on which something of this machine listens on a port."""
    return {
        c.laddr.ip
        for c in psutil.net_connections("tcp")
        if c.laddr and c.laddr.port == port and c.status == psutil.CONN_LISTEN
    }


def test_opened_it_lets_one_login_read_and_nobody_else_in_until_it_is_closed(
    home: Path, enrich: Enrich
) -> None:
    port = free_port()
    assert "no port" in enrich("db", "status").stdout

    address = opened(enrich, "--port", str(port))
    with psycopg.connect(address, autocommit=True) as bi:
        assert bi.execute("select first_name from dim_contacts").fetchall() == [("Annalena",)]
        with pytest.raises(errors.ReadOnlySqlTransaction):
            bi.execute("update analytics.dim_contacts set first_name = ''")
        bi.execute("set default_transaction_read_only = off")
        for statement in (
            "update analytics.dim_contacts set first_name = ''",
            "insert into analytics.mart_refresh_daily (date) values (now())",
            "create table analytics.mine ()",
            "create table public.mine ()",
            "select * from enrichment.secrets",
            "select * from crm.contacts",
            "set role enrich_owner",
            "select pg_read_file('pg_hba.conf')",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                bi.execute(statement)
        assert bi.execute("show statement_timeout").fetchone() == ("1min",)
        assert str(port) in enrich("db", "status").stdout

    refused = {
        changed(address, password=secrets.token_urlsafe(24)): "password authentication failed",
        changed(address, user=embedded.USER): "rejects connection",
        changed(address, user=embedded.USER, dbname="postgres"): "rejects connection",
        changed(address, user="bi_reader"): "rejects connection",
        changed(address, dbname="postgres"): "rejects connection",
    }
    for wrong, complaint in refused.items():
        with pytest.raises(psycopg.OperationalError, match=complaint):
            psycopg.connect(wrong)
    assert listening(port) == {"127.0.0.1"}
    inside(home).close()

    assert "no port" in enrich("db", "close").stdout
    assert listening(port) == set()
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(address)
    with inside(home) as session:
        assert session.execute("select from pg_roles where rolname = 'bi_tool'").rowcount == 0
    assert enrich("db", "close").returncode == 0


def test_masked_it_shows_the_same_tables_without_the_values_of_persons(
    home: Path, enrich: Enrich
) -> None:
    port = str(free_port())
    before = opened(enrich, "--port", port)
    with psycopg.connect(before) as session:
        address = opened(enrich, "--port", port, "--role", "masked")
        with pytest.raises(psycopg.OperationalError):
            session.execute("select 1")
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        psycopg.connect(before)
    with psycopg.connect(address, autocommit=True) as bi:
        query = "select first_name, work_email from dim_contacts"
        assert bi.execute(query).fetchall() == [("A", "copperfox.com")]
        with pytest.raises(errors.InsufficientPrivilege):
            bi.execute("select * from analytics.dim_contacts")


def test_a_server_that_starts_again_is_closed(home: Path, enrich: Enrich) -> None:
    port = free_port()
    address = opened(enrich, "--port", str(port))
    embedded.stop(home)
    embedded.start(home)
    assert listening(port) == set()
    assert "no port" in enrich("db", "status").stdout
    inside(home).close()
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(address)


def test_it_is_not_restarted_under_somebody_who_works(home: Path, enrich: Enrich) -> None:
    port = free_port()
    with inside(home) as working:
        done = enrich("db", "open", "--port", str(port))
        assert done.returncode == 2
        assert "1 other sessions" in done.stderr
        assert working.execute("select 1").fetchone() == (1,)
    assert listening(port) == set()

    address = opened(enrich, "--port", str(port))
    with inside(home) as working:
        done = enrich("db", "close")
        assert done.returncode == 0
        assert "nobody comes in" in done.stdout
        assert working.execute("select 1").fetchone() == (1,)
        with pytest.raises(psycopg.OperationalError, match="authentication failed"):
            psycopg.connect(address)
    assert "no port" in enrich("db", "close").stdout
    assert listening(port) == set()


def test_a_port_that_is_taken_is_named_and_nothing_changes(home: Path, enrich: Enrich) -> None:
    taken = free_port()
    with socket.create_server(("127.0.0.1", taken)):
        done = enrich("db", "open", "--port", str(taken))
        assert done.returncode == 2
        assert f"port {taken}" in done.stderr
        # Should somebody take it in between, the server comes back without a door.
        with pytest.raises(EnrichError, match="does not start"):
            embedded.restart(home, Door(taken, embedded.DATABASE, "bi_tool"))
    assert "no port" in enrich("db", "status").stdout


def test_a_server_of_ones_own_is_left_alone(
    enrich: Enrich, with_database: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in with_database.items():
        monkeypatch.setenv(name, value)
    for command in ("open", "close", "status"):
        done = enrich("db", command)
        assert done.returncode == 2
        assert "GRANT bi_reader TO" in done.stderr
    assert "GRANT bi_masked TO" in enrich("db", "open", "--role", "masked").stderr
