"""Sample contacts are repeatable, messy, and their truth file fits them."""

import csv
from pathlib import Path

from enrich_pipeline.sandbox import identifiers as ids
from enrich_pipeline.sandbox import samples


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_same_seed_makes_the_same_contacts() -> None:
    once, again = (list(samples.sample_contacts(300, seed=4)) for _ in range(2))
    assert once == again
    assert once != list(samples.sample_contacts(300, seed=5))
    assert len({row["contact_id"] for row in once}) == 300
    assert all(tuple(row) == samples.HEADER for row in once)


def test_the_truth_file_names_every_contact(tmp_path: Path) -> None:
    contacts, persons = tmp_path / "contacts.csv", tmp_path / "persons.csv"
    samples.write_sample(contacts, persons, 1000, seed=2)
    rows, truth = read(contacts), read(persons)
    assert [row["contact_id"] for row in rows] == [row["contact_id"] for row in truth]
    by_id = {row["contact_id"]: row for row in truth}
    duplicates = [row for row in truth if row["kind"] == "duplicate"]
    assert 50 <= len(duplicates) <= 110
    assert all(by_id[d["duplicate_of"]]["person_id"] == d["person_id"] for d in duplicates)
    shared = sum(bool(d["shared_identifiers"]) for d in duplicates)
    assert 0.6 < shared / len(duplicates) < 1


def test_no_strong_identifier_joins_two_humans(tmp_path: Path) -> None:
    contacts, persons = tmp_path / "contacts.csv", tmp_path / "persons.csv"
    samples.write_sample(contacts, persons, 2000, seed=3)
    truth = {row["contact_id"]: row["person_id"] for row in read(persons)}
    owner: dict[tuple[str, str], str] = {}
    for row in read(contacts):
        email = ids.email_address(row["email"])
        if email and ids.is_role(email):
            email = None
        for key in (("slug", ids.linkedin_slug(row["linkedin_url"])), ("email", email)):
            if key[1]:
                assert (
                    owner.setdefault((key[0], key[1]), truth[row["contact_id"]])
                    == truth[row["contact_id"]]
                )


def test_the_messes_of_real_exports_are_there() -> None:
    rows = list(samples.sample_contacts(3000, seed=1))

    def some(column: str, *texts: str) -> bool:
        return all(any(text in row[column] for row in rows) for text in texts)

    assert some("full_name", ", ", "Dr. ", "🚀")
    assert some("first_name", "\u200b", "\t")
    assert some("email", "info@", " (at) ", "<", "none@none", "+")
    assert some("phone", "ext.", "tel:", "00", "555-CALL-NOW", "(")
    assert some("linkedin_url", "HTTPS://WWW", "m.linkedin.com", "twitter.com")
    assert some("country_code", "??", "Europe", "UK")
    assert some("updated_at", "31/02/2024", "yesterday", "+00:00")
    assert some("company_name", "GmbH", "®")
    spellings = {row["personal_email_consent"] for row in rows}
    assert spellings >= {*samples._YES, *samples._NO, "maybe"}
    assert any("\u0600" <= letter <= "\u06ff" for row in rows for letter in row["last_name"])
    namesakes = [
        (row["first_name"], row["last_name"], row["company_name"])
        for row in rows
        if row["first_name"] and row["last_name"] and row["company_name"]
    ]
    assert len(set(namesakes)) < len(namesakes)
