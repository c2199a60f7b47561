"""Values that mean harm, from the CRM and from providers: kept as text, never run."""

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest
from sqlalchemy import URL

from enrich_pipeline.intake.load import load_file
from enrich_pipeline.providers.http import ProviderClient
from enrich_pipeline.providers.protocol import HttpRequest, HttpResponse
from enrich_pipeline.waterfall.engine import Partition

from ..campaigns.mutations import FORMULAS, INVISIBLE, STATEMENTS
from ..support.lab import Bench, Lab, contact, contacts, only

HARMFUL = (*FORMULAS, *STATEMENTS, *INVISIBLE)
TABLES = "select count(*) from information_schema.tables where table_schema = 'enrichment'"


@pytest.fixture
def lab(bench: Bench, database: URL) -> Iterator[Lab]:
    with bench.lab(database, only({"profile": ["prospeo"]})) as lab:
        yield lab


class _Harming(ProviderClient):
    """Puts harmful texts into the answers of a client."""

    def __init__(self, inner: ProviderClient) -> None:
        self._inner = inner

    def send(
        self, request: HttpRequest, *, body: bytes | None = None, **options: Any
    ) -> HttpResponse:
        response = self._inner.send(request, body=body, **options)
        said = json.loads(response.body)
        for number, match in enumerate(said.get("matched") or []):
            match["person"]["current_job_title"] = HARMFUL[number % len(HARMFUL)]
            match["company"]["name"] = HARMFUL[(number + 1) % len(HARMFUL)]
        return replace(response, body=json.dumps(said).encode())

    def close(self) -> None:
        self._inner.close()


def test_harmful_values_of_a_provider_are_stored_as_text(lab: Lab) -> None:
    tables = lab.one(TABLES)
    lab.load(contacts(range(len(HARMFUL)), job_title="", company_name=""))
    lab.plan()
    with lab.waterfall() as waterfall:
        clients = cast("dict[str, ProviderClient]", waterfall._ctx.clients)
        clients["prospeo"] = _Harming(clients["prospeo"])
        waterfall.reuse(Partition(lab.today, 0))
        waterfall.attempt(Partition(lab.today, 0), "prospeo")
    titles = {
        value
        for (value,) in lab.sql(
            "select value from enrichment.observations where attribute = 'job_title'"
        )
    }
    assert {word for word in STATEMENTS if word in titles} == set(STATEMENTS)
    assert "=HYPERLINK" in "".join(titles)
    assert not any(letter in "".join(titles) for letter in "\0\x1b\u202e\u2066\u200b")
    assert lab.one(TABLES) == tables
    lab.assert_books()


def test_harmful_values_of_the_crm_are_loaded_as_text_and_inert_in_the_rejects(lab: Lab) -> None:
    tables = lab.one(TABLES)
    rows = [
        contact(number, job_title=word, company_name=word) for number, word in enumerate(HARMFUL)
    ]
    lab.load(rows)
    titles = {title for (title,) in lab.sql("select job_title from enrichment.contacts")}
    assert set(STATEMENTS) <= titles
    assert lab.one(TABLES) == tables

    path = lab.folder / "harmful.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["contact_id", "email"])
        writer.writerows([word, "x", "one cell too many"] for word in HARMFUL)
    summary = load_file(lab.engine, path, lab.settings.policy, lab.now)
    assert summary.rejects_path is not None
    with summary.rejects_path.open(newline="", encoding="utf-8") as file:
        rejected = list(csv.reader(file))
    assert len(rejected) > len(FORMULAS)
    starts = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
    assert not [cell for record in rejected for cell in record if cell.startswith(starts)]
