"""Dagster is configured alike for who has the repository and for who has installed a wheel."""

import os
from pathlib import Path

import pytest
import yaml
from dagster._core.scheduler import DagsterDaemonScheduler

from enrich_pipeline import settings
from enrich_pipeline.orchestration import dagster_home
from enrich_pipeline.orchestration.instance import open_instance
from enrich_pipeline.settings import DAGSTER_DATABASE_VARIABLE

TOP = Path(__file__).parents[2] / "dagster.yaml"
FOLDERS = {"local_artifact_storage", "compute_logs"}


@pytest.fixture
def here(environment: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working directory without a dagster.yaml."""
    environment.delenv("DAGSTER_HOME", raising=False)
    # What the command line sets for its children; taken back with the test.
    for name in (DAGSTER_DATABASE_VARIABLE, "DAGSTER_DISABLE_TELEMETRY"):
        environment.setenv(name, "")
        del os.environ[name]
    environment.setenv("ENRICH_HOME", str(tmp_path / "elsewhere"))
    return tmp_path


def test_what_the_package_ships_is_the_file_of_the_repository() -> None:
    assert dagster_home.SHIPPED.read_bytes() == TOP.read_bytes()


def test_without_a_file_of_its_own_a_folder_gets_the_shipped_one_but_for_its_folders(
    here: Path,
) -> None:
    folder = dagster_home.prepare(settings.load())
    assert folder == here / "elsewhere" / "dagster"
    written = yaml.safe_load((folder / "dagster.yaml").read_text())
    shipped = yaml.safe_load(TOP.read_text())
    assert shipped.keys() > FOLDERS
    assert written == {name: each for name, each in shipped.items() if name not in FOLDERS}


def test_dagster_reads_from_it_what_keeps_a_night_from_being_spent_twice(here: Path) -> None:
    folder = dagster_home.prepare(settings.load())
    with open_instance(folder) as instance:
        queue = instance.get_concurrency_config().run_queue_config
        assert queue is not None
        assert queue.max_concurrent_runs == 4
        (limit,) = queue.tag_concurrency_limits
        assert (limit["key"], limit["limit"]) == ("dagster/partition", 1)
        assert isinstance(instance.scheduler, DagsterDaemonScheduler)
        assert instance.scheduler.max_catchup_runs == 1
        assert not instance.run_retries_enabled
        assert instance.run_monitoring_enabled
        assert instance.get_settings("run_monitoring")["free_slots_after_run_end_seconds"] == 300
        assert Path(instance.storage_directory()).is_relative_to(folder)


def test_a_file_of_its_own_is_taken_as_it_is(here: Path) -> None:
    own = here / "dagster.yaml"
    own.write_text("telemetry: {enabled: false}\n")
    assert dagster_home.prepare(settings.load()) == here
    assert own.read_text() == "telemetry: {enabled: false}\n"
    assert not (here / "elsewhere").exists()


def test_what_is_written_already_is_not_written_again(here: Path) -> None:
    written = dagster_home.prepare(settings.load()) / "dagster.yaml"
    os.utime(written, (0, 0))
    dagster_home.prepare(settings.load())
    assert written.stat().st_mtime == 0
    written.write_text("telemetry: {enabled: false}\n")
    dagster_home.prepare(settings.load())
    assert "max_catchup_runs" in written.read_text()
