"""Labs and logins for those who try to get in, or to get data out."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count

import pytest
from sqlalchemy import URL, Engine, text

from enrich_pipeline.store import connection

from ..support.lab import Bench, Lab

Login = Callable[[str], URL]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
_numbers = count(1)


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with Bench(tmp_path_factory.mktemp("security")) as bench:
        yield bench


@pytest.fixture
def login(database: URL, engine: Engine) -> Iterator[Login]:
    """`login("enrich_receiver")`: the database's address for a new login that is in that role."""
    names: list[str] = []

    def login(role: str) -> URL:
        name = f"test_login_{next(_numbers)}"
        with engine.begin() as conn:
            conn.execute(text(f"create role {name} login in role {role}"))
        names.append(name)
        return database.set(username=name)

    yield login
    with engine.begin() as conn:
        for name in names:
            conn.execute(text(f"drop owned by {name} cascade"))
            conn.execute(text(f"drop role {name}"))


@pytest.fixture
def run(lab: Lab) -> Run:
    """Runs a command in the lab's folder and environment, in a process of its own."""
    environ = {
        **os.environ,
        **lab.environment,
        "ENRICH_DATABASE_URL": lab.database.render_as_string(hide_password=False),
        "ENRICH_DAGSTER_DATABASE_URL": connection.dagster_url(lab.database),
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "enrich_pipeline.cli", *arguments]
        return subprocess.run(
            command,
            check=False,
            cwd=lab.folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
        )

    return run
