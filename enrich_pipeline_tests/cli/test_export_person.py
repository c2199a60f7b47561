"""What somebody gets who asks for their data: everything, with sources, and nobody else's."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL

from enrich_pipeline.cli import main
from enrich_pipeline.store import publish

from ..sandbox import people
from ..support.lab import Bench, Lab, contact, contacts

WHO = 3
OF_PERSON = "person_id in (select person_id from enrichment.contacts where contact_id = 'c0003')"


@pytest.fixture
def lab(
    tmp_path_factory: pytest.TempPathFactory, database: URL, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("export")
    with Bench(folder, people=20) as bench, bench.lab(database) as lab:
        monkeypatch.chdir(lab.folder)
        for name, value in lab.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("ENRICH_DATABASE_URL", database.render_as_string(hide_password=False))
        rows = contacts(range(6), personal_email_consent="true")
        rows.append(contact(WHO, contact_id="other", personal_email_consent="true"))
        lab.night(rows)
        lab.sandbox.wait_for_deliveries()
        lab.drain()
        publish.publish(lab.engine, lab.settings.policy, lab.today, 0, lab.now)
        lab.sql(
            f"update enrichment.observations set rejected_reason = 'other_person', value = "  # noqa: S608
            f"'stranger', is_winner = false where observation_id in (select min(observation_id) "
            f"from enrichment.observations where {OF_PERSON} and attribute = 'phone')"
        )
        yield lab


def exported(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main.run(("export-person", *arguments)) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_the_export_holds_what_the_tables_hold_of_this_person_and_no_other(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    document = exported(capsys, "--contact", "other")
    assert [c["contact_id"] for c in document["contacts"]] == ["c0003", "other"]
    assert document["contacts"][0]["row"]["email"] == people.email(WHO)
    assert {(v["field"], v["value"], v["provider"]) for v in document["values"]} == set(
        lab.sql(
            f"select attribute, value, provider from enrichment.observations where {OF_PERSON} "  # noqa: S608
            "and rejected_reason is distinct from 'other_person'"
        )
    )
    assert all(v["purpose"] and v["observed_at"] and v["night"] for v in document["values"])
    assert len(document["attempts"]) == lab.one(
        f"select count(*) from enrichment.attempts where {OF_PERSON}"  # noqa: S608
    )
    assert {(i["kind"], i["value"]) for i in document["identifiers"]} >= set(
        lab.sql(f"select kind, value from enrichment.person_identifiers where {OF_PERSON}")  # noqa: S608
    )
    assert [v["contact_id"] for v in document["current"]] == ["c0003", "other"]
    assert document["current"][0]["work_email"] == lab.one(
        "select work_email from analytics.dim_contacts where contact_id = 'c0003'"
    )
    assert len(document["history"]) == lab.one(
        "select count(*) from analytics.dim_contact_history where contact_id in ('c0003', 'other')"
    )
    assert [c["personal_email_consent"] for c in document["consents"]] == [True, True]
    assert len(document["about_somebody_else"]) == 1
    written = json.dumps(document)
    assert "stranger" not in written
    assert not [n for n in range(6) if n != WHO and people.email(n) in written]


def test_the_file_is_for_its_owner_and_by_e_mail_it_is_the_same(
    lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    by_contact = exported(capsys, "--contact", "c0003")
    assert main.run(("export-person", "--email", people.email(WHO), "--out", "p.json")) == 0
    path = Path("p.json")
    assert path.stat().st_mode & 0o777 == 0o600
    document = json.loads(path.read_text())
    assert document | {"exported_at": ""} == by_contact | {"exported_at": ""}


def test_nobody_known_is_said_in_one_line(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(("export-person", "--contact", "nobody")) == 2
    assert main.run(("export-person", "--email", "nobody@copperfox1.com")) == 2
    assert "nobody@" not in capsys.readouterr().err
