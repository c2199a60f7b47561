"""Rules of `enrich alerts`: what it says, what it sends, what it never shows."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from enrich_pipeline.store import breakers

from ..support.listener import Listener, listening
from .conftest import Enrich, start


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


@pytest.fixture
def troubled(engine: Engine) -> None:
    with engine.begin() as conn:
        breakers.trip(conn, "pronto", ["*"], "unauthorized", 600)


def test_the_test_says_of_every_channel_whether_it_took_the_message(
    enrich: Enrich, with_database: dict[str, str], listener: Listener
) -> None:
    urls = f"{listener.url} json://127.0.0.1:9/CANARYTOKEN"
    done = enrich("alerts", "--test", ENRICH_ALERT_URLS=urls, **with_database)
    assert done.returncode == 1
    assert "channel 1 (json): took the message" in done.stdout
    assert "channel 2 (json): did not take the message" in done.stderr
    assert "CANARY" not in done.stdout + done.stderr
    assert [said["title"] for said in listener.posted] == ["enrich: test"]


def test_without_a_channel_it_names_the_variable(
    enrich: Enrich, with_database: dict[str, str]
) -> None:
    done = enrich("alerts", **with_database)
    assert done.returncode == 2
    assert "ENRICH_ALERT_URLS" in done.stderr


def test_a_dry_run_shows_what_would_be_said_and_keeps_and_sends_nothing(
    enrich: Enrich,
    with_database: dict[str, str],
    engine: Engine,
    troubled: None,
    listener: Listener,
) -> None:
    done = enrich("alerts", "--dry-run", ENRICH_ALERT_URLS=listener.url, **with_database)
    assert done.returncode == 0, done.stderr
    assert "CRITICAL: pronto refuses the key" in done.stdout
    assert "Would be sent now." in done.stdout
    assert listener.posted == []
    with engine.connect() as conn:
        assert conn.execute(text("select count(*) from enrichment.alerts")).scalar_one() == 0


def test_commands_at_the_same_time_say_it_once_and_leave_no_secret_behind(
    folder: Path,
    with_database: dict[str, str],
    troubled: None,
    listener: Listener,
) -> None:
    listener.delay_seconds = 1
    environ = {**with_database, "ENRICH_ALERT_URLS": listener.url}
    processes = [start(("alerts",), folder, environ) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert len(listener.posted) == 1
    left = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"CANARY" not in left
    assert "CANARY" not in str(said)


def test_a_channel_that_is_down_is_exit_code_1_and_one_line_in_the_log(
    folder: Path, enrich: Enrich, with_database: dict[str, str], troubled: None
) -> None:
    environ = {**with_database, "ENRICH_ALERT_URLS": "json://127.0.0.1:9/CANARYTOKEN"}
    done = [enrich("alerts", **environ) for _ in range(2)]
    assert [each.returncode for each in done] == [1, 1]
    assert "no channel took the message, tried again next time: 1 (json)" in done[0].stdout
    log = (folder / ".enrich" / "logs" / "enrich.log").read_text()
    assert log.count("alerts cannot be sent") == 1
    assert "CANARY" not in log
