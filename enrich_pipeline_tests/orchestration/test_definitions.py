"""Rules of what Dagster is shown: the names that others rely on, partitions, schedule."""

import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from enrich_pipeline import settings
from enrich_pipeline.orchestration import build, partitions

ASSETS = {
    "stale_contacts",
    "enrichment_attempts",
    "enriched_contacts",
    "credit_ledger",
    "provider_daily",
    "refresh_daily",
    "refresh_report",
}
CHAIN = ["prospeo", "agntdata", "pronto", "agntdata_2", "lance", "pronto_2", "apollo"]


def ops(definitions: dg.Definitions) -> dict[str, dg.OpDefinition]:
    job = definitions.resolve_job_def("nightly_refresh")
    graph = next(node for node in job.graph.nodes if node.name == "waterfall")
    return {node.name: node.definition for node in graph.definition.nodes}  # type: ignore[attr-defined]


def test_definitions_load_without_database_keys_or_settings(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    program = (
        "import dagster as dg; from enrich_pipeline.definitions import defs; "
        "dg.Definitions.validate_loadable(defs)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_the_names_that_others_rely_on_exist(definitions: dg.Definitions) -> None:
    repository = definitions.get_repository_def()
    keys = {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()}
    assert keys == ASSETS
    assert definitions.resolve_job_def("nightly_refresh").name == "nightly_refresh"
    assert repository.has_schedule_def("nightly_refresh_schedule")
    assert repository.has_sensor_def("late_results_sensor")
    checks = {
        (key.asset_key.to_user_string(), key.name)
        for key in repository.asset_graph.asset_check_keys
    }
    assert checks == {
        ("credit_ledger", "ledger_balances"),
        ("credit_ledger", "nothing_paid_twice"),
        ("credit_ledger", "budgets_held"),
        ("provider_daily", "spend_equals_ledger"),
    }


def test_each_turn_of_a_provider_is_an_op_with_the_providers_pool_and_no_retry(
    definitions: dg.Definitions,
) -> None:
    found = ops(definitions)
    assert set(found) == {"reuse_enrichments", "publish", *(f"try_{turn}" for turn in CHAIN)}
    for turn in CHAIN:
        assert found[f"try_{turn}"].pool == f"provider/{turn.removesuffix('_2')}"
    assert all(op.retry_policy is None for op in found.values())


def test_the_op_chain_follows_the_configured_waterfalls(environment: pytest.MonkeyPatch) -> None:
    Path("enrich.yaml").write_text("""
        fields:
          work_email: {waterfall: [apollo, lance]}
          phone: {waterfall: []}
          personal_email: {waterfall: []}
          profile: {waterfall: [apollo]}
    """)
    found = ops(build.definitions(settings.load().policy))
    assert set(found) == {"reuse_enrichments", "try_apollo", "try_lance", "publish"}


def test_every_asset_says_its_grain_owner_kind_and_table(definitions: dg.Definitions) -> None:
    for key in definitions.get_repository_def().asset_graph.get_all_asset_keys():
        if key.to_user_string() == "refresh_report":
            continue  # a page, not a table
        spec = definitions.resolve_asset_graph().get(key)
        assert spec.description is not None
        assert "row per" in spec.description or "One row" in spec.description, key
        assert spec.owners, key
        assert "postgres" in spec.kinds, key
        assert "dagster/table_name" in spec.metadata, key


def test_keys_read_batch_then_date_and_are_parsed_back() -> None:
    key = partitions.key(date(2026, 11, 21), 3)
    assert str(key) == "03|2026-11-21"
    assert partitions.parse(key) == (date(2026, 11, 21), 3)


def test_today_is_a_partition_and_tomorrow_is_not(definitions: dg.Definitions, today: date) -> None:
    job = definitions.resolve_job_def("nightly_refresh")
    assert job.partitions_def is not None
    keys = job.partitions_def.get_partition_keys()
    assert partitions.key(today, 1) in keys
    assert partitions.key(today + timedelta(days=1), 0) not in keys
    assert partitions.key(today, 2) not in keys, "there are two batches"


def test_the_schedule_asks_for_the_day_that_has_begun_once_per_batch_and_is_off_at_first(
    definitions: dg.Definitions, instance: dg.DagsterInstance, today: date
) -> None:
    schedule = definitions.resolve_schedule_def("nightly_refresh_schedule")
    assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED
    assert schedule.cron_schedule == "0 2 * * *"
    tick = schedule.evaluate_tick(
        dg.build_schedule_context(
            instance=instance,
            scheduled_execution_time=datetime(today.year, today.month, today.day, 2, tzinfo=UTC),
            repository_def=definitions.get_repository_def(),
        )
    )
    assert tick.run_requests is not None
    assert {request.partition_key for request in tick.run_requests} == {
        partitions.key(today, batch) for batch in range(2)
    }


def test_run_options_are_checked_by_name(definitions: dg.Definitions, today: date) -> None:
    job = definitions.resolve_job_def("nightly_refresh")
    with pytest.raises(dg.DagsterInvalidConfigError, match="only_provider"):
        job.execute_in_process(
            partition_key=partitions.key(today, 0),
            run_config={"resources": {"refresh_options": {"config": {"only_provider": ["x"]}}}},
        )
