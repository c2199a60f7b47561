"""Rules of telling: once, again after a while, once more when over, by one process only."""

import logging
import multiprocessing
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import URL, Engine, text

from enrich_pipeline.domain.alert import Alert, Level
from enrich_pipeline.reports import channel
from enrich_pipeline.reports.delivery import Delivery, deliver
from enrich_pipeline.store import alerts as store
from enrich_pipeline.store import connection

from ..support.listener import Listener, listening

NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


def alert(key: str = "budget", level: Level = Level.WARNING, title: str = "it is so") -> Alert:
    return Alert(key, level, title, "it happened", "it means that", "do `enrich status`")


def tell(
    engine: Engine, listener: Listener, *alerts: Alert, after: timedelta = timedelta(0)
) -> Delivery:
    return deliver(engine, [listener.url], alerts, NOW + after, DAY)


def test_a_condition_that_persists_is_said_once_and_again_after_a_day(
    engine: Engine, listener: Listener
) -> None:
    for hours in (0, 1, 23):
        tell(engine, listener, alert(), after=timedelta(hours=hours))
    (said,) = listener.posted
    assert said["title"] == "enrich: it is so"
    assert said["type"] == "warning"
    assert said["message"] == alert().message
    tell(engine, listener, alert(), after=timedelta(hours=24))
    assert len(listener.posted) == 2


def test_a_daily_look_that_is_a_little_early_says_it_every_day(
    engine: Engine, listener: Listener
) -> None:
    tell(engine, listener, alert())
    tell(engine, listener, alert(), after=DAY - timedelta(seconds=2))
    assert len(listener.posted) == 2


def test_what_becomes_critical_is_said_at_once_and_only_once(
    engine: Engine, listener: Listener
) -> None:
    tell(engine, listener, alert())
    for minutes in (5, 10):
        tell(engine, listener, alert(level=Level.CRITICAL), after=timedelta(minutes=minutes))
    assert [said["type"] for said in listener.posted] == ["warning", "failure"]


def test_what_is_over_is_said_in_one_line_once_and_may_begin_again(
    engine: Engine, listener: Listener
) -> None:
    tell(engine, listener, alert())
    for minutes in (5, 10):
        tell(engine, listener, after=timedelta(minutes=minutes))
    assert listener.messages[1:] == ["Over: it is so (since 2026-11-21 06:00 UTC)"]
    assert listener.posted[1]["type"] == "success"
    tell(engine, listener, alert(), after=timedelta(minutes=15))
    assert listener.messages[2] == alert().message


def test_everything_that_is_due_is_one_message(engine: Engine, listener: Listener) -> None:
    tell(engine, listener, alert("old"))
    told = tell(engine, listener, alert("a"), alert("b", Level.CRITICAL))
    assert (told.told, told.over, told.holding) == (2, 1, 2)
    assert len(listener.posted) == 2
    assert listener.posted[1]["title"] == "enrich: it is so (and 2 more)"
    assert listener.messages[1].count("What to do: ") == 2
    assert "Over: it is so" in listener.messages[1]


def test_what_no_channel_took_is_logged_once_and_said_when_one_does(
    engine: Engine, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("enrich_pipeline").propagate = True
    listener.status = 500
    for minutes in (0, 5, 10):
        assert not tell(engine, listener, alert(), after=timedelta(minutes=minutes)).is_sent
    ours = [r.getMessage() for r in caplog.records if r.name.startswith("enrich_pipeline")]
    assert ours == ["alerts cannot be sent, tried again next time: channel 1 (json)"]
    listener.status = 200
    assert tell(engine, listener, alert(), after=timedelta(minutes=15)).is_sent
    assert len(listener.posted) == 1
    assert "alerts are sent again" in caplog.text
    assert "CANARY" not in caplog.text
    with engine.connect() as conn:
        assert [known.key for known in store.open_alerts(conn)] == ["budget"]
        dump = conn.execute(text("select array_agg(a::text) from enrichment.alerts a"))
        assert "CANARY" not in str(dump.scalar_one())


def test_a_condition_that_began_and_ended_unsaid_stays_unsaid(
    engine: Engine, listener: Listener
) -> None:
    listener.status = 500
    tell(engine, listener, alert())
    listener.status = 200
    tell(engine, listener)
    assert listener.posted == []


def test_a_channel_that_is_broken_does_not_make_the_others_say_it_again(
    engine: Engine, listener: Listener
) -> None:
    urls = ["json://127.0.0.1:9/", "nonsense://x", listener.url]
    told = [
        deliver(engine, urls, [alert()], NOW + timedelta(minutes=minutes), DAY)
        for minutes in (0, 5)
    ]
    assert len(listener.posted) == 1
    assert [each.is_sent for each in told[0].receipts] == [False, False, True]
    assert told[1].receipts == ()


def test_a_channel_says_of_itself_only_its_number_and_kind(listener: Listener) -> None:
    message = channel.Message("title", "body", None)
    receipts = channel.send([listener.url, "json://127.0.0.1:9/CANARYTOKEN"], message)
    assert [(each.channel, each.is_sent) for each in receipts] == [
        ("1 (json)", True),
        ("2 (json)", False),
    ]


def _tell_alone(database: str, url: str) -> None:
    from sqlalchemy import make_url

    engine = connection.create_engine(make_url(database))
    for _ in range(5):
        deliver(engine, [url], [alert()], datetime.now(UTC), DAY)


def test_processes_that_look_at_the_same_time_say_it_once(
    database: URL, engine: Engine, listener: Listener
) -> None:
    listener.delay_seconds = 0.5
    context = multiprocessing.get_context("spawn")
    address = database.render_as_string(hide_password=False)
    processes = [
        context.Process(target=_tell_alone, args=(address, listener.url)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert len(listener.posted) == 1


def test_who_is_sending_keeps_others_from_it_and_holds_no_transaction(
    engine: Engine, listener: Listener
) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
        assert store.take_turn(other)
        assert tell(engine, listener, alert()).is_other_at_it
        idle = text("select count(*) from pg_stat_activity where state = 'idle in transaction'")
        time.sleep(0.1)
        assert other.execute(idle).scalar_one() == 0
        store.end_turn(other)
    assert tell(engine, listener, alert()).told == 1
