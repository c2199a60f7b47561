"""Canaries: keys, tokens and persons that failing runs handle, and places where none may show.

Commands run as users run them, on Dagster's real storage, while everything fails that can. Then
everything that they left behind is searched, the tables apart that are meant to hold persons.
"""

import csv
import hashlib
import hmac
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from sqlalchemy import URL, Engine, text

from enrich_pipeline.store import connection

from ..support.lab import contact
from ..support.sandbox import PROVIDERS, SandboxProcess, free_port

KEY = "zzcanarykey7q1x"
NAME = "zzcanary"
PERSONS = 10
FAULTS = (
    {"kind": "charge_then_drop"},
    {"kind": "truncate"},
    {"kind": "html"},
    {"kind": "cut_body"},
    {"kind": "poison"},
    {"kind": "charge_then_status", "status": 502, "body": {"error": f"{NAME}@{NAME}.example"}},
    {"kind": "status", "status": 400, "body": {"error_code": NAME, "message": f"{NAME} is bad"}},
    {"kind": "status", "status": 401, "body": {"error": f"key {KEY} is unknown"}},
    {"kind": "429", "seconds": 0.1},
    {"kind": "insufficient"},
    {"kind": "unknown_identifier"},
    {"kind": "overcharge"},
)
CONFIGURATION = """
refresh: {batches: 1, contacts_per_night: 50}
providers:
  prospeo: {batch_size: 2, rate: []}
  agntdata: {batch_size: 2, rate: []}
  pronto: {batch_size: 2, await_seconds: 0.2, poll_seconds: 0.1, rate: []}
  lance: {batch_size: 2, await_seconds: 0.2, poll_seconds: 0.1, rate: []}
  apollo: {batch_size: 2, await_seconds: 0.2, poll_seconds: 0.1, rate: []}
"""
BROKEN = (
    "alter table enrichment.observations add constraint broken check (false) not valid",
    "alter table analytics.dim_contacts add constraint broken check (false) not valid",
)
"""PostgreSQL tells the whole row that violates a constraint, and nobody may pass it on."""


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="enrich-canary-", dir="/tmp"))
    shutil.copy(Path(__file__).parents[2] / "dagster.yaml", path)
    (path / "own.yaml").write_text(CONFIGURATION)
    with (path / "crm.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*contact(0), "personal_email_consent"])
        writer.writeheader()
        for number in range(PERSONS):
            writer.writerow(
                contact(
                    number,
                    first_name=f"{NAME}f",
                    last_name=f"{NAME}{chr(97 + number)}",
                    email=f"{NAME}.{number}@copperfox{number % 7}.com",
                    linkedin_url=f"https://www.linkedin.com/in/{NAME}-{number}",
                    personal_email_consent="true",
                )
            )
        file.write(f"broken,{NAME}\n")
    yield path
    shutil.rmtree(path)


def run(folder: Path, environ: Mapping[str, str], *arguments: str) -> str:
    """What a command printed. Whether it succeeds is not the question here."""
    done = subprocess.run(
        [sys.executable, "-m", "enrich_pipeline.cli", *arguments],
        check=False,
        cwd=folder,
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
    )
    return done.stdout + done.stderr


def tokens(engine: Engine) -> list[str]:
    with engine.connect() as conn:
        secret = conn.execute(
            text("select value from enrichment.secrets where name = 'webhook'")
        ).scalar_one()
        calls = conn.execute(text("select call_id from enrichment.calls")).scalars()
        return [hmac.new(secret, f"{c}".encode(), hashlib.sha256).hexdigest() for c in calls]


def found_values(engine: Engine) -> list[str]:
    with engine.connect() as conn:
        query = text(
            "select distinct value from enrichment.observations "
            "where attribute in ('work_email', 'personal_email', 'phone', 'linkedin_url')"
        )
        return list(conn.execute(query).scalars())


def left_in_dagster(engine: Engine, words: list[str]) -> list[str]:
    """Tables of Dagster's that hold one of the words, as text or bytes."""
    hits = []
    with engine.connect() as conn:
        tables = conn.execute(
            text("select table_name from information_schema.tables where table_schema = 'dagster'")
        ).scalars()
        for table in list(tables):
            rows = conn.execute(text(f'select t::text from dagster."{table}" as t')).scalars()  # noqa: S608
            hits += [
                f"dagster.{table}" for row in rows if any(word in row.lower() for word in words)
            ]
    return hits


def left_in_files(places: list[Path], words: list[str]) -> list[str]:
    wanted = [word.encode() for word in words]
    return [
        f"{path.name}: {word.decode()[:12]}"
        for place in places
        for path in ([place] if place.is_file() else place.rglob("*"))
        if path.is_file()
        for word in wanted
        if word in path.read_bytes().lower()
    ]


def test_no_key_token_or_person_shows_outside_the_tables_that_are_meant_to_hold_them(
    folder: Path, database: URL, engine: Engine
) -> None:
    with SandboxProcess(("--lance-delay", "0.1", "--pronto-delay", "0.05-0.1")) as sandbox:
        environ = {
            "ENRICH_DATABASE_URL": database.render_as_string(hide_password=False),
            "ENRICH_DAGSTER_DATABASE_URL": connection.dagster_url(database),
            "ENRICH_CONFIG": "own.yaml",
            "ENRICH_WEBHOOK_PUBLIC_URL": f"http://127.0.0.1:{free_port()}",
            **sandbox.environment(),
            **{f"ENRICH_{name.upper()}_API_KEY": KEY for name in PROVIDERS},
        }
        said = [run(folder, environ, "load-contacts", "crm.csv")]
        with engine.begin() as conn:
            conn.execute(text(BROKEN[0]))
        said.append(run(folder, environ, "refresh"))
        with engine.begin() as conn:
            conn.execute(text("alter table enrichment.observations drop constraint broken"))
            conn.execute(text("delete from enrichment.provider_states"))
        sandbox.faults(
            *({"provider": "*", "times": None, "probability": 0.06, **fault} for fault in FAULTS)
        )
        said.append(run(folder, environ, "refresh"))
        with engine.begin() as conn:
            conn.execute(text(BROKEN[1]))
            conn.execute(text("update crm.contacts set job_title = 'Keeper'"))
        said.append(run(folder, environ, "refresh", "--dry-run"))
        said.append(run(folder, environ, "load-contacts", "crm.csv"))
        for command in (["status", "--json"], ["in-doubt", "list"], ["reconcile"]):
            said.append(run(folder, environ, *command))

    secret = [KEY, *tokens(engine), *(value.lower() for value in found_values(engine))]
    words = [KEY, NAME, *secret]
    assert len(secret) > 10, "the runs bought nothing: nothing was put to the proof"
    with engine.connect() as conn:
        events = conn.execute(text("select count(*) from dagster.event_logs")).scalar_one()
        failed = conn.execute(
            text("select count(*) from dagster.runs where status = 'FAILURE'")
        ).scalar_one()
    assert events > 50
    assert failed > 0, "no run failed: nothing was put to the proof"

    assert left_in_dagster(engine, words) == []
    server_log = Path(str(database.query["host"])) / "server.log"
    logs = [path for path in folder.iterdir() if not path.name.startswith("crm.csv")]
    assert left_in_files([*logs, server_log], words) == []
    printed = "".join(said).lower()
    assert [word for word in words if word in printed] == []
