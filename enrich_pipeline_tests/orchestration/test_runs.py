"""Real runs: what a partition's run does, and that doing it again does nothing."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import Engine, text

from enrich_pipeline.orchestration import liveness, partitions
from enrich_pipeline.orchestration.resources import guarded
from enrich_pipeline.settings import Settings
from enrich_pipeline.store import nights

from .conftest import CONFIGURATION, Night

CANARY = "canary@example.com"
CHECKS = ("ledger_balances", "nothing_paid_twice", "budgets_held")


def waiting(engine: Engine) -> int:
    with engine.connect() as connection:
        query = text("select count(*) from enrichment.plan_rows where state = 'waiting'")
        return int(connection.execute(query).scalar_one())


def failures(result: dg.ExecuteInProcessResult) -> list[str]:
    """What the failed steps said."""
    told = []
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            described = data.user_failure_data.description if data.user_failure_data else None
            told.append(str(described or (data.error and data.error.to_string())))
    return told


def checks_of(night: Night) -> dict[str, str]:
    """How the ledger's checks of the first batch stand, as its page shows them."""
    storage, key = night.instance.event_log_storage, partitions.key(night.day, 0)
    found = {}
    for name in CHECKS:
        of_ledger = dg.AssetCheckKey(dg.AssetKey("credit_ledger"), name)
        (last, *_) = storage.get_asset_check_execution_history(of_ledger, limit=1)
        assert last.partition == key
        found[name] = last.status.value
    return found


def figures_of(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, object]]:
    """Numbers that the assets of the waterfall show, but for what only this run did."""
    return {
        event.asset_key.to_user_string(): {
            name: each.value
            for name, each in event.materialization.metadata.items()
            if isinstance(each, dg.IntMetadataValue | dg.FloatMetadataValue)
            and not name.endswith("_now")
        }
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None and event.asset_key.path[0] != "stale_contacts"
    }


def test_a_night_runs_through_and_its_second_run_asks_nothing_and_changes_nothing(
    night: Night, engine: Engine
) -> None:
    results = [night.run(batch) for batch in range(2)]
    assert all(result.success for result in results), [failures(r) for r in results]
    assert waiting(engine) == 0
    calls = night.calls()
    assert calls > 0
    with engine.connect() as connection:
        contents = text(
            "select array_agg(c::text order by contact_id) from analytics.dim_contacts c"
        )
        before = connection.execute(contents).scalar_one()

    for batch in range(2):
        again = night.run(batch)
        assert again.success
        assert figures_of(again) == figures_of(results[batch]), "plots show the partition"
    assert night.calls() == calls
    with engine.connect() as connection:
        assert connection.execute(contents).scalar_one() == before
    assert night.sandbox.double_charges() == []
    assert night.sandbox.violations()["total"] == 0

    for result in results:
        checks = result.get_asset_check_evaluations()
        assert {check.check_name: check.passed for check in checks} == {
            "ledger_balances": True,
            "nothing_paid_twice": True,
            "budgets_held": True,
        }


def test_materializations_show_figures_columns_and_no_values(night: Night, engine: Engine) -> None:
    result = night.run()
    assert result.success, failures(result)
    shown = {
        event.asset_key.to_user_string(): event.materialization.metadata
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None
    }
    assert set(shown) == {
        "stale_contacts",
        "enrichment_attempts",
        "enriched_contacts",
        "credit_ledger",
    }
    for name, metadata in shown.items():
        schema = metadata["dagster/column_schema"].value
        assert isinstance(schema, dg.TableSchema)
        assert len(schema.columns) > 5, name
    assert shown["enriched_contacts"]["contacts"].value == 6
    # Everything that Dagster keeps: not one value of a person may be in it.
    with engine.connect() as connection:
        values = connection.execute(
            text("select email from enrichment.contacts where email is not null")
        ).scalars()
        kept = str([event.event_specific_data for event in result.all_events])
        for value in values:
            assert value not in kept


def test_materializing_the_ledger_alone_makes_the_plan_by_itself(
    night: Night, engine: Engine
) -> None:
    result = night.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        asset_selection=[
            dg.AssetKey(name)
            for name in ("enrichment_attempts", "enriched_contacts", "credit_ledger")
        ],
        partition_key=partitions.key(night.day, 0),
        instance=night.instance,
        raise_on_error=False,
    )
    assert result.success, failures(result)
    assert night.calls() > 0


def test_a_dry_run_says_what_it_would_take_and_makes_and_asks_nothing(
    night: Night, engine: Engine
) -> None:
    result = night.run(dry_run=True)
    assert result.success, failures(result)
    assert night.calls() == 0
    with engine.connect() as connection:
        assert connection.execute(text("select count(*) from enrichment.calls")).scalar_one() == 0
    assert result.get_asset_materialization_events() == []
    (observed,) = result.get_asset_observation_events()
    metadata = observed.asset_observation_data.asset_observation.metadata
    shown: dict[str, Any] = {name: each.value for name, each in metadata.items()}
    assert shown["persons"] == 6
    assert 0 == shown["usd_at_least"] < shown["usd_expected"] < shown["usd_at_most"]
    table = metadata["at least / expected / at most"]
    assert isinstance(table, dg.TableMetadataValue)
    assert table.records[0].data["persons"] == "6 / 6 / 6"
    records = night.instance.all_logs(result.run_id)
    logged = [m for m in (each.user_message for each in records) if m.startswith("Dry run")]
    assert logged == ["Dry run: 6 persons have open fields; at least / expected / at most:"]
    assert checks_of(night) == dict.fromkeys(CHECKS, "SUCCEEDED")


def test_a_check_that_a_dry_run_shows_was_really_made(night: Night, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            text(
                "insert into enrichment.accounts (provider, kind, balance) "
                "values ('lance', 'spent', 7)"
            )
        )
    assert night.run(dry_run=True).success
    assert checks_of(night) == dict.fromkeys(CHECKS, "SUCCEEDED") | {"ledger_balances": "FAILED"}


def test_a_dry_run_of_the_waterfall_alone_says_it_too(night: Night) -> None:
    result = night.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        asset_selection=[
            dg.AssetKey(name)
            for name in ("enrichment_attempts", "enriched_contacts", "credit_ledger")
        ],
        partition_key=partitions.key(night.day, 0),
        instance=night.instance,
        run_config={"resources": {"refresh_options": {"config": {"dry_run": True}}}},
        raise_on_error=False,
    )
    assert result.success, failures(result)
    assert night.calls() == 0
    assert len(result.get_asset_observation_events()) == 1
    assert checks_of(night) == dict.fromkeys(CHECKS, "SUCCEEDED")
    assert result.get_asset_materialization_events() == []


def test_only_the_chosen_providers_are_asked_and_the_rest_waits(
    night: Night, engine: Engine
) -> None:
    result = night.run(only_providers=["prospeo"])
    assert result.success, failures(result)
    asked = {name for name, meter in night.sandbox.meter().items() if meter["calls"]}
    assert asked == {"prospeo"}
    assert waiting(engine) > 0


def test_only_the_chosen_fields_are_bought(night: Night, engine: Engine) -> None:
    result = night.run(only_fields=["phone"])
    assert result.success, failures(result)
    with engine.connect() as connection:
        fields = connection.execute(text("select distinct field from enrichment.attempts"))
        assert list(fields.scalars()) == ["phone"]


def rows_by_field(engine: Engine, state: str) -> dict[str, int]:
    """Planned rows of the first batch in a state."""
    query = text(
        "select field, count(*) from enrichment.plan_rows where batch = 0 and state = :state "
        "group by field"
    )
    with engine.connect() as connection:
        return {field: n for field, n in connection.execute(query, {"state": state})}


@pytest.mark.parametrize(
    ("field", "others"),
    [("phone", {"work_email", "profile"}), ("work_email", {"phone", "profile"})],
)
def test_what_a_first_run_of_one_field_leaves_stays_open_and_the_next_run_gets_it(
    night: Night, engine: Engine, field: str, others: set[str]
) -> None:
    result = night.run(only_fields=[field])
    assert result.success, failures(result)
    assert rows_by_field(engine, "done") == {field: 6}
    assert rows_by_field(engine, "waiting") == dict.fromkeys(others, 6)
    calls = night.calls()
    assert figures_of(result)["enriched_contacts"]["open_fields"] == 12
    with engine.connect() as connection:
        assert nights.progress(connection, night.day, [0]).waiting == 12
        skipped = text("select distinct field from enrichment.skips")
        assert not others & set(connection.execute(skipped).scalars())
        closed = text("select coverage_after is not null from enrichment.plan_nights")
        assert not connection.execute(closed).scalar_one()

    result = night.run()
    assert result.success, failures(result)
    assert rows_by_field(engine, "waiting") == {}
    with engine.connect() as connection:
        # A phone number is sold together with all that its provider knows.
        answered = text(
            "select distinct field from enrichment.attempts where outcome in ('found', 'reused')"
        )
        assert set(connection.execute(answered).scalars()) == {field, *others}
    assert night.calls() > calls or field == "phone"
    assert night.sandbox.double_charges() == []


def test_a_field_that_is_bought_alone_does_not_wait_for_one_that_would_bring_it(
    night: Night, engine: Engine, tmp_path: Path
) -> None:
    # Whoever has no phone number from Lance gets one from Apollo, who charges for the e-mail again.
    order = "fields: {work_email: {waterfall: [apollo]}, phone: {waterfall: [lance, apollo]}}\n"
    (tmp_path / "enrich.yaml").write_text(CONFIGURATION + order)
    result = night.run(only_fields=["work_email"])
    assert result.success, failures(result)
    assert rows_by_field(engine, "done") == {"work_email": 6}


def test_a_dry_run_of_some_fields_prices_these_only(night: Night) -> None:
    def most(**options: Any) -> float:
        (observed,) = night.run(dry_run=True, **options).get_asset_observation_events()
        metadata = observed.asset_observation_data.asset_observation.metadata
        return float(str(metadata["usd_at_most"].value))

    fields = [["phone"], ["work_email"], []]
    assert 0 < most(only_fields=fields[1]) < most(only_fields=fields[0]) < most(only_fields=[])


def test_a_limit_below_that_of_the_planned_night_fails_before_anything_is_sent(
    night: Night, engine: Engine
) -> None:
    assert night.run(limit=9).success
    calls = night.calls()
    (told,) = failures(night.run(1, limit=5))
    assert told == (
        f"stale_contacts: the night of {night.day} has its plan of at most 9 contacts; limit 5 "
        "does not make it smaller: leave limit out to go on with it, or choose another date"
    )
    assert night.calls() == calls
    assert not night.run(1, limit=5, dry_run=True).success


def test_a_limit_above_that_of_the_planned_night_is_said_to_change_nothing(
    night: Night, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    assert night.run(limit=5).success
    assert "changes nothing" not in caplog.text
    assert night.run(1, limit=9).success
    assert "at most 5 contacts; limit 9 changes nothing" in caplog.text
    with engine.connect() as connection:
        query = text("select count(distinct contact_id) from enrichment.plan_rows")
        assert connection.execute(query).scalar_one() == 5


def test_the_limit_caps_the_night(night: Night, engine: Engine) -> None:
    for batch in range(2):
        assert night.run(batch, limit=5).success
    with engine.connect() as connection:
        query = text("select count(distinct contact_id) from enrichment.plan_rows")
        assert connection.execute(query).scalar_one() == 5


def test_an_option_that_names_nothing_fails_with_what_is_known(night: Night) -> None:
    result = night.run(only_providers=["prosepo"])
    assert not result.success
    (told,) = failures(result)
    assert told.startswith("stale_contacts: refresh_options: unknown provider 'prosepo'")
    assert night.calls() == 0


def test_a_limit_below_zero_fails_with_one_line(night: Night) -> None:
    (told,) = failures(night.run(limit=-3))
    assert told == "stale_contacts: refresh_options: limit must be 0 or more, not -3"


def test_without_a_key_nothing_is_sent_and_the_variable_is_named(
    night: Night, environment: pytest.MonkeyPatch
) -> None:
    environment.delenv("ENRICH_LANCE_API_KEY")
    result = night.run()
    assert not result.success
    assert "ENRICH_LANCE_API_KEY is not set" in failures(result)[0]
    assert night.calls() == 0


def test_books_that_do_not_balance_fail_the_run(night: Night, engine: Engine) -> None:
    assert night.run(0).success
    with engine.begin() as connection:
        connection.execute(
            text("update enrichment.accounts set balance = balance + 1 where kind = 'spent'")
        )
    result = night.run(1)
    assert not result.success
    evaluations = {each.check_name: each for each in result.get_asset_check_evaluations()}
    assert not evaluations["ledger_balances"].passed


def test_the_daily_reports_agree_with_the_ledger_or_are_red(night: Night, engine: Engine) -> None:
    for batch in range(2):
        assert night.run(batch).success

    def report() -> dg.ExecuteInProcessResult:
        return night.definitions.resolve_job_def("daily_reports").execute_in_process(
            partition_key=night.day.isoformat(), instance=night.instance, raise_on_error=False
        )

    result = report()
    assert result.success, failures(result)
    (check,) = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed) == ("spend_equals_ledger", True)


def test_a_run_leaves_no_lock_behind(night: Night, engine: Engine) -> None:
    result = night.run()
    with engine.begin() as connection:
        assert not liveness.is_alive(connection, result.run_id)
    run = night.instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.tags[liveness.MARK] == "1"


def test_a_run_whose_mark_could_not_be_written_at_once_is_marked_at_its_next_step(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = night.instance.add_run_tags
    refused: list[str] = []

    def refuses_once(run_id: str, tags: dict[str, str]) -> None:
        if not refused:
            refused.append(run_id)
            raise ConnectionError
        written(run_id, tags)

    monkeypatch.setattr(night.instance, "add_run_tags", refuses_once)
    result = night.run()
    assert result.success, failures(result)
    assert refused == [result.run_id]
    run = night.instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.tags[liveness.MARK] == "1"


def test_dates_without_a_partition_are_refused(loaded: Settings, night: Night) -> None:
    with pytest.raises(dg.DagsterUnknownPartitionError):
        night.run(day=night.day + timedelta(days=1))


def test_an_unexpected_error_is_told_by_class_and_place_only() -> None:
    with pytest.raises(dg.Failure) as caught, guarded("try_prospeo"):
        raise ValueError(f"could not read {CANARY}")
    told = str(caught.value.description)
    assert told.startswith("try_prospeo: unexpected ValueError at ")
    assert CANARY not in told
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_compute_logs_of_a_run_hold_no_values(night: Night, tmp_path: Path) -> None:
    night.run()
    for path in Path(night.instance.root_directory).rglob("*"):
        if path.is_file():
            assert b"@" not in path.read_bytes() or path.suffix == ".db", path
