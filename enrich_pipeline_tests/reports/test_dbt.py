"""What dbt's sources promise of the tables holds after a night, and dbt sees where it does not."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import URL

from enrich_pipeline.store import publish

from ..support.lab import Bench, Lab, contacts

PROJECT = Path(__file__).parents[2] / "dbt"
DBT = PROJECT.parent / ".venv-dbt" / "bin" / "dbt"
LOGIN, SCHEMA = "test_dbt", "test_models"
SHARES = {
    "prospeo.match": 0.6, "agntdata.record": 0.6, "lance.emails": 0.6,
    "pronto.catch_all_share": 0.5, "answer.other_person": 0.1, "truth.moved": 0.2,
}  # fmt: skip

Dbt = Callable[..., dict[str, str]]

BROKEN = {
    "source_accepted_values_enrich_dim_contacts_phone_status": """
        update analytics.dim_contacts set phone_status = 'sure' where contact_id = 'c0001'
    """,
    "source_not_null_enrich_dim_contacts_is_suppressed": """
        alter table analytics.dim_contacts alter is_suppressed drop not null;
        update analytics.dim_contacts set is_suppressed = null where contact_id = 'c0002'
    """,
    "source_unique_together_enrich_mart_provider_daily_": """
        alter table analytics.mart_provider_daily drop constraint mart_provider_daily_pkey;
        insert into analytics.mart_provider_daily select * from analytics.mart_provider_daily
    """,
    "source_relationships_enrich_dim_contact_history_contact_id": """
        delete from analytics.dim_contacts where contact_id = 'c0003'
    """,
}
"""What somebody did to the tables, by the test of dbt that has to see it."""
TOUCHED = [
    f"source:enrich.{table}"
    for table in ("dim_contacts", "dim_contact_history", "mart_provider_daily")
]


@pytest.fixture
def lab(tmp_path: Path, database: URL) -> Iterator[Lab]:
    """A night of forty persons that is over and published: found, missed and reused."""
    with Bench(tmp_path, people=60) as bench, bench.lab(database, shares=SHARES) as lab:
        rows = contacts(range(40), personal_email_consent="true", segment="smb")
        lab.night([*rows, {**rows[0], "contact_id": "twin"}])
        lab.sandbox.wait_for_deliveries()
        lab.drain()
        publish.publish(lab.engine, lab.settings.policy, lab.today, 0, datetime.now(UTC))
        yield lab


@pytest.fixture
def dbt(lab: Lab, tmp_path: Path) -> Iterator[Dbt]:
    """Runs dbt as a login that is in a role; gives the status of every node that it ran."""
    if not DBT.exists():
        pytest.fail(f"{DBT} is missing: `make .venv-dbt/.made-from-lock`, as `make test` does")

    def dbt(command: Sequence[str], *, is_ok: bool = True) -> dict[str, str]:
        environ = {
            "PATH": os.defpath,
            "HOME": str(tmp_path),
            "PGHOST": str(lab.database.query["host"]),
            "PGPORT": str(lab.database.query["port"]),
            "PGDATABASE": str(lab.database.database),
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

    lab.sql(f"create role {LOGIN} login in role bi_reader")
    lab.sql(f"create schema {SCHEMA} authorization {LOGIN}")
    yield dbt
    lab.sql(f"drop owned by {LOGIN} cascade")
    lab.sql(f"drop role {LOGIN}")


def test_after_a_night_every_promise_holds_and_a_broken_one_is_seen(lab: Lab, dbt: Dbt) -> None:
    built = dbt(["build"])
    assert set(built.values()) <= {"pass", "success"}
    assert len(built) > 100
    assert lab.one("select count(*) from test_models.reachable_contacts") > 0

    fresh = dbt(["source", "freshness"])
    assert set(fresh.values()) == {"pass"}

    for statement in BROKEN.values():
        lab.sql(statement)
    tested = dbt(["test", "--select", *TOUCHED], is_ok=False)
    failed = [name.split(".")[2] for name, status in tested.items() if status == "fail"]
    assert len(failed) == len(BROKEN)
    assert all(any(name.startswith(promise) for name in failed) for promise in BROKEN), failed
