"""The short form of every benchmark: that it still runs, finds its rows and meets its targets."""

import csv
import sys
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from sqlalchemy import URL, Engine, text

from enrich_pipeline.intake.load import load_file

from ..campaigns.schedules import SHARES
from ..store.rows import default_policy
from ..support.lab import Bench, contacts
from ..support.sandbox import AUTH, PROVIDERS, free_port
from . import filling, marts, selection, usage
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


def test_contacts_that_are_filled_in_are_as_loaded_ones(engine: Engine, tmp_path: Path) -> None:
    people = range(8, 24)
    rows = contacts(people, personal_email_consent="true")
    path = tmp_path / "contacts.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    load_file(engine, path, default_policy(), datetime.now(UTC))
    loaded = _rows_by_table(engine)
    with engine.begin() as conn:
        for table in loaded:
            conn.exec_driver_sql(f"truncate {table} restart identity cascade")

    filling.fill(engine, default_policy(), people)

    filled = _rows_by_table(engine)
    assert filled.keys() == loaded.keys()
    assert len(loaded) == 11
    for table, content in loaded.items():
        assert filled[table] == content, table


def _rows_by_table(engine: Engine) -> dict[str, list[str]]:
    """Everything that contacts are, but for when it was written."""
    tables = """
        select table_schema || '.' || table_name,
            array_agg(column_name::text) filter (where data_type = 'timestamp with time zone')
        from information_schema.columns join information_schema.tables
            using (table_schema, table_name)
        where table_schema in ('crm', 'enrichment', 'analytics') and table_type = 'BASE TABLE'
            and table_name not in ('secrets', 'sending', 'alembic_version')
        group by 1
    """
    found = {}
    with engine.connect() as conn:
        for table, moments in conn.exec_driver_sql(tables).all():
            query = f"select (to_jsonb(r) - cast(:moments as text[]))::text from {table} as r"  # noqa: S608
            content = conn.execute(text(query), {"moments": moments or []}).scalars().all()
            if content:
                found[table] = sorted(content)
    return found


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
