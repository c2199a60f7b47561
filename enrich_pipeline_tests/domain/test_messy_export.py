"""Person resolution and normalization measured on whole exports whose truth is known.

The fixture holds the traps in small. `ENRICH_TRUTH_DIR` may name a folder with a large export
(`crm_contacts.csv`) and its truth (`crm_contacts_persons.csv`: contact_id, person_id, kind,
duplicate_of, shared_identifiers).
"""

import csv
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from enrich_pipeline.domain.contact import Contact, normalize_contact
from enrich_pipeline.domain.person import Resolution, SuspectReason, keys_of, resolve

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
FIXTURE = Path(__file__).parent / "fixtures" / "messy_contacts.csv"
# Read on import: the settings of the shell are taken away before the tests run.
TRUTH_DIR = os.environ.get("ENRICH_TRUTH_DIR")


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def normalized(rows: Iterable[Mapping[str, str]]) -> tuple[dict[str, Contact], Counter[str]]:
    contacts: dict[str, Contact] = {}
    codes: Counter[str] = Counter()
    for row in rows:
        contact, problems = normalize_contact(row, NOW)
        contacts[contact.contact_id] = contact
        codes.update(f"{problem.column}: {problem.code}" for problem in problems)
    return contacts, codes


def group_numbers(resolution: Resolution) -> dict[str, int]:
    return {
        contact_id: number
        for number, group in enumerate(resolution.groups)
        for contact_id in group.contact_ids
    }


def test_fixture_is_grouped_by_human_and_nothing_else() -> None:
    rows = read(FIXTURE)
    contacts, _ = normalized(rows)
    groups = group_numbers(resolve([keys_of(contact) for contact in contacts.values()]))
    found: dict[int, set[str]] = {}
    for row in rows:
        found.setdefault(groups[row["contact_id"]], set()).add(row["human"])
    assert all(len(humans) == 1 for humans in found.values())
    assert len(found) == len({row["human"] for row in rows})


def test_fixture_lists_namesakes_and_contested_identifiers() -> None:
    contacts, _ = normalized(read(FIXTURE))
    suspects = resolve([keys_of(contact) for contact in contacts.values()]).suspects
    assert {
        suspect.contact_ids: suspect.reason
        for suspect in suspects
    } == {
        ("M-10", "M-11", "M-12"): SuspectReason.CONTESTED_IDENTIFIER,
        ("M-13", "M-14"): SuspectReason.SAME_NAME_AND_COMPANY,
        ("M-17", "M-18"): SuspectReason.CONTESTED_IDENTIFIER,
        ("M-19", "M-20"): SuspectReason.CONTESTED_IDENTIFIER,
    }  # fmt: skip


def test_fixture_loses_only_what_is_no_value() -> None:
    contacts, codes = normalized(read(FIXTURE))
    assert codes == {
        "company_name: too_long": 1,
        "country_code: unknown_country": 1,
        "do_not_enrich: unreadable_flag": 1,
        "email: invalid_email": 1,
        "email: placeholder_email": 2,
        "first_name: not_a_name": 1,
        "first_name: null_word": 1,
        "lance_person_id: placeholder_id": 2,
        "last_name: null_word": 1,
        "linkedin_url: linkedin_without_profile": 2,
        "phone: invalid_phone": 1,
        "phone: placeholder_phone": 1,
        "prospeo_person_id: placeholder_id": 2,
        "updated_at: invalid_timestamp": 1,
    }
    assert contacts["M-05"].phone == "+12125550123"
    assert contacts["M-21"].job_title == 'Head of "Growth" EMEA; APAC'
    assert contacts["M-21"].company_name == "'; DROP TABLE contacts;--"
    assert (contacts["M-22"].first_name, contacts["M-22"].last_name) == ("Mina", "El-Sayed")


@pytest.mark.skipif(TRUTH_DIR is None, reason="ENRICH_TRUTH_DIR names no export with its truth")
def test_large_export_is_resolved_without_false_joins() -> None:
    folder = Path(TRUTH_DIR or "")
    contacts, codes = normalized(read(folder / "crm_contacts.csv"))
    truth = {row["contact_id"]: row for row in read(folder / "crm_contacts_persons.csv")}
    resolution = resolve([keys_of(contact) for contact in contacts.values()])
    groups = group_numbers(resolution)

    def human(contact_id: str) -> str:
        return truth[contact_id]["person_id"] or contact_id

    false = [g for g in resolution.groups if len({human(c) for c in g.contact_ids}) > 1]
    joinable = [
        (contact_id, row["duplicate_of"])
        for contact_id, row in truth.items()
        if row["kind"] == "duplicate" and row["shared_identifiers"]
    ]
    missed = [pair for pair in joinable if groups[pair[0]] != groups[pair[1]]]
    persons = len({human(contact_id) for contact_id in contacts})
    assert len(false) * 1_000 <= persons, f"{len(false)} false joins among {persons} persons"
    assert len(missed) * 100 <= len(joinable), f"{len(missed)} of {len(joinable)} missed"
    assert sum(codes.values()) < len(contacts), codes
