"""Who turned out to be one human is forgotten as one, by whatever the request names."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import URL

from ..sandbox import people
from ..support.lab import Bench, Lab, contact
from .conftest import Run
from .test_erasure import file_hits, hits

WHO, OTHER = 7, 11
NUMBER = "+493070707070"
SECOND, THIRD = "h.testerh@second7.example.com", "h.testerh@third7.example.com"
CONTACTS = {"c7-first", "c7-second", "c7-third"}
CONFIGURATION: dict[str, Any] = {
    "fields": {
        "profile": {"waterfall": ["prospeo"]},
        "work_email": {"waterfall": ["agntdata"]},
        "personal_email": {"waterfall": ["pronto"]},
        "phone": {"waterfall": ["lance"]},
    },
}
PLANTED = (
    "insert into enrichment.value_locks (contact_id, field, reason) "
    "values ('c7-second', 'phone', 'said Testerh')",
    "insert into enrichment.suspected_duplicates values ('c11', 'c7-third', 'name_at_company')",
    "insert into enrichment.person_splits (contact_ids, other_contact_ids) "
    "values ('{c11}', '{c7-first,c7-third}')",
)
HELD_BY = {
    "analytics.dim_contact_history", "analytics.dim_contacts", "analytics.fct_contact_changes",
    "analytics.fct_field_observations", "crm.contact_rows", "crm.contacts", "enrichment.calls",
    "enrichment.charge_lines", "enrichment.contact_identifiers", "enrichment.contact_persons",
    "enrichment.contacts", "enrichment.inbox", "enrichment.observations",
    "enrichment.person_identifiers", "enrichment.person_inputs", "enrichment.person_splits",
    "enrichment.plan_rows", "enrichment.provider_identities", "enrichment.replies",
    "enrichment.suspected_duplicates", "enrichment.value_locks", "statistics",
}  # fmt: skip
"""Where a value of the person must have been seen before it may be seen to be gone."""
WORDS = """
    select value from enrichment.observations as o where person_id = :root and attribute in
        ('work_email', 'personal_email', 'phone', 'linkedin_url')
    union select external_id from enrichment.provider_identities where person_id = :root
    union select external_id from enrichment.charge_lines
    where person_id = :root and external_id is not null
"""


@pytest.fixture
def lab(bench: Bench, database: URL) -> Iterator[Lab]:
    with bench.lab(database, CONFIGURATION) as lab:
        yield lab


@pytest.fixture
def root(lab: Lab) -> int:
    """Three persons of one night that are one now: the third became the second, both the first."""

    def load(contact_id: str, month: int, **cells: str) -> None:
        bare = {"linkedin_url": "", "lance_person_id": "", "personal_email_consent": "true"}
        number = OTHER if contact_id == "c11" else WHO
        seen = {"contact_id": contact_id, "updated_at": f"2026-{month:02d}-01T00:00:00Z"}
        at_once = replace(lab, now=datetime.now(UTC))
        at_once.load([contact(number, **bare | seen | cells)])

    profile = people.profile(WHO)
    second = {"email": SECOND, "phone": NUMBER}
    load("c7-first", 1, lance_person_id=people.lance(WHO))
    load("c7-second", 1, **second)
    load("c7-third", 1, email=THIRD, linkedin_url=profile)
    load("c11", 1, lance_person_id=people.lance(OTHER), linkedin_url=people.profile(OTHER))
    lab.sandbox.faults({"provider": "lance", "kind": "charge_then_drop"})
    lab.plan()
    lab.drain()
    lab.sandbox.wait_for_deliveries()
    lab.drain()
    lab.overdue("write_off_at", "lance")
    lab.drain()
    load("c7-second", 2, linkedin_url=profile, **second)
    load("c7-first", 3, linkedin_url=profile)
    for statement in PLANTED:
        lab.sql(statement)
    lab.sql("analyze")
    ((root, members),) = lab.sql(
        "select merged_into, count(*) from enrichment.persons where merged_into is not null "
        "group by 1"
    )
    assert members == 2
    lab.assert_books()
    return int(root)


@pytest.mark.parametrize(
    "named",
    [
        ("--contact", "c7-third"),
        ("--contact", "c7-first"),
        ("--phone", "+49 (30) 7070-7070"),
        ("--linkedin", f"de.{people.profile(WHO).removeprefix('https://www.')}/?trk=x"),
    ],
    ids=lambda pair: " ".join(pair)[:18],
)
def test_all_that_any_of_them_was_is_gone(
    lab: Lab, run: Run, root: int, named: tuple[str, str]
) -> None:
    found = {value.lower() for (value,) in lab.sql(WORDS, root=root)}
    others = {
        value.lower() for (value,) in lab.sql(WORDS.replace("= :root", "<> :root"), root=root)
    }
    words = {"testerh", *CONTACTS, people.lance(WHO), NUMBER, *found} - others
    assert len(words) >= 8
    seen = {table for table, _ in hits(lab, words)}
    assert seen >= HELD_BY, HELD_BY - seen
    kept = lab.one("select count(*) from enrichment.observations where value is not null")

    erased = run("erase", *named, "--yes")

    assert erased.returncode == 0, erased.stderr
    assert "1 persons, 3 contacts erased." in erased.stdout
    assert hits(lab, words) == [("enrichment.calls", people.lance(WHO))], "written off"
    assert file_hits(lab.settings.home, words) == []
    assert not [word for word in words if word in (erased.stdout + erased.stderr).lower()]
    assert lab.sql("select contact_id from analytics.dim_contacts") == [("c11",)]
    left = lab.one("select count(*) from enrichment.observations where value is not null")
    assert 0 < left < kept
    assert lab.one("select count(*) from enrichment.persons where erased_at is not null") == 3
    again = run("erase", *named, "--yes")
    is_known = named[0] != "--phone"
    assert ("nothing is left" if is_known else "nothing to erase") in again.stdout
    lab.assert_books()
