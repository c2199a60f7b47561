"""Rules of the command line: help with examples, exit codes, one clear line for what is wrong."""

import importlib
import json
import re
import stat
import subprocess
import sys
from pathlib import Path

import click
import dotenv
import pytest
from click.testing import CliRunner
from sqlalchemy import URL

from enrich_pipeline.cli import dotenv as writing
from enrich_pipeline.cli import log, main, terminal
from enrich_pipeline.store import embedded

from .conftest import Enrich

COMMANDS = (
    ("init",),
    ("load-contacts",),
    ("refresh",),
    ("status",),
    ("report",),
    ("reconcile",),
    ("in-doubt",),
    ("in-doubt", "list"),
    ("in-doubt", "resolve"),
    ("invariants",),
    ("alerts",),
    ("pause",),
    ("resume",),
    ("lock",),
    ("unlock",),
    ("split",),
    ("suppress",),
    ("erase",),
    ("export-person",),
    ("prune",),
    ("db",),
    ("db", "open"),
    ("db", "close"),
    ("db", "status"),
    ("webhooks",),
    ("sandbox",),
    ("dev",),
    ("demo",),
)


@pytest.mark.parametrize("command", COMMANDS, ids="-".join)
def test_help_of_every_command_has_examples(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main.enrich, [*command, "--help"])
    assert result.exit_code == 0, result.output
    assert "Examples:" in result.output
    assert f"enrich {' '.join(command)}" in result.output


def test_the_overview_lists_exactly_the_commands_that_exist() -> None:
    result = CliRunner().invoke(main.enrich, ["--help"])
    listed = re.findall(r"^  ([a-z-]+)  +\S", result.output.partition("Commands:")[2], re.M)
    assert listed == list(dict.fromkeys(command[0] for command in COMMANDS))
    for name in listed:
        module = importlib.import_module(f"enrich_pipeline.cli.{name.replace('-', '_')}")
        assert isinstance(module.command, click.Command)


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("status", "--jsn"),
        ("refresh", "--date", "yesterday"),
        ("refresh", "--limit", "-1"),
        ("load-contacts",),
        ("load-contacts", "nowhere.csv"),
        ("in-doubt", "resolve", "1", "--evidence", "x"),
        ("in-doubt", "resolve", "1", "--charged", "--credits", "NaN", "--evidence", "x"),
        ("sandbox", "--prot", "1"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(
    arguments: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    try:
        code = main.run(arguments)
    except SystemExit as exit_:  # the sandbox's own parser
        code = int(exit_.code or 0)
    assert code == 2


@pytest.mark.parametrize(
    ("arguments", "environ", "line"),
    [
        (("status",), {}, "there is no database in .*/.enrich yet: run `enrich init` .*"),
        (
            ("status",),
            {"ENRICH_DATABASE_URL": "postgresql://u:pass-word@127.0.0.1:1/x"},
            "ENRICH_DATABASE_URL: no connection to postgresql://u:\\*\\*\\*@127.0.0.1:1/x: .*",
        ),
        (("status",), {"ENRICH_DATABASE_URL": "mysql://x"}, "ENRICH_DATABASE_URL is not .*"),
        (("status",), {"ENRICH_CONFIG": "none.yaml"}, "ENRICH_CONFIG=none.yaml cannot be read: .*"),
        (("refresh",), {"ENRICH_WEBHOOK_PORT": "x"}, "ENRICH_WEBHOOK_PORT: 'x' is not a port .*"),
        (("refresh", "--date", "2999-01-01"), {}, "--date 2999-01-01 is in the future; .*"),
        (("refresh", "--date", "1999-01-01"), {}, "--date 1999-01-01 is before .*"),
        (("refresh", "--batch", "7"), {}, "--batch 7: batches are 00 to 03"),
    ],
)
def test_wrong_configuration_is_exit_code_2_and_one_line(
    enrich: Enrich, arguments: tuple[str, ...], environ: dict[str, str], line: str
) -> None:
    done = enrich(*arguments, **environ)
    assert (done.returncode, done.stdout) == (2, "")
    (told,) = done.stderr.splitlines()
    assert re.fullmatch(f"Error: {line}", told), told
    assert "pass-word" not in done.stderr


def test_spending_without_keys_is_exit_code_2_with_a_line_for_each(
    enrich: Enrich, with_database: dict[str, str]
) -> None:
    done = enrich("refresh", **with_database)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("Error: ENRICH_PROSPEO_API_KEY is not set")
    assert lines[-1].startswith("Error: ENRICH_WEBHOOK_PUBLIC_URL is not set")


def test_a_database_that_was_never_migrated_names_the_command(
    enrich: Enrich, empty_database: URL
) -> None:
    url = empty_database.render_as_string(hide_password=False)
    done = enrich("status", ENRICH_DATABASE_URL=url)
    assert done.returncode == 2
    assert done.stderr == "Error: the database is not migrated: run `enrich init`\n"


def test_an_unknown_variable_is_a_warning(enrich: Enrich, with_database: dict[str, str]) -> None:
    done = enrich("status", "--json", ENRICH_DATABSE_URL="x", **with_database)
    assert done.returncode == 0
    assert "did you mean ENRICH_DATABASE_URL?" in done.stderr
    assert json.loads(done.stdout)["contacts"] == 0


def test_status_has_the_shape_that_programs_rely_on(
    enrich: Enrich, with_database: dict[str, str]
) -> None:
    found = json.loads(enrich("status", "--json", **with_database).stdout)
    assert list(found) == [
        *("as_of", "contacts", "persons", "coverage", "pending", "in_doubt", "spend")
    ]
    for field in ("work_email", "phone", "personal_email", "profile"):
        assert set(found["coverage"][field]) == {"filled", "verified", "stale"}
    for provider in ("prospeo", "agntdata", "pronto", "lance", "apollo"):
        assert set(found["spend"][provider]) == {
            "posted_micro_credits",
            "held_micro_credits",
            "in_doubt_micro_credits",
            "posted_usd",
        }
        assert isinstance(found["spend"][provider]["posted_usd"], str)
    assert enrich("status", **with_database).returncode == 0


def test_loading_counts_what_came_in_and_what_did_not(
    enrich: Enrich, with_database: dict[str, str], folder: Path
) -> None:
    (folder / "crm.csv").write_text(
        "contact_id,email,shoe_size\nc1,jane@acme.example.com,41\n,nobody@acme.example.com,42\n"
    )
    done = enrich("load-contacts", "crm.csv", **with_database)
    assert done.returncode == 0, done.stderr
    assert "2 rows read: 1 new" in done.stdout
    assert "shoe_size" in done.stderr
    assert (folder / "crm.csv.rejects.csv").exists()
    assert "jane@" not in done.stdout + done.stderr


def test_nothing_is_in_doubt_in_a_new_database(
    enrich: Enrich, with_database: dict[str, str]
) -> None:
    assert enrich("in-doubt", "list", **with_database).stdout == "Nothing is in doubt.\n"
    assert json.loads(enrich("in-doubt", "list", "--json", **with_database).stdout) == []
    done = enrich("in-doubt", "resolve", "1", "--not-charged", "--evidence", "x", **with_database)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: call 1 is not in doubt (it is unknown)\n"


def test_init_makes_a_database_and_an_env_file_and_changes_nothing_the_second_time(
    enrich_alone: Enrich, folder: Path
) -> None:
    env = folder / ".env"
    env.write_text("# mine\nENRICH_LANCE_API_KEY=abc\nOTHER='x y'")
    try:
        done = enrich_alone("init")
        assert done.returncode == 0, done.stderr
        first = env.read_text()
        assert first.startswith("# mine\nENRICH_LANCE_API_KEY=abc\nOTHER='x y'\n")
        assert stat.S_IMODE(env.stat().st_mode) == 0o600
        values = dotenv.dotenv_values(env)
        assert str(values["ENRICH_DAGSTER_DATABASE_URL"]).startswith("postgresql+psycopg2://")
        assert enrich_alone("init").returncode == 0
        assert env.read_text() == first
        embedded.stop(folder / ".enrich")
        assert enrich_alone("status").returncode == 0, "a stopped server is started by who needs it"
    finally:
        embedded.stop(folder / ".enrich")


def test_init_remembers_the_users_database_for_dagster(
    enrich: Enrich, folder: Path, empty_database: URL
) -> None:
    url = empty_database.render_as_string(hide_password=False)
    done = enrich("init", ENRICH_DATABASE_URL=url)
    assert done.returncode == 0, done.stderr
    assert dotenv.dotenv_values(folder / ".env")["ENRICH_DATABASE_URL"] == url
    assert enrich("status").returncode == 0


def test_values_survive_writing_and_reading_an_env_file(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    values = {"A": "it's", "B": "a\\b #c $d", "C": "postgresql://u:p%23@h/d?x=1&y=%20"}
    writing.update(path, values)
    assert dotenv.dotenv_values(path, interpolate=False) == values
    writing.update(path, {"B": "new"})
    assert dotenv.dotenv_values(path, interpolate=False) == {**values, "B": "new"}


def test_an_unexpected_error_is_one_line_and_a_place_without_values(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> None:
        raise KeyError("canary@example.com")

    monkeypatch.chdir(folder)
    monkeypatch.setattr("enrich_pipeline.cli.session.load", fails)
    assert main.run(["status"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == (
        "Error: unexpected KeyError; where it happened is in .enrich/logs/enrich.log\n"
    )
    written = (folder / ".enrich/logs/enrich.log").read_text()
    assert "test_commands.py" in written
    assert "canary" not in told.err + written


def test_a_log_that_cannot_be_written_does_not_hide_the_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ENRICH_HOME", "/proc/nowhere")
    assert "cannot be written" in str(log.unexpected(ValueError()))


@pytest.mark.parametrize(
    ("micro", "shown"), [(0, "0"), (1, "0.000001"), (1_500_000, "1.5"), (10**12, "1,000,000")]
)
def test_credits_are_shown_exactly(micro: int, shown: str) -> None:
    assert terminal.credits_of(micro) == shown


def test_the_installed_script_is_this_command() -> None:
    script = Path(sys.executable).with_name("enrich")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("enrich, version ")
