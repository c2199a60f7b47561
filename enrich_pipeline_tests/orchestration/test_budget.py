"""Rules of the night's budget: PostgreSQL holds it, whatever a run is launched with."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import Engine, text

from .conftest import CONFIGURATION, Night

NIGHT_USD = "0.50"


@pytest.fixture
def poor(night: Night, tmp_path: Path) -> Night:
    """A night that may spend fifty cents; its twelve contacts would cost some dollars."""
    (tmp_path / "enrich.yaml").write_text(CONFIGURATION + f"budget: {{night_usd: {NIGHT_USD}}}\n")
    return night


def test_a_run_launched_with_huge_options_cannot_exceed_the_nights_budget(
    poor: Night, engine: Engine
) -> None:
    for batch in range(2):
        assert poor.run(batch, limit=10**9, only_fields=[], only_providers=[]).success
    with engine.connect() as connection:
        row = connection.execute(
            text(
                "select cap, held + in_doubt + spent as used from enrichment.budgets "
                "where scope = 'night'"
            )
        ).one()
        assert 0 < row.used <= row.cap == 500_000
        waits = text("select distinct wait_reason from enrichment.enrichments where state = 'open'")
        assert "budget" in set(connection.execute(waits).scalars())
        rates = text("select provider, max(usd_micro_per_credit) from enrichment.calls group by 1")
        rate = {provider: int(micro) for provider, micro in connection.execute(rates)}
    # By the providers' own meters.
    charged = sum(
        meter["charged_micro"] * rate.get(provider, 0) // 1_000_000
        for provider, meter in poor.sandbox.meter().items()
    )
    assert 0 < charged <= 500_000


@pytest.mark.parametrize(
    "resources",
    [
        {"refresh_options": {"config": {"budget": {"night_usd": 10**9}}}},
        {"refresh_options": {"config": {"night_usd": 10**9}}},
        {"pipeline": {"config": {"settings": {}}}},
    ],
    ids=str,
)
def test_a_run_config_that_names_a_budget_is_refused(
    poor: Night, resources: dict[str, Any]
) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError):
        poor.definitions.resolve_job_def("nightly_refresh").execute_in_process(
            partition_key="00|" + poor.day.isoformat(),
            instance=poor.instance,
            run_config={"resources": resources},
            raise_on_error=False,
        )
    assert poor.calls() == 0


def test_the_database_itself_refuses_more_than_the_cap(poor: Night, engine: Engine) -> None:
    assert poor.run(0).success
    with engine.connect() as connection, pytest.raises(Exception, match="budgets_check"):
        connection.execute(
            text("update enrichment.budgets set held = cap + 1 where scope = 'night'")
        )


def test_a_charge_beyond_the_budget_of_its_day_leaves_the_checks_of_all_runs_green(
    poor: Night, engine: Engine
) -> None:
    poor.sandbox.faults({"provider": "prospeo", "kind": "overcharge", "amount_micro": 60_000_000})
    try:
        first = poor.run(0)
    finally:
        poor.sandbox.clear_faults()
    with engine.connect() as connection:
        beyond = text("select spent + overage - cap from enrichment.budgets where scope = 'night'")
        assert connection.execute(beyond).scalar_one() > 0
    for result in (first, poor.run(1)):
        assert result.success
        assert {c.check_name for c in result.get_asset_check_evaluations() if c.passed} == {
            "ledger_balances",
            "nothing_paid_twice",
            "budgets_held",
        }
