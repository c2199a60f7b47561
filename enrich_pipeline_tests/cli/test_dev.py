"""`enrich dev`: runs spend on what it checked; nothing is invented where others were paid."""

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest
import yaml
from sqlalchemy import URL, Engine, text

from enrich_pipeline import settings
from enrich_pipeline.cli import demo, sandboxed
from enrich_pipeline.cli.dev import _refuse_two_values, _sandbox_port
from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.store import connection, embedded

from ..support.lab import Lab, contact
from ..support.sandbox import free_port
from .conftest import Enrich

ENRICH = f"{shlex.quote(sys.executable)} -m enrich_pipeline.cli"
DOCUMENTED = yaml.safe_load((Path(__file__).parents[2] / "workspace.yaml").read_text())
UP_WITHIN_SECONDS = 300.0
LOCATIONS = """{
    repositoriesOrError { ... on RepositoryConnection { nodes { location { name } } } }
}"""


def test_sandbox_refuses_an_env_file_that_names_a_real_provider(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ENRICH_PROSPEO_BASE_URL='https://api.prospeo.io'\n")
    with pytest.raises(ConfigurationError, match="ENRICH_PROSPEO_BASE_URL"):
        _sandbox_port(settings.load({}, tmp_path), tmp_path)


def test_sandbox_listens_where_the_env_file_says_that_it_is(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ENRICH_LANCE_BASE_URL='http://127.0.0.1:34783/lance'\n")
    assert _sandbox_port(settings.load({}, tmp_path), tmp_path) == 34783


def test_a_variable_with_another_value_in_the_env_file_is_refused(
    enrich: Enrich, with_database: dict[str, str], folder: Path
) -> None:
    for budget in ("small", "large"):
        (folder / f"{budget}.yaml").write_text("")
    (folder / ".env").write_text("ENRICH_CONFIG=large.yaml\nENRICH_LANCE_API_KEY=of-the-file\n")
    done = enrich(
        "dev", ENRICH_CONFIG="small.yaml", ENRICH_LANCE_API_KEY="of-the-shell", **with_database
    )
    assert (done.returncode, done.stdout) == (2, "")
    config, key = done.stderr.splitlines()
    assert config.startswith(f"Error: ENRICH_CONFIG: {folder / '.env'}, which Dagster follows,")
    assert "the environment" in config
    assert key.startswith("Error: ENRICH_LANCE_API_KEY: ")
    assert "of-the-" not in done.stderr


def test_an_env_file_made_for_another_database_is_made_anew_by_init(
    enrich: Enrich, with_database: dict[str, str], folder: Path
) -> None:
    (folder / ".env").write_text("ENRICH_DAGSTER_DATABASE_URL=postgresql+psycopg2://u@h/other\n")
    done = enrich("dev", **with_database)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ENRICH_DAGSTER_DATABASE_URL: ")
    assert "the database in use" in line
    assert "`enrich init`" in line


def test_sandbox_refuses_an_env_file_with_the_address_of_real_deliveries(
    enrich: Enrich, with_database: dict[str, str], folder: Path
) -> None:
    (folder / ".env").write_text("ENRICH_WEBHOOK_PUBLIC_URL=https://hooks.example.com\n")
    done = enrich("dev", "--sandbox", **with_database)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ENRICH_WEBHOOK_PUBLIC_URL: ")
    assert "the sandbox needs; run --sandbox in another directory" in line


def test_a_variable_that_stands_in_one_place_or_alike_in_both_is_taken(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ENRICH_CONFIG=' a.yaml'\nENRICH_HOME=x\nOTHER=1\nENRICH_B\n")
    environ = {"ENRICH_CONFIG": "a.yaml", "ENRICH_WEBHOOK_PORT": "1", "OTHER": "2"}
    _refuse_two_values(environ, environ.keys(), tmp_path)


def test_sandbox_refuses_a_database_that_holds_calls_of_others(
    enrich: Enrich, with_database: dict[str, str], lab: Lab
) -> None:
    lab.night([contact(0)])
    done = enrich("dev", "--sandbox", **with_database)
    assert (done.returncode, done.stdout) == (2, "")
    assert "this database holds calls that were not made by --sandbox" in done.stderr
    assert "run `enrich init` in another directory" in done.stderr


def test_a_sandboxs_database_stays_one_and_real_providers_are_not_asked_for_it(
    enrich: Enrich, with_database: dict[str, str], engine: Engine, lab: Lab
) -> None:
    sandboxed.mark(engine)
    lab.night([contact(0)])
    sandboxed.mark(engine)
    sandboxed.refuse_real_providers(engine, lab.settings)
    done = enrich("dev", **with_database)
    assert (done.returncode, done.stdout) == (2, "")
    assert "this database is a sandbox's" in done.stderr


def test_a_sandboxs_database_of_which_nothing_was_asked_is_free_again(
    engine: Engine, lab: Lab, tmp_path: Path
) -> None:
    sandboxed.mark(engine)
    sandboxed.refuse_real_providers(engine, settings.load({}, tmp_path))
    lab.night([contact(0)])
    with pytest.raises(ConfigurationError, match="not made by --sandbox"):
        sandboxed.mark(engine)


def test_a_login_that_may_not_make_a_database_the_sandboxs_is_told_so(database: URL) -> None:
    restricted = connection.create_engine(
        database.update_query_dict({"options": "-c role=enrich_pipeline"})
    )
    with pytest.raises(ConfigurationError, match="the login of this database"):
        sandboxed.mark(restricted)
    restricted.dispose()


@pytest.fixture
def own(
    folder: Path, monkeypatch: pytest.MonkeyPatch, with_database: dict[str, str]
) -> Iterator[Path]:
    """A folder with a file of contacts, in a shell that names a database of the user's."""
    monkeypatch.chdir(folder)
    (folder / "crm.csv").write_text("contact_id,email\nc1,jane@acme.example.com\n")
    for name, value in with_database.items():
        monkeypatch.setenv(name, value)
    yield folder
    embedded.stop(folder / "trial" / ".enrich")


def test_the_demos_last_words_show_own_contacts_in_a_database_of_their_own(
    own: Path, engine: Engine
) -> None:
    trial = own / "trial"
    line, port = demo.own_contacts(trial, ENRICH), free_port()
    # Nothing but ports is not as printed: others may be using those.
    trial.mkdir()
    (trial / ".env").write_text(f"ENRICH_WEBHOOK_PORT={free_port()}\n")
    with typed(line.removesuffix(")") + f" --port {port})", own) as log:
        locations = locations_at(port, log)
    assert locations == [DOCUMENTED["load_from"][0]["python_module"]["location_name"]]
    tried = connection.create_engine(embedded.url(trial / ".enrich"))
    assert (contacts_in(tried), contacts_in(engine)) == (1, 0)
    with tried.connect() as conn:
        marks = conn.execute(text("select count(*) from enrichment.secrets where name = 'sandbox'"))
        assert marks.scalar_one() == 1
    tried.dispose()


@contextmanager
def typed(line: str, folder: Path) -> Iterator[Path]:
    """A line given to a shell, until the block ends; where its output goes."""
    log = folder / "typed.log"
    with log.open("wb") as out:
        shell = subprocess.Popen(
            ["/bin/sh", "-c", line], cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        yield log
    finally:
        started = psutil.Process(shell.pid).children(recursive=True)
        for process in started:
            if "dev" in process.cmdline() and "enrich_pipeline.cli" in process.cmdline():
                process.send_signal(signal.SIGTERM)
        _, left = psutil.wait_procs([psutil.Process(shell.pid), *started], timeout=60)
        for process in left:
            process.kill()
        shell.wait()
    assert not left, left


def locations_at(port: int, log: Path) -> list[str]:
    """The names of the code locations that Dagster's UI shows, once it does."""
    until = time.monotonic() + UP_WITHIN_SECONDS
    while time.monotonic() < until:
        with suppress(httpx.HTTPError, KeyError):
            reply = httpx.post(
                f"http://127.0.0.1:{port}/graphql", json={"query": LOCATIONS}, trust_env=False
            )
            nodes = reply.json()["data"]["repositoriesOrError"]["nodes"]
            if nodes:
                return [node["location"]["name"] for node in nodes]
        time.sleep(0.2)
    raise AssertionError(log.read_text())


def contacts_in(engine: Engine) -> int:
    with engine.connect() as conn:
        count: int = conn.execute(text("select count(*) from crm.contacts")).scalar_one()
        return count
