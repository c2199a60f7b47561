"""Rules of the commands by which people steer: locks, splits, suppressions, pauses, checks."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from enrich_pipeline.cli import main

from ..support.lab import contact

Run = Callable[..., int]

BLOCKED = "select blocked_reason from enrichment.person_inputs where is_blocked"


@pytest.fixture
def run(
    folder: Path,
    with_database: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., int]:
    """Runs a command in this process; contacts a (two of one human, a1 and a2) and b are loaded."""
    monkeypatch.chdir(folder)
    for name, value in with_database.items():
        monkeypatch.setenv(name, value)
    rows = [
        contact(1, contact_id="a1", phone="+4930123456"),
        contact(1, contact_id="a2"),
        contact(2, contact_id="b"),
    ]
    with Path("crm.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert main.run(("load-contacts", "crm.csv")) == 0

    def run(*arguments: str) -> int:
        return main.run(arguments)

    return run


def rows_of(engine: Engine, statement: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def load(**cells: str) -> None:
    """What the CRM has of the human of a1 and a2 now."""
    with Path("again.csv").open("w", newline="") as file:
        rows = [contact(1, contact_id=contact_id, **cells) for contact_id in ("a1", "a2")]
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert main.run(("load-contacts", "again.csv")) == 0


def observe(engine: Engine, value: str, attribute: str = "phone") -> None:
    """What a provider verified for the human of a1 and a2."""
    with engine.begin() as connection:
        connection.execute(
            text("""
                with called as (
                    insert into enrichment.calls (provider, call_group, state, partition_date,
                        batch, spend_date, run_id, persons, hold_micro, prices,
                        usd_micro_per_credit, lease_until)
                    values ('lance', '', 'settled', current_date, 0, current_date, 'r', 1, 0, '{}',
                        0, now())
                    returning call_id
                ), line as (
                    insert into enrichment.charge_lines (call_id, item_key, person_id, provider,
                        product, fields, state, hold_micro, hold_usd_micro, verdict, answered_at)
                    select call_id, 'p', person_id, 'lance', 'phone', '{phone}', 'posted', 0, 0,
                        'found', now()
                    from called, enrichment.contacts where contact_id = 'a1'
                    returning *
                )
                insert into enrichment.observations (person_id, attribute, value, status, provider,
                    call_id, line_id, observed_at)
                select person_id, :attribute, :value, 'verified', provider, call_id, line_id, now()
                from line
            """),
            {"attribute": attribute, "value": value},
        )


def phone(engine: Engine, contact_id: str) -> str:
    with engine.connect() as connection:
        return str(
            connection.execute(
                text("select phone from analytics.dim_contacts where contact_id = :id"),
                {"id": contact_id},
            ).scalar_one()
        )


def test_a_locked_value_is_the_crms_own_at_once_and_unlocked_the_better_one_wins(
    run: Run, engine: Engine
) -> None:
    observe(engine, "+4915112345678")
    assert run("unlock", "a1", "phone") == 0
    assert phone(engine, "a1") == "+4915112345678"
    assert run("lock", "a1", "phone", "--reason", "confirmed") == 0
    assert phone(engine, "a1") == "+4930123456"
    assert phone(engine, "a2") == "+4915112345678"
    assert run("lock", "a1", "phone") == 0
    assert rows_of(engine, "select contact_id, field, reason from enrichment.value_locks") == [
        ("a1", "phone", "confirmed")
    ]
    assert run("unlock", "a1", "phone") == 0
    assert phone(engine, "a1") == "+4915112345678"


@pytest.mark.parametrize(
    "arguments",
    [
        ("lock", "nobody", "phone"),
        ("lock", "a1", "shoe_size"),
        ("lock", "a1", "phone", "--reason", "source"),
        ("unlock", "nobody", "phone"),
        ("split", "a1", "nobody"),
        ("split",),
        ("suppress",),
        ("suppress", "--contact", "nobody"),
        ("suppress", "--email", "not an address"),
        ("suppress", "--linkedin", "https://example.com/in"),
    ],
    ids=" ".join,
)
def test_whom_or_what_nobody_knows_is_exit_code_2(
    run: Run, engine: Engine, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    assert "Error" in capsys.readouterr().err
    assert rows_of(engine, "select * from enrichment.value_locks") == []
    assert rows_of(engine, "select * from enrichment.suppressions") == []


def test_a_split_contact_has_a_person_of_its_own_for_good(run: Run, engine: Engine) -> None:
    persons = "select count(distinct person_id) from analytics.dim_contacts where contact_id in"
    assert rows_of(engine, f"{persons} ('a1', 'a2')") == [(1,)]
    assert run("split", "a2") == 0
    assert rows_of(engine, f"{persons} ('a1', 'a2')") == [(2,)]
    assert run("load-contacts", "crm.csv") == 0
    assert rows_of(engine, f"{persons} ('a1', 'a2')") == [(2,)]


@pytest.mark.parametrize(
    "whom",
    [
        ("--contact", "a2"),
        ("--email", str(contact(1)["email"]).upper()),
        ("--linkedin", str(contact(1)["linkedin_url"])),
    ],
    ids=lambda pair: pair[0],
)
def test_whoever_is_suppressed_is_blocked_at_once_under_every_contact(
    run: Run, engine: Engine, whom: tuple[str, str]
) -> None:
    assert run("suppress", *whom, "--reason", "objection") == 0
    shown = "select contact_id from analytics.dim_contacts where is_suppressed order by 1"
    assert rows_of(engine, shown) == [("a1",), ("a2",)]
    assert rows_of(engine, "select count(*) from enrichment.person_inputs where is_blocked") == [
        (1,)
    ]
    (kept,) = rows_of(engine, "select string_agg(hash || reason, ' ') from enrichment.suppressions")
    assert whom[1].lower() not in kept[0].lower().split(":")
    assert run("suppress", *whom) == 0
    assert rows_of(engine, "select distinct reason from enrichment.suppressions") == [
        ("objection",)
    ]


def test_whoever_was_mistaken_for_somebody_suppressed_is_not_blocked(
    run: Run, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    observe(engine, "somebody@elsewhere.com", "work_email")
    with engine.begin() as connection:
        connection.execute(
            text("update enrichment.observations set rejected_reason = 'other_person'")
        )
    capsys.readouterr()
    assert run("suppress", "--email", "somebody@elsewhere.com") == 0
    assert "it blocks 0 persons with 0 contacts now" in capsys.readouterr().out
    load(job_title="CTO")
    assert rows_of(engine, BLOCKED) == []


def test_whoever_is_suppressed_by_a_private_address_that_was_bought_is_blocked(
    run: Run, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    observe(engine, "jane@private.org", "personal_email")
    load(personal_email_consent="true")
    shown = "select contact_id from analytics.dim_contacts where {} order by 1"
    has_it = shown.format("personal_email = 'jane@private.org'")
    assert rows_of(engine, has_it) == [("a1",), ("a2",)]
    capsys.readouterr()
    assert run("suppress", "--email", "Jane@private.org") == 0
    assert "it blocks 1 persons with 2 contacts now" in capsys.readouterr().out
    assert rows_of(engine, BLOCKED) == [("suppressed",)]
    assert rows_of(engine, shown.format("is_suppressed")) == [("a1",), ("a2",)]


def test_whoever_is_suppressed_by_a_bought_address_stays_blocked_when_a_better_one_comes(
    run: Run, engine: Engine
) -> None:
    observe(engine, "jane@bought.com", "work_email")
    load(job_title="CTO")
    became = "select is_winner, rejected_reason from enrichment.observations"
    assert rows_of(engine, became) == [(True, None)]
    assert run("suppress", "--email", "jane@bought.com") == 0
    with engine.begin() as connection:
        connection.execute(text("update enrichment.observations set observed_at = '2020-01-01'"))
    better = {"email": "new@copperfox1.com", "email_verified_at": "2026-01-05T00:00:00Z"}
    load(**better)
    assert rows_of(engine, became) == [(False, "older")]
    load(**better, job_title="CEO")
    assert rows_of(engine, BLOCKED) == [("suppressed",)]


def test_somebody_may_be_suppressed_who_is_not_known_yet(run: Run, engine: Engine) -> None:
    assert run("suppress", "--email", "later@newcomer.com") == 0
    with Path("more.csv").open("w", newline="") as file:
        row = contact(3, contact_id="c", email="later@newcomer.com")
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow(row)
    assert run("load-contacts", "more.csv") == 0
    assert rows_of(engine, "select contact_id from analytics.dim_contacts where is_suppressed") == [
        ("c",)
    ]


def test_a_pause_is_shown_until_it_is_ended(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("pause", "--reason", "invoice") == 0
    capsys.readouterr()
    assert run("status") == 0
    assert "invoice" in capsys.readouterr().err
    assert run("resume") == 0
    capsys.readouterr()
    assert run("status") == 0
    assert "invoice" not in capsys.readouterr().err


def test_invariants_name_what_is_wrong_by_rule(
    run: Run, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run("invariants") == 0
    assert "rules hold" in capsys.readouterr().out
    with engine.begin() as connection:
        connection.execute(
            text(
                "insert into enrichment.accounts (provider, kind, balance) "
                "values ('lance', 'spent', 7)"
            )
        )
        connection.execute(
            text(
                "insert into enrichment.plan_rows "
                "(partition_date, contact_id, person_id, field, reason, rank, batch) "
                "values ('2026-01-01', 'c1', 4711, 'phone', 'missing', 1, 0)"
            )
        )
    assert run("invariants") == 1
    assert "Broken: an account's balance is the sum of its entries" in capsys.readouterr().out
    assert run("invariants", "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert told["a provider's balances sum to zero"] == ["lance: 7"]
    assert told["what is planned is of a night and a person that exist"] == [
        "2026-01-01, person 4711"
    ]
    assert told["no budget is exceeded"] == []
