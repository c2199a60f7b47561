"""One human, however they are named; one truth, whoever is asked."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from ..support.sandbox import SandboxProcess
from . import people
from .conftest import CERTAIN, QUICK, Client, rates

HEADER = (
    "contact_id", "first_name", "last_name", "full_name", "email", "linkedin_url", "company_name",
    "company_domain", "country_code", "lance_person_id", "prospeo_person_id", "apollo_person_id",
    "human_id",
)  # fmt: skip
LANCE = "5e717922-5e7c-4fbe-87a0-cda7cdce1fc0"
APOLLO = "84e6fe2da20774c8aa58dd14"


def write(path: Path, *rows: dict[str, str]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, HEADER, restval="")
        table.writeheader()
        table.writerows(rows)
    return path


def directory(folder: Path) -> Path:
    return write(
        folder / "directory.csv",
        {
            "contact_id": "1", "first_name": "Jörg", "last_name": "Weiß", "human_id": "joerg",
            "linkedin_url": " https://DE.linkedin.com/in/joerg-weiss-1/?x=1",
            "email": "J.Weiss+news@Lampwerk.de", "company_name": "Lampwerk", "country_code": "DE",
            "company_domain": "https://www.lampwerk.de/about", "apollo_person_id": APOLLO,
        },
        {
            "contact_id": "2", "full_name": "Weiß, Jörg", "human_id": "joerg",
            "lance_person_id": LANCE.upper(), "email": "info@lampwerk.de",
        },
        {
            "contact_id": "3", "first_name": "Ines", "last_name": "Falk", "human_id": "ines",
            "email": "info@lampwerk.de", "company_domain": "lampwerk.de",
        },
        {
            "contact_id": "4", "first_name": "Ines", "last_name": "Falk", "human_id": "other ines",
            "email": "ines2@lampwerk.de", "company_domain": "lampwerk.de",
        },
    )  # fmt: skip


def found(client: Client, **item: str) -> Any:
    sent = {"data": [{"identifier": "1", **item}]}
    return client.ask("prospeo", "/bulk-enrich-person", sent).json()


def test_all_identifiers_of_a_directory_human_lead_to_them(
    start: Callable[..., Client], tmp_path: Path
) -> None:
    client = start("--directory", directory(tmp_path))
    assert client.sandbox.health()["humans"] == 3
    items: list[dict[str, str]] = [
        {"linkedin_url": "http://www.linkedin.com/in/joerg-weiss-1"},
        {"email": "j.weiss@lampwerk.de"},
        {"full_name": "Jörg Weiss", "company_website": "lampwerk.de"},
    ]
    replies = [found(client, **item) for item in items]
    assert [reply["total_cost"] for reply in replies] == [1, 0, 0]
    assert replies[0]["matched"] == replies[1]["matched"] == replies[2]["matched"]
    person = replies[0]["matched"][0]["person"]
    assert (person["first_name"], person["last_name"]) == ("Jörg", "Weiß")
    assert person["email"]["email"] == "j.weiss@lampwerk.de"
    client.ask("apollo", "/people/bulk_match", {"details": [{"id": APOLLO}]})
    client.ask("lance", "/operations/enrichment/batch", {"personIds": [LANCE], "field": "emails"})
    humans = {row["human"] for row in client.sandbox.charges()}
    assert humans == {"joerg"}


def test_an_identifier_of_several_humans_names_nobody(
    start: Callable[..., Client], tmp_path: Path
) -> None:
    client = start("--directory", directory(tmp_path))
    assert found(client, email="info@lampwerk.de")["not_matched"] == ["1"]
    assert found(client, full_name="Ines Falk", company_website="lampwerk.de")["not_matched"]
    exact = found(client, full_name="Ines Falk", email="ines2@lampwerk.de")
    assert exact["matched"][0]["person"]["email"]["email"] == "ines2@lampwerk.de"


def test_double_charges_tell_whether_the_caller_could_know(
    start: Callable[..., Client], tmp_path: Path
) -> None:
    client = start("--directory", directory(tmp_path))

    def ask(identifier: str, **item: str) -> None:
        sent = {"inputs": [{"identifier": identifier, **item}], "fields": ["job_title"]}
        client.ask("agntdata", "/people/bulk-enrich", sent)

    profile = "https://www.linkedin.com/in/joerg-weiss-1"
    ask("a", linkedin_url=profile)
    assert client.sandbox.double_charges() == []
    ask("b", email="j.weiss@lampwerk.de")
    (row,) = client.sandbox.double_charges()
    assert (row["human"], row["times"], row["shares_identifier"]) == ("joerg", 2, False)
    ask("c", email="j.weiss@lampwerk.de", linkedin_url=f"{profile}/")
    (row,) = client.sandbox.double_charges()
    assert (row["times"], row["shares_identifier"]) == (3, True)
    client.sandbox.epoch(1)
    ask("a", linkedin_url=profile)
    assert len(client.sandbox.double_charges()) == 1


def test_contacts_and_persons_files_work_together(
    start: Callable[..., Client], tmp_path: Path
) -> None:
    contacts = directory(tmp_path)
    persons = tmp_path / "persons.csv"
    persons.write_text("contact_id,person_id\n1,7\n2,7\n3,8\n4,\n", encoding="utf-8")
    client = start("--directory-contacts", contacts, "--directory-persons", persons)
    found(client, email="j.weiss@lampwerk.de")
    found(client, email="ines2@lampwerk.de")
    labels = [row["human"] for row in client.sandbox.charges()]
    assert labels == ["person:7", "contact:4"]


def test_without_human_ids_shared_identifiers_make_one_human(
    start: Callable[..., Client], tmp_path: Path
) -> None:
    rows = [
        {"contact_id": "1", "full_name": "Ada Orr", "email": "ada@orr.io"},
        {"contact_id": "2", "full_name": "A. Orr", "email": "ada@orr.io",
         "linkedin_url": people.profile(1)},
        {"contact_id": "3", "full_name": "Ada Orr", "linkedin_url": people.profile(1)},
        {"contact_id": "4", "full_name": "Bo Lind", "email": "bo@orr.io"},
    ]  # fmt: skip
    path = tmp_path / "plain.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, HEADER[:-1], restval="")
        table.writeheader()
        table.writerows(rows)
    assert start("--directory", path).sandbox.health()["humans"] == 2


def test_providers_agree_on_the_truth(certain: Client) -> None:
    by_prospeo = found(certain, **{k: v for k, v in people.prospeo(1).items() if k != "identifier"})
    person = by_prospeo["matched"][0]["person"]
    sent = {
        "inputs": [people.agntdata(1, email=people.email(1))],
        "fields": ["email", "company_domain", "phone"],
    }
    by_agntdata = certain.ask("agntdata", "/people/bulk-enrich", sent).json()
    answer = by_agntdata["data"]["results"][0]["person"]
    assert answer["email"] == person["email"]["email"] == people.email(1)
    assert answer["company_domain"] == people.domain(1)
    humans = {row["human"] for row in certain.sandbox.charges()}
    assert len(humans) == 1


def test_what_a_provider_invented_leads_back_to_the_human(certain: Client) -> None:
    """A profile or an id learned from one answer and sent to another provider."""
    reply = found(certain, full_name="Ada Orr", company_website="orr.io")
    person = reply["matched"][0]["person"]
    assert found(certain, linkedin_url=person["linkedin_url"])["total_cost"] == 0
    assert found(certain, person_id=person["person_id"])["total_cost"] == 0
    assert found(certain, email=person["email"]["email"])["total_cost"] == 0


def test_people_change_jobs_as_the_epoch_moves(certain: Client) -> None:
    items = [people.prospeo(n) for n in range(50)]

    def employers() -> dict[str, tuple[str, str]]:
        reply = certain.ask("prospeo", "/bulk-enrich-person", {"data": items}).json()
        return {
            m["identifier"]: (m["company"]["domain"], m["person"]["email"]["email"])
            for m in reply["matched"]
        }

    before = employers()
    assert {domain for domain, _ in before.values()} == {people.domain(n) for n in range(7)}
    certain.sandbox.epoch(1)
    after = employers()
    moved = [name for name in before if before[name] != after[name]]
    assert 1 <= len(moved) <= 20
    assert all(after[name][1].endswith(after[name][0]) for name in moved)
    certain.sandbox.epoch(0)
    assert employers() == before


def test_answers_depend_on_the_seed_alone(http: httpx.Client) -> None:
    items = [people.prospeo(n) for n in range(50)]
    bodies = []
    for seed in (5, 5, 6):
        with SandboxProcess(["--seed", str(seed)]) as sandbox:
            client = Client(sandbox, http)
            reply = client.ask("prospeo", "/bulk-enrich-person", {"data": items}).json()
            bodies.append(reply)
    assert bodies[0] == bodies[1]
    assert bodies[0] != bodies[2]


def test_rates_are_about_what_they_say(usual: Client) -> None:
    matched = emails = mobiles = 0
    for start in range(0, 2000, 50):
        items = [people.prospeo(n) for n in range(start, start + 50)]
        sent = {"data": items, "enrich_mobile": True}
        reply = usual.ask("prospeo", "/bulk-enrich-person", sent).json()
        matched += len(reply["matched"])
        emails += sum(m["person"]["email"]["revealed"] for m in reply["matched"])
        mobiles += sum(m["person"]["mobile"]["revealed"] for m in reply["matched"])
    assert 0.70 < matched / 2000 < 0.78
    assert 0.58 < emails / 2000 < 0.66
    assert 0.34 < mobiles / 2000 < 0.42
    assert usual.sandbox.meter()["prospeo"]["other_persons"] > 0


def test_a_few_answers_are_about_somebody_else(start: Callable[..., Client]) -> None:
    client = start("--rate", "answer.other_person=1")
    item = {k: v for k, v in people.prospeo(1).items() if k != "identifier"}
    person = found(client, **item)["matched"][0]["person"]
    assert person["last_name"] != people.last(1)
    assert person["linkedin_url"] != people.profile(1)


def test_charges_survive_a_killed_sandbox(http: httpx.Client, tmp_path: Path) -> None:
    state = tmp_path / "meter.sqlite"
    with SandboxProcess([*QUICK, *rates(CERTAIN), "--state", state]) as sandbox:
        client = Client(sandbox, http)
        item = {k: v for k, v in people.prospeo(1).items() if k != "identifier"}
        assert found(client, **item)["total_cost"] == 1
        sandbox.kill()
        sandbox.start()
        assert sandbox.meter()["prospeo"]["charged_micro"] == 1_000_000
        assert found(client, **item)["total_cost"] == 0
        sandbox.reset()
        assert found(client, **item)["total_cost"] == 1
