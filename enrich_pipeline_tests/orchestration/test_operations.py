"""What operators see of a run's providers in Dagster: the pause and the circuit breakers."""

from typing import Any

import dagster as dg
from sqlalchemy import Engine

from enrich_pipeline.store import breakers, switch

from .conftest import Night


def shown(result: dg.ExecuteInProcessResult, op: str) -> dict[str, Any]:
    """Metadata of an op's output."""
    for event in result.all_events:
        if event.is_successful_output and event.step_key == f"waterfall.{op}":
            return {k: v.value for k, v in event.step_output_data.metadata.items()}
    raise AssertionError(f"{op} has no output")


def test_ops_show_whether_sending_is_paused_and_what_their_breaker_does(
    night: Night, engine: Engine
) -> None:
    with engine.begin() as conn:
        switch.pause(conn, "a test")
        breakers.trip(conn, "lance", ["phone"], "no_credits", 600)
    result = night.run()
    assert result.success
    prospeo, lance = shown(result, "try_prospeo"), shown(result, "try_lance")
    assert (prospeo["paused"], prospeo["breaker"]) == (True, "closed")
    assert prospeo["waiting_paused"] > 0
    assert lance["breaker"] == "open (phone: no_credits)"
    assert night.calls() == 0
