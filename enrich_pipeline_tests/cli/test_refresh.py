"""Rules of `enrich refresh` as users run it: real processes, real Dagster, simulated providers."""

import csv
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Engine, text

from enrich_pipeline.store import invariants

from ..support.lab import contact, contacts
from ..support.sandbox import SandboxProcess, free_port
from .conftest import Enrich, start, start_python

CONFIGURATION = """
refresh: {batches: 2}
providers:
  pronto: {await_seconds: 120, poll_seconds: 0.2}
  lance: {await_seconds: 120, poll_seconds: 0.2}
  apollo: {await_seconds: 120, poll_seconds: 0.2}
"""

_REFRESH = """
import sys
from enrich_pipeline.cli import main
code = main.run(["refresh"])
print("imported dagster" if "dagster" in sys.modules else "did without dagster")
sys.exit(code)
"""


@pytest.fixture(scope="module")
def simulated() -> Iterator[SandboxProcess]:
    arguments = ("--pronto-delay", "0.05-0.2", "--apollo-delay", "0.05-0.2", "--lance-delay", "0.2")
    with SandboxProcess(arguments) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(simulated: SandboxProcess) -> SandboxProcess:
    simulated.reset()
    simulated.clear_faults()
    simulated.latency(0)
    return simulated


@pytest.fixture
def enrich(enrich_alone: Enrich) -> Enrich:
    """A night forks processes, and answers to signals."""
    return enrich_alone


@pytest.fixture
def environ(
    enrich: Enrich, folder: Path, with_database: dict[str, str], sandbox: SandboxProcess
) -> dict[str, str]:
    """Thirty contacts loaded, and everything set that a refresh needs."""
    (folder / "enrich.yaml").write_text(CONFIGURATION)
    with (folder / "crm.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(contact(0)))
        writer.writeheader()
        writer.writerows(contacts(range(30)))
    environ = {
        **with_database,
        **sandbox.environment(),
        "ENRICH_CONFIG": "enrich.yaml",
        "ENRICH_WEBHOOK_PUBLIC_URL": f"http://127.0.0.1:{free_port()}",
    }
    done = enrich("load-contacts", "crm.csv", **environ)
    assert done.returncode == 0, done.stderr
    return environ


def calls(sandbox: SandboxProcess) -> int:
    return sum(meter["calls"] for meter in sandbox.meter().values())


def unfinished_runs(engine: Engine) -> int:
    with engine.connect() as connection:
        query = text("select count(*) from dagster.runs where status in ('STARTED', 'STARTING')")
        return int(connection.execute(query).scalar_one())


def connections(engine: Engine) -> int:
    """How many were ever made to the test's database and have ended."""
    with engine.connect() as connection:
        query = text("select sessions from pg_stat_database where datname = current_database()")
        return int(connection.execute(query).scalar_one())


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def living(processes: list[psutil.Process], within_seconds: float) -> list[psutil.Process]:
    """Those that still run after a while; one that nobody has collected yet does not."""
    deadline = time.monotonic() + within_seconds
    while True:
        left = [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.2)


def until_sending(engine: Engine, process: subprocess.Popen[str], batches: int = 1) -> None:
    """Waits until that many batches have had a paid call on its way, and one still has."""
    query = text(
        "select count(distinct batch) filter (where armed_at is not null) >= :batches"
        " and bool_or(state = 'sending') from enrichment.calls"
    )
    deadline = time.monotonic() + 60
    while True:
        with engine.connect() as connection:
            if connection.execute(query, {"batches": batches}).scalar_one():
                return
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def books_agree(enrich: Enrich, environ: dict[str, str]) -> None:
    done = enrich("reconcile", "--json", **environ)
    rows = json.loads(done.stdout)
    assert done.returncode == 0, rows
    assert {row["provider"]: row["is_explained"] for row in rows} == {
        name: True for name in ("prospeo", "agntdata", "pronto", "lance", "apollo")
    }


def test_a_night_is_done_and_the_same_night_again_asks_nothing(
    enrich: Enrich, environ: dict[str, str], sandbox: SandboxProcess, engine: Engine
) -> None:
    priced = enrich("refresh", "--dry-run", **environ)
    assert priced.returncode == 0, priced.stderr
    assert "30 to refresh" in priced.stdout
    assert calls(sandbox) == 0

    first = enrich("refresh", **environ)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "pending 0, in doubt 0" in first.stdout
    asked = calls(sandbox)
    assert f"This run: {asked} calls" in first.stdout

    connected = connections(engine)
    again = enrich("refresh", **environ)
    assert again.returncode == 0, again.stdout + again.stderr
    assert connections(engine) - connected < 150, "Dagster's storage makes 440: one an event"
    assert "This run: 0 calls, $0.00 spent" in again.stdout
    assert calls(sandbox) == asked
    assert sandbox.double_charges() == []
    assert sandbox.violations()["total"] == 0
    books_agree(enrich, environ)
    with engine.connect() as connection:
        query = text("select count(*) from dagster.runs where status = 'SUCCESS'")
        assert connection.execute(query).scalar_one() == 6, "two batches and a report, twice"


def test_nothing_stale_is_done_and_who_launches_the_runs_imports_nothing_of_dagster(
    environ: dict[str, str], folder: Path, engine: Engine
) -> None:
    with engine.begin() as connection:
        connection.execute(text("update crm.contacts set do_not_enrich = true"))
    process = start_python(("-c", _REFRESH), folder, environ)
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, out + err
    assert "nothing is stale, nothing was asked" in out
    assert "did without dagster" in out, "it takes two seconds, and the runs' processes do it"


def test_what_is_still_open_is_exit_code_3(
    enrich: Enrich, environ: dict[str, str], folder: Path, sandbox: SandboxProcess
) -> None:
    with (folder / "enrich.yaml").open("a") as file:
        file.write("budget: {night_usd: 0}\n")
    done = enrich("refresh", "--batch", "00", **environ)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "a later run continues them" in done.stdout
    assert calls(sandbox) == 0


def test_paused_it_says_so_sends_nothing_and_ends_with_exit_code_3(
    enrich: Enrich, environ: dict[str, str], sandbox: SandboxProcess
) -> None:
    assert enrich("pause", **environ).returncode == 0
    done = enrich("refresh", "--batch", "00", **environ)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "paused since" in done.stderr
    assert "(waiting: paused" in done.stdout
    assert calls(sandbox) == 0


def test_a_limit_does_not_change_a_planned_night_and_one_below_it_is_refused(
    enrich: Enrich, environ: dict[str, str], sandbox: SandboxProcess, engine: Engine
) -> None:
    assert enrich("pause", **environ).returncode == 0
    assert enrich("refresh", "--limit", "20", **environ).returncode == 3
    for option in ((), ("--dry-run",)):
        done = enrich("refresh", "--limit", "10", *option, **environ)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "has its plan of at most 20 contacts; --limit 10" in done.stderr
        assert "leave --limit out to go on with it, or choose another date" in done.stderr
    done = enrich("refresh", "--limit", "25", "--batch", "00", **environ)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "at most 20 contacts; --limit 25 changes nothing" in done.stderr
    with engine.connect() as connection:
        query = text("select count(distinct contact_id) from enrichment.plan_rows")
        assert connection.execute(query).scalar_one() == 20
        assert connection.execute(text("select count(*) from dagster.runs")).scalar_one() == 5
    assert calls(sandbox) == 0


def test_dagster_that_cannot_be_asked_is_an_error_that_names_its_log(
    enrich: Enrich, environ: dict[str, str], folder: Path, sandbox: SandboxProcess
) -> None:
    (folder / "dagster.yaml").write_text("storage: {nothing: known}\n")
    done = enrich("refresh", **environ)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "dagster.log says why" in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr
    assert "nothing" in (folder / ".enrich/logs/dagster.log").read_text()
    assert calls(sandbox) == 0


def test_interrupted_it_finishes_what_is_in_flight_and_the_next_run_continues(
    enrich: Enrich,
    environ: dict[str, str],
    folder: Path,
    sandbox: SandboxProcess,
    engine: Engine,
) -> None:
    sandbox.latency(1500)
    process = start(("refresh",), folder, environ)
    until_sending(engine, process)
    started = children(process)
    interrupted = time.monotonic()
    # As a machine does that goes down; Ctrl-C takes the same way from here on.
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    # The exchange under way, and Dagster's own end: 3 seconds, 12 where every core is busy.
    assert time.monotonic() - interrupted < 40, "it waited for results, or went on"
    assert process.returncode == 1, out + err
    assert "what is in flight is finished" in err
    assert "interrupted" in err
    # The last of them sees that its parent is gone, and is on its way.
    assert living(started, within_seconds=5) == []
    assert unfinished_runs(engine) == 0
    with engine.connect() as connection:
        states = text("select distinct state from enrichment.calls")
        left = set(connection.execute(states).scalars())
        assert "settled" in left
        assert not left & {"reserved", "sending", "responded", "in_doubt"}
        assert invariants.violations(connection) == []

    sandbox.latency(0)
    done = enrich("refresh", **environ)
    assert done.returncode in (0, 3), done.stdout + done.stderr
    assert sandbox.double_charges() == []
    books_agree(enrich, environ)


def test_a_batch_whose_process_is_killed_fails_alone_and_its_run_is_closed(
    enrich: Enrich,
    environ: dict[str, str],
    folder: Path,
    sandbox: SandboxProcess,
    engine: Engine,
) -> None:
    sandbox.latency(1000)
    process = start(("refresh",), folder, environ)
    until_sending(engine, process, batches=2)
    forked = [child for child in children(process) if "forkserver" in " ".join(child.cmdline())]
    # Batches are forked from one process of the same command line, which is no batch itself.
    batches = [child for child in forked if child.ppid() in {other.pid for other in forked}]
    assert len(batches) == 2
    batches[0].kill()
    sandbox.latency(0)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1, out + err
    assert "its process ended early" in err
    assert unfinished_runs(engine) == 0

    done = enrich("refresh", **environ)
    assert done.returncode in (0, 3), done.stdout + done.stderr
    assert sandbox.double_charges() == []
    books_agree(enrich, environ)


def test_killed_altogether_it_leaves_no_process_that_goes_on_spending(
    enrich: Enrich,
    environ: dict[str, str],
    folder: Path,
    sandbox: SandboxProcess,
    engine: Engine,
) -> None:
    sandbox.latency(500)
    process = start(("refresh",), folder, environ)
    until_sending(engine, process)
    started = children(process)
    process.kill()
    process.communicate()
    assert living(started, within_seconds=45) == []
    sandbox.latency(0)
    done = enrich("refresh", **environ)
    assert done.returncode in (0, 3), done.stdout + done.stderr
    assert unfinished_runs(engine) == 0
    assert sandbox.double_charges() == []
    books_agree(enrich, environ)
