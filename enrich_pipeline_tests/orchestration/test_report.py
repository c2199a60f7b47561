"""The asset of the morning page: it writes the file, shows figures, and has nothing to fail on."""

from pathlib import Path

import dagster as dg
from sqlalchemy import Engine, text

from .conftest import Night


def reported(night: Night, day: str) -> dg.ExecuteInProcessResult:
    return night.definitions.resolve_job_def("daily_reports").execute_in_process(
        partition_key=day, instance=night.instance, raise_on_error=False
    )


def page_events(result: dg.ExecuteInProcessResult) -> list[dg.AssetMaterialization]:
    return list(result.asset_materializations_for_node("refresh_report"))


def test_the_daily_reports_leave_a_page_and_its_key_figures(night: Night, engine: Engine) -> None:
    assert all(night.run(batch).success for batch in range(2))
    result = reported(night, night.day.isoformat())

    assert result.success
    (event,) = page_events(result)
    shown = {name: value.value for name, value in event.metadata.items()}
    page = Path(".enrich", "reports", f"{night.day}.html")
    assert shown["path"] == str(page.resolve())
    assert shown["bytes"] == page.stat().st_size
    with engine.connect() as conn:
        found, verified, spend = conn.execute(
            text(
                "select sum(found), sum(verified), sum(spend_usd) "
                "from analytics.mart_provider_daily where date = :d"
            ),
            {"d": night.day},
        ).one()
        filled, refreshed = conn.execute(
            text(
                "select fields_filled, contacts_refreshed from analytics.mart_refresh_daily "
                "where date = :d"
            ),
            {"d": night.day},
        ).one()
    assert (shown["found"], shown["verified"]) == (found, verified)
    assert (shown["fields_filled"], shown["contacts_refreshed"]) == (filled, refreshed)
    assert shown["spend_usd"] == float(spend)


def test_a_date_without_a_night_has_no_page_and_is_no_failure(night: Night) -> None:
    assert night.run(0, dry_run=True).success
    result = reported(night, night.day.isoformat())

    assert result.success
    assert page_events(result) == []
    assert not Path(".enrich", "reports").exists()
