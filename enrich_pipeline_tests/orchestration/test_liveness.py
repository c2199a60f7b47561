"""Rules of life and death: a run is dead when its process is gone, and only then."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from sqlalchemy import URL, Engine

from enrich_pipeline.orchestration import liveness

_HOLD = """
import sys, time
from enrich_pipeline.orchestration.liveness import Liveness
from enrich_pipeline.store import connection
import sqlalchemy
engine = connection.create_engine(sqlalchemy.make_url(sys.argv[1]))
held = Liveness(engine, sys.argv[2])
print("held", flush=True)
time.sleep(60)
"""


@contextmanager
def process_of(run_id: str, database: URL) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock of a run, as the run's own does."""
    address = database.render_as_string(hide_password=False)
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, address, run_id], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def started_run(
    instance: dg.DagsterInstance, definitions: dg.Definitions, *, marked: bool = True
) -> str:
    run = instance.create_run_for_job(
        definitions.resolve_job_def("nightly_refresh"),
        status=dg.DagsterRunStatus.STARTED,
        tags={liveness.MARK: "1"} if marked else {},
    )
    return run.run_id


def status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def close(instance: dg.DagsterInstance, engine: Engine) -> list[str]:
    return liveness.close_dead_runs(instance, engine, sleep=lambda _: None)


def test_a_run_whose_process_was_killed_is_closed_and_a_living_one_is_not(
    instance: dg.DagsterInstance, definitions: dg.Definitions, database: URL, engine: Engine
) -> None:
    run_id = started_run(instance, definitions)
    with process_of(run_id, database) as process:
        assert close(instance, engine) == []
        assert status(instance, run_id) == dg.DagsterRunStatus.STARTED
        process.kill()
        process.wait(10)
        assert close(instance, engine) == [run_id]
    assert status(instance, run_id) == dg.DagsterRunStatus.FAILURE
    assert close(instance, engine) == []


def test_a_run_whose_own_process_died_lives_while_a_step_of_it_is_at_work(
    instance: dg.DagsterInstance, definitions: dg.Definitions, database: URL, engine: Engine
) -> None:
    run_id = started_run(instance, definitions)
    with process_of(run_id, database) as own, process_of(run_id, database) as step:
        own.kill()
        own.wait(10)
        assert close(instance, engine) == []
        step.kill()
        step.wait(10)
        assert close(instance, engine) == [run_id]


def test_a_run_that_never_took_the_lock_is_not_judged_by_it(
    instance: dg.DagsterInstance, definitions: dg.Definitions, engine: Engine
) -> None:
    run_id = started_run(instance, definitions, marked=False)
    assert close(instance, engine) == []
    assert status(instance, run_id) == dg.DagsterRunStatus.STARTED


def test_a_run_that_died_before_it_could_take_the_lock_is_closed_after_a_while(
    instance: dg.DagsterInstance, definitions: dg.Definitions, engine: Engine
) -> None:
    run_id = started_run(instance, definitions, marked=False)
    began = dg.DagsterEvent(event_type_value="PIPELINE_START", job_name="nightly_refresh")
    instance.report_dagster_event(began, run_id)
    assert close(instance, engine) == []
    closed = liveness.close_dead_runs(instance, engine, sleep=lambda _: None, unmarked_seconds=-1.0)
    assert closed == [run_id]
    assert status(instance, run_id) == dg.DagsterRunStatus.FAILURE


def test_a_run_that_holds_its_lock_lives_however_old_it_is_without_its_mark(
    instance: dg.DagsterInstance, definitions: dg.Definitions, database: URL, engine: Engine
) -> None:
    run_id = started_run(instance, definitions, marked=False)
    began = dg.DagsterEvent(event_type_value="PIPELINE_START", job_name="nightly_refresh")
    instance.report_dagster_event(began, run_id)

    def close_old() -> list[str]:
        return liveness.close_dead_runs(
            instance, engine, sleep=lambda _: None, unmarked_seconds=-1.0
        )

    with process_of(run_id, database) as process:
        assert close_old() == []
        process.kill()
        process.wait(10)
        assert close_old() == [run_id]


def test_a_run_that_ends_between_two_looks_is_not_closed(
    instance: dg.DagsterInstance, definitions: dg.Definitions, engine: Engine
) -> None:
    run_id = started_run(instance, definitions)

    def ends(_: float) -> None:
        run = instance.get_run_by_id(run_id)
        assert run is not None
        instance.report_run_canceled(run)

    assert liveness.close_dead_runs(instance, engine, sleep=ends) == []


def test_a_lost_connection_is_noticed_and_the_lock_taken_again(engine: Engine) -> None:
    held = liveness.Liveness(engine, "run")
    with engine.begin() as connection:
        assert liveness.is_alive(connection, "run")
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'"
        )
    held.renew()
    with engine.begin() as connection:
        assert liveness.is_alive(connection, "run")
    held.close()
    with engine.begin() as connection:
        assert not liveness.is_alive(connection, "run")
