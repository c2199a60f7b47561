"""Rules of the sensors that tell people: real runs, real trouble, a channel that really listens."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import JobFailureData, RunFailureReason
from sqlalchemy import Engine, text

from enrich_pipeline.orchestration import alerts, outcomes

from ..support.listener import Listener, listening
from .conftest import CONFIGURATION, Night

Look = Callable[[], str]

TROUBLED = """
  prospeo: {low_credits: 500}
fields:
  work_email: {waterfall: [pronto]}
  phone: {waterfall: [lance]}
  profile: {waterfall: [agntdata]}
  personal_email: {waterfall: []}
alerts: {deadline: null}
"""
"""Every provider is asked for something, whatever another one knows."""
BOUGHT_AT_LANCE = (
    "select count(*) from enrichment.charge_lines where provider = 'lance' and cost_micro > 0"
)


@pytest.fixture
def listener(environment: pytest.MonkeyPatch) -> Iterator[Listener]:
    with listening() as listener:
        environment.setenv("ENRICH_ALERT_URLS", listener.url)
        yield listener


@pytest.fixture
def look(definitions: dg.Definitions, instance: dg.DagsterInstance) -> Look:
    """One tick of the sensor; gives what it says of it."""
    sensor = definitions.resolve_sensor_def("alerts_sensor")

    def _look() -> str:
        with dg.build_sensor_context(instance=instance, definitions=definitions) as context:
            said = sensor(context)
        assert isinstance(said, dg.SkipReason)
        return str(said.skip_message)

    return _look


def test_without_a_channel_the_sensor_says_what_to_set(look: Look) -> None:
    assert look() == alerts.NO_CHANNEL


def test_where_nothing_needs_a_person_the_sensor_says_so(look: Look, listener: Listener) -> None:
    assert look() == "nothing needs a person"
    assert listener.posted == []


def test_a_failed_run_is_told_with_its_own_words_until_its_partition_succeeds(
    night: Night, environment: pytest.MonkeyPatch, look: Look, listener: Listener
) -> None:
    environment.delenv("ENRICH_LANCE_API_KEY")
    assert not night.run().success
    assert look() == "1 told, 0 over; 1 conditions need a person"
    (message,) = listener.messages
    assert message.startswith(f"CRITICAL: the run of 00|{night.day} failed")
    assert "ENRICH_LANCE_API_KEY is not set" in message
    assert f"`enrich refresh --date {night.day} --batch 00`" in message
    assert look() == "1 conditions need a person, nothing new to say"

    environment.setenv("ENRICH_LANCE_API_KEY", "key")
    assert night.run().success
    assert look() == "0 told, 1 over; 0 conditions need a person"
    assert listener.messages[1].startswith(f"Over: the run of 00|{night.day} failed")


def test_a_failed_run_is_told_at_once_where_a_daemon_sees_it(
    night: Night, environment: pytest.MonkeyPatch, listener: Listener
) -> None:
    environment.delenv("ENRICH_LANCE_API_KEY")
    result = night.run()
    (failure,) = (event for event in result.all_events if event.is_run_failure)
    context = dg.build_run_status_sensor_context(
        "failed_run_sensor", failure, night.instance, result.dagster_run
    ).for_run_failure()
    alerts.failed_run_sensor(context)
    assert len(listener.posted) == 1


def test_the_failure_of_a_dry_run_or_of_another_job_is_nobodys_alert(night: Night) -> None:
    assert not night.run(dry_run=True, only_fields=["fax"]).success
    moment = datetime.now(UTC)

    @dg.job
    def of_somebody_else() -> None:
        pass

    run = night.instance.create_run_for_job(of_somebody_else, status=dg.DagsterRunStatus.STARTED)
    night.instance.report_run_failed(run)
    assert outcomes.failed_runs(night.instance, moment) == []


def test_a_run_that_never_began_is_told_with_the_setting_that_ended_it(night: Night) -> None:
    @dg.job
    def slow_to_begin() -> None:
        pass

    run = night.instance.create_run_for_job(slow_to_begin, status=dg.DagsterRunStatus.STARTING)
    of_dagster = JobFailureData(error=None, failure_reason=RunFailureReason.START_TIMEOUT)
    night.instance.report_run_failed(run, "Its pod said CANARY", of_dagster)
    (why,) = outcomes.problems(night.instance, run.run_id)
    assert "run_monitoring.start_timeout_seconds" in why
    assert "CANARY" not in why


def test_a_step_that_could_not_say_why_is_told_by_its_name_and_the_kind_of_error(
    night: Night,
) -> None:
    @dg.op
    def unguarded() -> None:
        raise ValueError("CANARY")

    @dg.job
    def of_somebody() -> None:
        unguarded()

    result = of_somebody.execute_in_process(instance=night.instance, raise_on_error=False)
    (why,) = outcomes.problems(night.instance, result.run_id)
    assert why == "step unguarded: DagsterExecutionStepExecutionError"


def test_a_failure_that_nobody_cared_for_is_forgotten_after_a_week(night: Night) -> None:
    assert not night.run(only_fields=["fax"]).success
    moment = datetime.now(UTC)
    assert len(outcomes.failed_runs(night.instance, moment)) == 1
    assert outcomes.failed_runs(night.instance, moment + timedelta(days=8)) == []


def test_when_the_channel_is_down_the_sensor_says_so_and_tries_again(
    night: Night, look: Look, listener: Listener
) -> None:
    assert not night.run(only_fields=["fax"]).success
    listener.status = 500
    assert look() == "no channel took the message, tried again next time: 1 (json)"
    listener.status = 200
    assert look() == "1 told, 0 over; 1 conditions need a person"


def test_what_really_goes_wrong_reaches_the_channel_without_values_or_keys(
    night: Night,
    environment: pytest.MonkeyPatch,
    engine: Engine,
    look: Look,
    listener: Listener,
    tmp_path: Path,
) -> None:
    environment.setenv("ENRICH_PRONTO_API_KEY", "CANARYKEY")
    (tmp_path / "enrich.yaml").write_text(
        CONFIGURATION.replace("lance: {", "lance: {budget_credits: 11, ") + TROUBLED
    )
    look()  # the balances before anything is bought
    sandbox = night.sandbox
    sandbox.faults(
        {"provider": "pronto", "kind": "status", "status": 401, "body": {"error": "CANARYKEY"}},
        {"provider": "agntdata", "kind": "charge_then_drop"},
    )
    for batch in range(2):
        assert night.run(batch).success
    for batch in (0, 1) * 3:
        with engine.connect() as connection:
            if connection.execute(text(BOUGHT_AT_LANCE)).scalar_one():
                break
        # Whom it asked about first it does not know, which costs nothing.
        assert night.run(batch).success
    # Somebody else spends on the account.
    sandbox.balance(400_000_000, "prospeo")
    with engine.begin() as connection:
        # Hours and days go by.
        for statement in (
            "update enrichment.calls set write_off_at = now() - interval '2 hours' "
            "where state = 'in_doubt'",
            "update enrichment.balance_readings set taken_at = now() - interval '2 hours'",
        ):
            connection.execute(text(statement))
    assert look().startswith("5 told, 0 over")
    (message,) = listener.messages
    for title in (
        "CRITICAL: pronto refuses the key",
        "CRITICAL: prospeo charged more than the ledger knows",
        "CRITICAL: lance's budget is used up",
        "WARNING: credits at prospeo run low",
        "WARNING: calls to agntdata are in doubt for too long",
    ):
        assert title in message, title
    with engine.connect() as connection:
        values = connection.execute(
            text("""
                select unnest(array[email, first_name, last_name, linkedin_slug, phone])
                from enrichment.contacts
            """)
        ).scalars()
        told = str(listener.posted)
        kept = str(connection.execute(text("select * from enrichment.alerts")).all())
    for canary in ("CANARYKEY", "test-key", "CANARYTOKEN", *filter(None, values)):
        assert canary not in told + kept, canary
    assert message.count("What to do: ") == 5
