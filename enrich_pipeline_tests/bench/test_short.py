"""The short form of every benchmark: that it still runs, finds its rows and meets its targets."""

import sys
from pathlib import Path

import httpx
import pytest
from sqlalchemy import URL, Engine

from ..campaigns.schedules import SHARES
from ..support.lab import Bench, contacts
from ..support.sandbox import AUTH, PROVIDERS, free_port
from . import marts, selection, usage
from .contenders import COUNTED
from .contending.asking import Night, Waterfall
from .contending.blocking import Mailbox, ask
from .trial import FOUND_BY_PIPELINE


@pytest.mark.campaign_short
def test_marts_answer_and_publishing_finds_what_changed(engine: Engine) -> None:
    figures = marts.measure(engine, contacts=1_500, observations=15_000)

    assert figures.violations == []
    assert figures.values["publishing 75 changed contacts: new versions"] == 78


@pytest.mark.campaign_short
def test_selection_plans_full_nights(engine: Engine) -> None:
    figures = selection.measure(engine, contacts=5_000)

    assert figures.violations == []
    assert figures.values["steady night: contacts stale"] == 150
    assert figures.values["first night: contacts stale"] == 5_000


@pytest.mark.campaign_short
def test_scripts_that_contend_find_what_the_pipeline_finds(database: URL, tmp_path: Path) -> None:
    rows = contacts(range(24), personal_email_consent="true")
    with Bench(tmp_path, people=len(rows)) as bench, bench.lab(database, None, SHARES) as lab:
        lab.night(rows)
        found = dict(lab.sql(FOUND_BY_PIPELINE))
        lab.sandbox.reset()
        night = Night(
            database="",
            addresses={name: lab.sandbox.base_url(name) for name in PROVIDERS},
            headers={name: dict([AUTH[name]]) for name in PROVIDERS},
            waterfalls={
                str(f): lab.settings.policy.waterfall(f) for f in lab.settings.policy.fields
            },
            chain=lab.chain,
            receiver_port=free_port(),
            contacts=len(rows),
        )
        waterfall = Waterfall(rows, night.waterfalls)
        with Mailbox(night.receiver_port) as mailbox, httpx.Client(trust_env=False) as http:
            for provider in night.chain:
                for call in waterfall.calls(provider):
                    answers = ask(night, http, mailbox, call, str(call.number), 0.02)
                    waterfall.answered(call, answers)
        lab.assert_polite()

    assert found == {
        field: sum(row[column] is not None for row in waterfall.rows())
        for field, column in COUNTED.items()
    }


def test_what_orphans_of_a_command_spend_counts_too(tmp_path: Path) -> None:
    spend = "import time\nwhile time.process_time() < 0.3: pass"
    leave = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {spend!r}])"

    used = usage.of_command((sys.executable, "-c", leave), tmp_path, {})

    assert used.cpu_seconds > 0.3


def test_a_command_that_fails_is_not_measured(tmp_path: Path) -> None:
    with pytest.raises(usage.CommandFailed, match="no such night"):
        usage.of_command((sys.executable, "-c", "exit('no such night')"), tmp_path, {})
