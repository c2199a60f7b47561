"""Rules of `refresh.executor`: another executor, the same night, and a run that lives."""

import sys
import threading
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableRepository
from sqlalchemy import Engine, text

from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.orchestration import executors, liveness, partitions
from enrich_pipeline.store import invariants

from .conftest import Night

STEPS = 7
"""The plan, reuse, one provider, publish, three checks."""

CONFIGURATION = """
refresh: {batches: 2, executor: multiprocess}
fields:
  work_email: {waterfall: [prospeo]}
  phone: {waterfall: [prospeo]}
  personal_email: {waterfall: []}
  profile: {waterfall: [prospeo]}
"""


def run_as_a_daemon_would(night: Night, batch: int) -> dg.JobExecutionResult:
    """With the executor of the definitions, which `execute_in_process` does not use."""
    repository = ReconstructableRepository.for_module("enrich_pipeline.definitions", "defs")
    key = partitions.key(night.day, batch)
    return dg.execute_job(
        repository.get_reconstructable_job("nightly_refresh"),
        instance=night.instance,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        tags={
            partitions.TAG: str(key),
            f"{partitions.TAG}/date": night.day.isoformat(),
            f"{partitions.TAG}/batch": partitions.batch_key(batch),
        },
    )


def signs_of_life(
    instance: dg.DagsterInstance, engine: Engine, over: threading.Event
) -> Iterator[bool]:
    """Whether somebody held the lock of the marked run, again and again until its last step."""
    while not over.wait(0.05):
        for run in instance.get_runs(dg.RunsFilter(tags={liveness.MARK: "1"})):
            with engine.begin() as connection:
                alive = liveness.is_alive(connection, run.run_id)
            ended = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_SUCCESS)
            # Read afterwards: when it was looked at, the last step had not ended yet.
            if len(ended) < STEPS:
                yield alive


@pytest.fixture
def server_of_steps() -> Iterator[None]:
    """Steps are forked from a server with this test's environment, as that of a run's process has.

    One that an earlier test of this process began has the environment of that moment.
    """
    forkserver._forkserver._stop()  # type: ignore[attr-defined]
    yield
    forkserver._forkserver._stop()  # type: ignore[attr-defined]


@pytest.mark.usefixtures("server_of_steps")
def test_a_night_in_many_processes_is_the_same_and_never_looks_dead(
    night: Night, engine: Engine
) -> None:
    Path("enrich.yaml").write_text(CONFIGURATION)
    seen: list[bool] = []
    over = threading.Event()
    watch = threading.Thread(
        target=lambda: seen.extend(signs_of_life(night.instance, engine, over))
    )
    watch.start()
    try:
        result = run_as_a_daemon_would(night, 0)
    finally:
        over.set()
        watch.join()
    assert result.success, [entry.message for entry in night.instance.all_logs(result.run_id)]
    assert len(seen) > STEPS
    assert all(seen), "also between two steps"
    started = dg.DagsterEventType.STEP_WORKER_STARTED
    assert len([e for e in result.all_events if e.event_type == started]) == STEPS
    with engine.begin() as connection:
        assert not liveness.is_alive(connection, result.run_id)
        assert invariants.violations(connection) == []
        bought = text("select count(*) from enrichment.attempts where outcome = 'found'")
        assert connection.execute(bought).scalar_one() > 0
    assert night.sandbox.double_charges() == []

    calls = night.calls()
    again = Night(night.day, night.instance, night.sandbox).run(0)
    assert again.success
    assert night.calls() == calls, "in one process it finds nothing left to buy"


@pytest.mark.parametrize(
    ("name", "package"), [("celery", "dagster_celery"), ("k8s", "dagster_k8s")]
)
def test_an_executor_without_its_package_names_the_extra(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigurationError) as told:
        executors.chosen(name)
    assert str(told.value) == (
        f"refresh.executor is {name}: the package {package} is not installed; "
        f"pip install 'enrich-pipeline[{name}]'"
    )
