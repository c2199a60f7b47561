"""Somebody asks to be forgotten: no value is left anywhere, and nothing brings one back.

A night as users run it, on Dagster's real storage, at all five providers, with answers still under
way. Then every column of every table and every file is searched for what was known of one person.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, text

from enrich_pipeline.intake.load import load_file

from ..sandbox import people
from ..support.lab import Bench, Lab, contact, contacts
from ..waterfall.test_webhooks import delivery
from .conftest import Run

WHO = 7
NIGHT: dict[str, Any] = {
    "fields": {
        "profile": {"waterfall": ["prospeo"]},
        "work_email": {"waterfall": ["lance"]},
        "personal_email": {"waterfall": ["agntdata", "pronto"]},
        "phone": {"waterfall": ["apollo"]},
    },
    "providers": {
        "pronto": {"await_seconds": 0},
        "lance": {"await_seconds": 0, "poll_seconds": 600},
        "apollo": {"await_seconds": 0},
    },
}
SHARES = {"agntdata.personal_email": 0.0}
VENDOR_IDS = ("lance", "apollo")
"""By whose own ids answers that are under way are told apart."""

READ_BUT_KEPT = (
    "select count(*) from enrichment.inbox as i join enrichment.calls as c using (token_hash) "
    "where c.erased_at is not null and i.state <> 'new' and i.body is not null"
)


@pytest.fixture
def lab(bench: Bench, database: URL) -> Iterator[Lab]:
    with bench.lab(database, NIGHT, SHARES) as lab:
        yield lab


def crm(lab: Lab) -> Path:
    """The person twice, under two addresses and one profile, among others."""
    rows = contacts(range(20), personal_email_consent="true")
    rows.append(
        contact(
            WHO,
            contact_id="c0007-second",
            email="h.testerh.second@elsewhere7.example.com",
            full_name="Hedi Testerh",
            personal_email_consent="true",
        )
    )
    path = lab.folder / "crm.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[-1]), restval="")
        writer.writeheader()
        writer.writerows(rows)
        file.write(f"c0007-third,Hedi,Testerh,{people.email(WHO)},,,,,,,,,,,one,too,many,cells\n")
    return path


def known_of(lab: Lab) -> set[str]:
    """Words that stand for the person alone; everything in small letters."""
    found = lab.sql(
        "select o.value from enrichment.observations as o "
        "join enrichment.contacts as c using (person_id) where c.contact_id = 'c0007' "
        "and attribute in ('work_email', 'personal_email', 'phone', 'linkedin_url')"
    )
    return {
        "testerh",
        "c0007",
        people.profile(WHO).rpartition("/")[2],
        *(value.lower() for (value,) in found),
    }


def vendor_ids(lab: Lab) -> set[str]:
    found = lab.sql(
        "select l.external_id from enrichment.charge_lines as l "
        "join enrichment.contacts as c using (person_id) where c.contact_id = 'c0007' "
        "and l.external_id is not null"
    )
    return {people.lance(WHO), *(value.lower() for (value,) in found)}


def hits(lab: Lab, words: set[str]) -> list[tuple[str, str]]:
    """(table, word) for every word in any column of any table, statistics and bytes included."""
    spelled = {w: (w, w.encode().hex(), w.encode().hex().encode().hex()) for w in words}
    with lab.engine.connect() as conn:
        tables = conn.execute(
            text("""
                select format('%I.%I', n.nspname, c.relname) from pg_class as c
                join pg_namespace as n on n.oid = c.relnamespace
                where c.relkind in ('r', 'p', 'v', 'm') and n.nspname !~ '^(pg_|information_schema)'
            """)
        ).scalars()
        queries = {name: f"select t::text from {name} as t" for name in tables}  # noqa: S608
        queries["statistics"] = (
            "select concat(most_common_vals, histogram_bounds) from pg_stats "
            "where schemaname in ('crm', 'enrichment', 'analytics', 'dagster')"
        )
        assert len(queries) > 40
        return sorted(
            {
                (name, word)
                for name, query in queries.items()
                for row in conn.execute(text(query)).scalars()
                for word, forms in spelled.items()
                if any(form in row.lower() for form in forms)
            }
        )


def file_hits(folder: Path, words: set[str]) -> list[tuple[str, str]]:
    return [
        (path.name, word)
        for path in folder.rglob("*")
        if path.is_file()
        for word in words
        if word.encode() in path.read_bytes().lower()
    ]


def test_an_erased_person_is_nowhere_and_never_comes_back(lab: Lab, run: Run) -> None:
    lab.sandbox.faults(
        *(
            {"provider": p, "kind": "late_webhook", "seconds": 20, "times": None, "probability": 1}
            for p in ("pronto", "apollo")
        )
    )
    file = crm(lab)
    home = lab.settings.home
    assert run("load-contacts", str(file)).returncode == 0
    assert run("refresh").returncode == 3, "nothing is pending: nothing was put to the proof"
    (home / "reports").mkdir(exist_ok=True)
    (home / "reports" / "2026-01-01.html").write_text("<p>Hedi Testerh changed jobs</p>")
    (home / "reports" / "2026-01-02.html").write_text("<p>somebody else did</p>")
    with (home / "logs" / "enrich.log").open("a") as log:
        log.write(f"planted {people.email(WHO)}\n")
    lab.sql("analyze")
    words, ids = known_of(lab), vendor_ids(lab)
    held_by = {table for table, _ in hits(lab, words)}
    open_calls = lab.sql(
        "select distinct c.provider from enrichment.calls as c where state = 'accepted' order by 1"
    )
    assert open_calls == [("apollo",), ("lance",), ("pronto",)]
    assert held_by >= {
        "crm.contacts", "crm.contact_rows", "enrichment.contacts", "enrichment.observations",
        "enrichment.replies", "enrichment.calls", "enrichment.plan_rows", "analytics.dim_contacts",
        "analytics.dim_contact_history", "enrichment.person_inputs", "statistics",
    }  # fmt: skip
    assert file_hits(home, words)

    erased = run("erase", "--email", people.email(WHO), "--yes")
    assert erased.returncode == 0, erased.stderr
    receipt = erased.stdout
    assert not [word for word in words | ids if word in receipt.lower()]
    assert "1 persons, 2 contacts erased" in receipt
    assert "1 pages removed, 1 rejected rows cut out, 1 other files cleaned" in receipt
    # What has arrived and nobody has read waits for the next run: its cost is in it.
    assert {table for table, _ in hits(lab, words)} <= {"enrichment.inbox"}
    assert lab.one(READ_BUT_KEPT) == 0
    assert file_hits(home, words | ids) == []
    left = {name for name, _ in file_hits(file.parent, words)}
    assert left == {file.name}, "only the user's own file still names the person"
    assert (home / "reports" / "2026-01-02.html").exists()
    assert {table for table, _ in hits(lab, ids)} <= {
        "enrichment.calls", "enrichment.charge_lines", "enrichment.inbox",
        "analytics.fct_rejected_answers",
    }  # fmt: skip
    lab.assert_books()

    # What was under way comes, is paid, and leaves nothing.
    lab.sandbox.wait_for_deliveries()
    lab.until("select count(*) > 0 from enrichment.inbox where state = 'new'")
    lab.overdue("next_poll_at", "lance")
    for _ in range(3):
        lab.drain()
    assert lab.one("select count(*) from enrichment.calls where closed_at is null") == 0
    lab.assert_exact()
    assert hits(lab, words | ids) == []
    discarded = "select provider from enrichment.charge_lines where reason = 'values_discarded'"
    assert sorted(lab.sql(discarded)) == [("apollo",), ("lance",), ("pronto",)]
    assert lab.one("select count(*) from enrichment.observations where value is not null") > 0

    # A repetition of an old delivery, and another one, for calls that are long closed.
    ((call_id, key),) = lab.sql(
        "select l.call_id, l.item_key from enrichment.charge_lines as l "
        "join enrichment.persons as p using (person_id) "
        "where l.provider = 'pronto' and p.erased_at is not null"
    )
    lab.deliver(call_id, delivery(WHO, f"{key}.{call_id}"))
    lab.drain()
    assert hits(lab, words | ids) == []
    lab.assert_exact()

    # The same file again beside new people, and further nights: nothing is spent on the person.
    before = lab.sandbox.charges()
    summary = load_file(lab.engine, file, lab.settings.policy, lab.now)
    assert summary.rejected["erased"] == 2
    lab.load(contacts(range(20, 26), personal_email_consent="true"))
    lab.plan()
    lab.drain()
    lab.plan(lab.day(1))
    lab.drain(lab.day(1))
    bought = lab.sandbox.charges()[len(before) :]
    assert len({row["human"] for row in bought}) == 6
    assert not {row["human"] for row in bought} & {row["human"] for row in before}
    assert hits(lab, words | ids) == []
    assert file_hits(home, words | ids) == []
    again = run("erase", "--email", people.email(WHO), "--yes")
    assert (again.returncode, "nothing is left" in again.stdout) == (0, True)
    assert run("invariants").returncode == 0
