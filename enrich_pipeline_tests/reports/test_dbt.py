"""What dbt's sources promise holds of the demo's database, and dbt sees where it does not."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from enrich_pipeline.store import connection, embedded

PROJECT = Path(__file__).parents[2] / "dbt"
DBT = PROJECT.parent / ".venv-dbt" / "bin" / "dbt"
LOGIN, SCHEMA = "test_dbt", "test_models"
CONTACTS = 40

Dbt = Callable[..., dict[str, str]]

BROKEN = {
    "source_accepted_values_enrich_dim_contacts_phone_status": """
        update analytics.dim_contacts set phone_status = 'sure' where contact_id =
            (select min(contact_id) from analytics.dim_contacts)
    """,
    "source_not_null_enrich_dim_contacts_is_suppressed": """
        alter table analytics.dim_contacts alter is_suppressed drop not null;
        update analytics.dim_contacts set is_suppressed = null where contact_id =
            (select min(contact_id) from analytics.dim_contacts)
    """,
    "source_unique_together_enrich_mart_provider_daily_": """
        alter table analytics.mart_provider_daily drop constraint mart_provider_daily_pkey;
        insert into analytics.mart_provider_daily select * from analytics.mart_provider_daily
    """,
    "source_relationships_enrich_dim_contact_history_contact_id": """
        delete from analytics.dim_contacts where contact_id =
            (select max(contact_id) from analytics.dim_contacts)
    """,
}
"""What somebody did to the tables, by the test of dbt that has to see it."""
TOUCHED = [
    f"source:enrich.{table}"
    for table in ("dim_contacts", "dim_contact_history", "mart_provider_daily")
]


@pytest.fixture
def demo() -> Iterator[Engine]:
    """The database that `enrich demo` leaves behind, in memory where there is such a folder."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="demo-", dir=memory if memory.is_dir() else "/tmp"))
    played = ["demo", "--contacts", str(CONTACTS), "--directory", str(folder)]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "enrich_pipeline.cli", *played],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "0 micro-credits of difference over 5 providers" in done.stdout
        engine = connection.create_engine(embedded.url(folder / ".enrich"))
        yield engine
        engine.dispose()
    finally:
        embedded.stop(folder / ".enrich")
        shutil.rmtree(folder)


def execute(engine: Engine, statement: str) -> None:
    with engine.begin() as conn:
        conn.execute(text(statement))


@pytest.fixture
def dbt(demo: Engine, tmp_path: Path) -> Dbt:
    """Runs dbt as a login that is in a role; gives the status of every node that it ran."""
    if not DBT.exists():
        pytest.fail(f"{DBT} is missing: `make .venv-dbt/.made-from-lock`, as `make test` does")

    def dbt(command: Sequence[str], *, is_ok: bool = True) -> dict[str, str]:
        environ = {
            "PATH": os.defpath,
            "HOME": str(tmp_path),
            "PGHOST": str(demo.url.query["host"]),
            "PGPORT": str(demo.url.query["port"]),
            "PGDATABASE": str(demo.url.database),
            "PGUSER": LOGIN,
            "ENRICH_DBT_SCHEMA": SCHEMA,
        }
        places = ["--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT)]
        kept = ["--target-path", str(tmp_path / "target"), "--log-path", str(tmp_path / "logs")]
        done = subprocess.run(
            [DBT, "--no-use-colors", *command, *places, *kept],
            check=False,
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert (done.returncode == 0) is is_ok, done.stdout + done.stderr
        assert "[WARNING]" not in done.stdout, done.stdout
        name = "sources.json" if "freshness" in command else "run_results.json"
        results = json.loads((tmp_path / "target" / name).read_text())["results"]
        return {node["unique_id"]: node["status"] for node in results}

    execute(demo, f"create role {LOGIN} login in role bi_reader")
    execute(demo, f"create schema {SCHEMA} authorization {LOGIN}")
    return dbt


def test_after_the_demo_every_promise_holds_and_a_broken_one_is_seen(
    demo: Engine, dbt: Dbt
) -> None:
    built = dbt(["build"])
    assert set(built.values()) <= {"pass", "success"}
    assert len(built) > 100
    with demo.connect() as conn:
        reachable = text("select count(*) from test_models.reachable_contacts")
        assert conn.execute(reachable).scalar_one() > 0

    fresh = dbt(["source", "freshness"])
    assert set(fresh.values()) == {"pass"}

    for statement in BROKEN.values():
        execute(demo, statement)
    tested = dbt(["test", "--select", *TOUCHED], is_ok=False)
    failed = [name.split(".")[2] for name, status in tested.items() if status == "fail"]
    assert len(failed) == len(BROKEN)
    assert all(any(name.startswith(promise) for name in failed) for promise in BROKEN), failed
