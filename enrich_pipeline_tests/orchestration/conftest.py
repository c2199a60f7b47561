"""Dagster in this process, on an instance of its own, over a real database."""

import csv
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import URL, Engine

from enrich_pipeline import settings
from enrich_pipeline.intake.load import load_file
from enrich_pipeline.orchestration import build, partitions
from enrich_pipeline.settings import Settings
from enrich_pipeline.webhooks.server import serving

from ..support.lab import contact, contacts
from ..support.sandbox import PROVIDERS, SandboxProcess

CONFIGURATION = """
refresh: {batches: 2}
providers:
  pronto: {await_seconds: 10, poll_seconds: 0.1, rate: []}
  lance: {await_seconds: 10, poll_seconds: 0.1, rate: []}
  apollo: {await_seconds: 10, poll_seconds: 0.1, rate: []}
"""


@pytest.fixture
def today() -> date:
    return datetime.now(UTC).date()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


@pytest.fixture
def environment(
    database: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> pytest.MonkeyPatch:
    """A working directory of its own whose settings name the test's database."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "enrich.yaml").write_text(CONFIGURATION)
    monkeypatch.setenv("ENRICH_CONFIG", "enrich.yaml")
    monkeypatch.setenv("ENRICH_DATABASE_URL", database.render_as_string(hide_password=False))
    return monkeypatch


@pytest.fixture
def definitions(environment: pytest.MonkeyPatch) -> dg.Definitions:
    return build.definitions(settings.load().policy)


class Night:
    """A night of twelve stale contacts that Dagster can run."""

    def __init__(self, day: date, instance: dg.DagsterInstance, sandbox: SandboxProcess) -> None:
        self.day = day
        self.instance = instance
        self.sandbox = sandbox
        self.definitions = build.definitions(settings.load().policy)

    def run(
        self, batch: int = 0, day: date | None = None, **options: Any
    ) -> dg.ExecuteInProcessResult:
        return self.definitions.resolve_job_def("nightly_refresh").execute_in_process(
            partition_key=partitions.key(day or self.day, batch),
            instance=self.instance,
            run_config={
                "resources": {"refresh_options": {"config": options}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            raise_on_error=False,
        )

    def calls(self) -> int:
        return sum(meter["calls"] for meter in self.sandbox.meter().values())


@pytest.fixture(scope="session")
def simulated() -> Iterator[SandboxProcess]:
    arguments = ("--pronto-delay", "0.05-0.2", "--apollo-delay", "0.05-0.2", "--lance-delay", "0.2")
    with SandboxProcess(arguments) as sandbox:
        yield sandbox


@pytest.fixture
def loaded(
    environment: pytest.MonkeyPatch, simulated: SandboxProcess, engine: Engine, tmp_path: Path
) -> Settings:
    """Settings under which twelve contacts are loaded and the simulated providers asked."""
    simulated.reset()
    for name, value in simulated.environment().items():
        environment.setenv(name, value)
    found = settings.load()
    path = tmp_path / "contacts.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(contact(0)))
        writer.writeheader()
        writer.writerows(contacts(range(12)))
    load_file(engine, path, found.policy, datetime.now(UTC))
    return found


@pytest.fixture
def night(
    environment: pytest.MonkeyPatch,
    loaded: Settings,
    simulated: SandboxProcess,
    database: URL,
    instance: dg.DagsterInstance,
    today: date,
) -> Iterator[Night]:
    with serving(database, PROVIDERS, "127.0.0.1", 0) as port:
        environment.setenv("ENRICH_WEBHOOK_PUBLIC_URL", f"http://127.0.0.1:{port}")
        yield Night(today, instance, simulated)
