"""Rules of the sensor: when late results are brought home, and why not, in words."""

import hashlib
import json
from collections.abc import Callable
from datetime import date
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import Engine, text

from enrich_pipeline.orchestration import partitions

Evaluate = Callable[[], dg.SensorResult]


@pytest.fixture
def evaluate(definitions: dg.Definitions, instance: dg.DagsterInstance) -> Evaluate:
    sensor = definitions.resolve_sensor_def("late_results_sensor")

    def _evaluate() -> dg.SensorResult:
        with dg.build_sensor_context(instance=instance, definitions=definitions) as context:
            result = sensor(context)
        assert isinstance(result, dg.SensorResult)
        return result

    return _evaluate


def call(engine: Engine, day: date, *, lines: int = 1, batch: int = 0, **columns: Any) -> int:
    """An accepted call with `lines` persons that nobody has answered yet; gives its id."""
    given = {
        "state": "accepted",
        "deadline_at": "now() + interval '2 hours'",
        "next_poll_at": "null",
        "lease_until": "now() - interval '1 minute'",
        **columns,
    }
    with engine.begin() as connection:
        call_id: int = connection.execute(
            # The expressions are this file's own.
            text(f"""
                insert into enrichment.calls (provider, call_group, state, partition_date, batch,
                    spend_date, run_id, persons, hold_micro, prices, usd_micro_per_credit,
                    token_hash, lease_until, deadline_at, next_poll_at, write_off_at)
                values ('pronto', '', :state, :day, :batch, :day, 'run', :lines, 0, '{{}}', 0,
                    :token, {given["lease_until"]}, {given["deadline_at"]},
                    {given["next_poll_at"]}, {given.get("write_off_at", "null")})
                returning call_id
            """),  # noqa: S608
            {
                "state": given["state"],
                "day": day,
                "batch": batch,
                "lines": lines,
                "token": token(batch),
            },
        ).scalar_one()
        for number in range(lines):
            connection.execute(
                text("""
                    with person as (
                        insert into enrichment.persons default values returning person_id
                    )
                    insert into enrichment.charge_lines (call_id, item_key, person_id, provider,
                        product, fields, hold_micro, hold_usd_micro)
                    select :call_id, :key, person_id, 'pronto', 'email', '{work_email}', 0, 0
                    from person
                """),
                {"call_id": call_id, "key": f"p{number}"},
            )
    return call_id


def token(batch: int) -> bytes:
    return hashlib.sha256(b"token %d" % batch).digest()


def deliver(engine: Engine, number: int = 0, *, batch: int = 0, minutes_ago: int = 0) -> None:
    body = json.dumps(number).encode()
    with engine.begin() as connection:
        connection.execute(
            text("""
                insert into enrichment.inbox (provider, token_hash, body, body_sha256, received_at)
                values ('pronto', :token, :body, :digest, now() - make_interval(mins => :ago))
            """),
            {
                "token": token(batch),
                "body": body,
                "digest": hashlib.sha256(body).digest(),
                "ago": minutes_ago,
            },
        )


def requested(result: dg.SensorResult) -> list[str]:
    return [str(request.partition_key) for request in result.run_requests or []]


def reason(result: dg.SensorResult) -> str:
    assert result.skip_reason is not None
    return str(result.skip_reason.skip_message)


def test_without_calls_it_says_that_nothing_waits(evaluate: Evaluate) -> None:
    assert reason(evaluate()) == "no call is waiting for a result"


def test_it_is_on_from_the_start(definitions: dg.Definitions) -> None:
    sensor = definitions.resolve_sensor_def("late_results_sensor")
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING


def test_without_a_migrated_database_it_names_the_command(
    evaluate: Evaluate, environment: pytest.MonkeyPatch
) -> None:
    environment.delenv("ENRICH_DATABASE_URL")
    assert "run `enrich init`" in reason(evaluate())


def test_a_call_that_waits_for_answers_is_left_alone(
    evaluate: Evaluate, engine: Engine, today: date
) -> None:
    call(engine, today)
    assert reason(evaluate()) == (f"00|{today}: answers are still out, none has waited 15 minutes")


def test_a_partition_whose_calls_have_all_answered_is_asked_for_once(
    evaluate: Evaluate, engine: Engine, today: date
) -> None:
    call(engine, today, lines=2)
    deliver(engine, 1)
    assert requested(evaluate()) == []
    deliver(engine, 2)
    result = evaluate()
    assert requested(result) == [f"00|{today}"]
    assert result.run_requests is not None
    (request,) = result.run_requests
    assert request.run_key == f"00|{today}:2:0"
    assert request.tags["enrich/reason"] == "every accepted call was answered"


def test_a_result_that_waited_fifteen_minutes_is_brought_home_without_the_others(
    evaluate: Evaluate, engine: Engine, today: date
) -> None:
    call(engine, today, lines=3)
    deliver(engine, minutes_ago=14)
    assert requested(evaluate()) == []
    deliver(engine, 2, minutes_ago=16)
    assert requested(evaluate()) == [f"00|{today}"]


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"next_poll_at": "now() - interval '6 minutes'"}, "a poll is due"),
        ({"deadline_at": "now() - interval '1 minute'"}, "a deadline has passed"),
        ({"state": "sending"}, "a call was left behind"),
        (
            {"state": "in_doubt", "write_off_at": "now() - interval '1 minute'"},
            "a doubt is to be written off",
        ),
    ],
)
def test_what_is_due_by_the_clock_is_asked_for(
    evaluate: Evaluate, engine: Engine, today: date, columns: dict[str, Any], why: str
) -> None:
    call(engine, today, **columns)
    result = evaluate()
    assert requested(result) == [f"00|{today}"]
    assert result.run_requests is not None
    assert result.run_requests[0].tags["enrich/reason"] == why


def test_an_answer_after_the_write_off_is_brought_home(
    evaluate: Evaluate, engine: Engine, today: date
) -> None:
    call(engine, today, state="written_off")
    assert reason(evaluate()) == "no call is waiting for a result"
    deliver(engine)
    assert requested(evaluate()) == [f"00|{today}"]


def test_a_batch_that_no_longer_exists_is_drained_by_the_one_it_falls_into(
    evaluate: Evaluate, engine: Engine, today: date
) -> None:
    call(engine, today, batch=3)
    deliver(engine, batch=3)
    assert requested(evaluate()) == [f"01|{today}"]


def _run(
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    day: date,
    status: dg.DagsterRunStatus,
) -> None:
    instance.create_run_for_job(
        definitions.resolve_job_def("nightly_refresh"),
        status=status,
        tags={"dagster/partition": str(partitions.key(day, 0))},
    )


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED])
def test_while_a_run_of_the_partition_is_queued_or_running_none_is_asked_for(
    evaluate: Evaluate,
    engine: Engine,
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    today: date,
    status: dg.DagsterRunStatus,
) -> None:
    call(engine, today)
    deliver(engine)
    _run(instance, definitions, today, status)
    assert reason(evaluate()) == f"00|{today}: a run is queued or running"


def test_after_a_failed_run_the_next_one_has_a_key_of_its_own(
    evaluate: Evaluate,
    engine: Engine,
    instance: dg.DagsterInstance,
    definitions: dg.Definitions,
    today: date,
) -> None:
    call(engine, today)
    deliver(engine)
    before = evaluate().run_requests
    _run(instance, definitions, today, dg.DagsterRunStatus.FAILURE)
    after = evaluate().run_requests
    assert before is not None
    assert after is not None
    assert [request.run_key for request in (*before, *after)] == [
        f"00|{today}:1:0",
        f"00|{today}:1:1",
    ]
