"""Loading files into PostgreSQL: what is stored, what is left, what is set aside."""

import csv
import json
import os
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from enrich_pipeline.domain.contact import COLUMNS
from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.intake.load import LoadSummary, load_file
from enrich_pipeline.store import contacts, locks
from enrich_pipeline_tests.support.contacts import NOW, policy, rows_of
from enrich_pipeline_tests.support.statements import counted

HEADER = "contact_id,full_name,email,phone,country_code,do_not_enrich,updated_at,email_verified_at"


def load(engine: Engine, tmp_path: Path, *lines: str, header: str = HEADER) -> LoadSummary:
    path = tmp_path / "contacts.csv"
    path.write_text("\n".join((header, *lines)) + "\n")
    return load_file(engine, path, policy(), NOW)


def load_columns(engine: Engine, tmp_path: Path, **columns: object) -> LoadSummary:
    path = tmp_path / "contacts.parquet"
    pyarrow.parquet.write_table(pa.table(columns), path)
    return load_file(engine, path, policy(), NOW)


def rejects(summary: LoadSummary) -> list[tuple[str, ...]]:
    assert summary.rejects_path is not None
    with summary.rejects_path.open(newline="") as handle:
        return [tuple(row) for row in csv.reader(handle)][1:]


def snapshot(engine: Engine) -> list[object]:
    tables = (
        "crm.contacts",
        "crm.contact_rows",
        "enrichment.contacts",
        "enrichment.contact_identifiers",
        "enrichment.contact_persons",
        "enrichment.persons",
        "enrichment.person_identifiers",
        "enrichment.person_inputs",
        "enrichment.suspected_duplicates",
        "analytics.dim_contacts",
        "analytics.dim_contact_history",
    )
    return [rows_of(engine, f"table {name}") for name in tables]


def test_good_values_are_stored_normalized_and_bad_ones_left_out_with_a_reason(
    engine: Engine, tmp_path: Path
) -> None:
    summary = load(engine, tmp_path, "1,Ada Lovelace,ADA@Example.ORG,n/a,Germany,,2026-09-01,")
    assert (summary.read, summary.inserted, summary.loaded) == (1, 1, 1)
    assert summary.values_left_out == {"phone: null_word": 1}
    assert rows_of(engine, "select email, phone, country_code from crm.contacts") == [
        ("ada@example.org", None, "DE")
    ]
    ((content, problems),) = rows_of(engine, "select content, problems from crm.contact_rows")
    assert content["email"] == "ADA@Example.ORG"
    assert problems == [{"column": "phone", "code": "null_word"}]


def test_loading_the_same_file_twice_changes_nothing(engine: Engine, tmp_path: Path) -> None:
    lines = [f"{n},Jane Doe{n},jane{n}@acme.org,,,,2026-01-01," for n in range(20)]
    load(engine, tmp_path, *lines)
    before = snapshot(engine)
    again = load(engine, tmp_path, *lines)
    assert (again.inserted, again.updated, again.unchanged) == (0, 0, 20)
    assert (again.sync.added, again.sync.updated, again.sync.removed) == (0, 0, 0)
    assert snapshot(engine) == before


def test_empty_or_unreadable_cell_leaves_the_stored_value(engine: Engine, tmp_path: Path) -> None:
    load(engine, tmp_path, "1,Ada Byron,ada@acme.org,+49 30 901820,DE,yes,2026-01-01,2026-01-01")
    summary = load(engine, tmp_path, "1,,not an address,,,,2026-02-01,")
    assert summary.values_left_out == {"email: invalid_email": 1}
    assert rows_of(
        engine,
        "select full_name, email, phone, do_not_enrich, email_verified_at is not null,"
        " updated_at::date::text from crm.contacts",
    ) == [("Ada Byron", "ada@acme.org", "+4930901820", True, True, "2026-02-01")]


def test_new_value_without_a_date_does_not_inherit_the_old_ones_date(
    engine: Engine, tmp_path: Path
) -> None:
    load(engine, tmp_path, "1,Ada,ada@old.org,,,,2026-01-01,2026-01-01")
    load(engine, tmp_path, "1,Ada,ada@new.org,,,,2026-02-01,")
    assert rows_of(engine, "select email, email_verified_at from crm.contacts") == [
        ("ada@new.org", None)
    ]


def test_row_older_than_the_stored_one_is_skipped_counted_and_kept(
    engine: Engine, tmp_path: Path
) -> None:
    load(engine, tmp_path, "1,Ada,ada@new.org,,,,2026-02-01,")
    summary = load(engine, tmp_path, "1,Ada,ada@old.org,,,,2026-01-01,")
    assert (summary.skipped_older, summary.loaded, summary.rejected) == (1, 0, {})
    assert rows_of(engine, "select email from crm.contacts") == [("ada@new.org",)]
    ((line, contact_id, reason, row),) = rejects(summary)
    assert (line, contact_id, reason) == ("2", "1", "older_than_stored")
    assert json.loads(row)["email"] == "ada@old.org"


def test_of_a_repeated_contact_id_the_newest_row_loads_else_the_last(
    engine: Engine, tmp_path: Path
) -> None:
    summary = load(
        engine,
        tmp_path,
        "1,A,new@acme.org,,,,2026-02-01,",
        "1,A,old@acme.org,,,,2026-01-01,",
        "2,B,first@acme.org,,,,,",
        "2,B,last@acme.org,,,,,",
        "3,C,dated@acme.org,,,,2020-01-01,",
        "3,C,undated@acme.org,,,,,",
    )
    assert summary.rejected == {"repeated_contact_id": 3}
    assert rows_of(engine, "select email from crm.contacts order by contact_id") == [
        ("new@acme.org",),
        ("last@acme.org",),
        ("dated@acme.org",),
    ]
    assert [row[0] for row in rejects(summary)] == ["3", "4", "7"]


def test_bad_rows_are_rejected_and_all_others_load(engine: Engine, tmp_path: Path) -> None:
    summary = load(
        engine,
        tmp_path,
        "1,A,a@acme.org,,,,,",
        ",B,b@acme.org,,,,,",
        "3,C",
        "4,D," + "d" * 2_000_000 + ",,,,,",
        "x" * 300 + ",E,,,,,,",
        "6,F,f@acme.org,,,,,",
    )
    assert summary.read == 6
    assert summary.rejected == {
        "cell_too_long": 1,
        "contact_id_too_long": 1,
        "missing_contact_id": 1,
        "too_few_cells": 1,
    }
    assert rows_of(engine, "select contact_id from crm.contacts order by 1") == [("1",), ("6",)]
    assert [(row[0], row[2]) for row in rejects(summary)] == [
        ("3", "missing_contact_id"),
        ("4", "too_few_cells"),
        ("5", "cell_too_long"),
        ("6", "contact_id_too_long"),
    ]
    assert len(json.loads(rejects(summary)[2][3])["email"]) == 2_000_000


def test_every_cell_of_a_file_ends_in_the_database_or_among_the_rejects(
    engine: Engine, tmp_path: Path
) -> None:
    lines = ["1,A,junk one,,,,,", "2,B", "1,A,junk two,,,,,", "3,C,c@acme.org,,,,,"]
    summary = load(engine, tmp_path, *lines)
    kept = json.dumps(rows_of(engine, "select content from crm.contact_rows"))
    aside = json.dumps(rejects(summary))
    for cell in ("junk one", "junk two", "c@acme.org", '"B', '"C"'):
        assert cell in kept or cell in aside.replace("\\", "")


def test_unreadable_flag_fails_closed_and_an_empty_one_changes_nothing(
    engine: Engine, tmp_path: Path
) -> None:
    header = "contact_id,personal_email_consent,do_not_enrich"
    load(engine, tmp_path, "1,yes,no", "2,yes,no", header=header)
    load(engine, tmp_path, "1,maybe,perhaps", "2,,", header=header)
    assert rows_of(
        engine, "select personal_email_consent, do_not_enrich from crm.contacts order by contact_id"
    ) == [(False, True), (True, False)]


@pytest.mark.parametrize("cell", ["", " ", "\u200b", "\ufeff ", "\x00", "\xa0"])
def test_flag_of_invisible_characters_leaves_a_stored_refusal(
    engine: Engine, tmp_path: Path, cell: str
) -> None:
    header = "contact_id,personal_email_consent,do_not_enrich"
    load(engine, tmp_path, "1,yes,yes", header=header)
    load(engine, tmp_path, f"1,{cell},{cell}", header=header)
    assert rows_of(engine, "select personal_email_consent, do_not_enrich from crm.contacts") == [
        (True, True)
    ]


def test_flag_that_is_not_a_number_leaves_a_stored_refusal(engine: Engine, tmp_path: Path) -> None:
    load(engine, tmp_path, "1,yes", "2,yes", header="contact_id,do_not_enrich")
    load_columns(engine, tmp_path, contact_id=["1", "2"], do_not_enrich=[float("nan"), 0.0])
    assert rows_of(engine, "select do_not_enrich from crm.contacts order by contact_id") == [
        (True,),
        (False,),
    ]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("column", ["phone", "shoe_size"])
def test_number_that_is_none_costs_no_row(
    engine: Engine, tmp_path: Path, column: str, number: float
) -> None:
    cells = {"contact_id": ["1", "2"], column: [number, 42.0], "sizes": [[number], []]}
    summary = load_columns(engine, tmp_path, **cells)
    assert (summary.loaded, summary.rejected) == (2, {})
    contents = rows_of(engine, "select content from crm.contact_rows order by contact_id")
    assert contents[0][0] == {"contact_id": "1", column: str(number), "sizes": [str(number)]}
    assert contents[1][0][column] == 42.0
    again = load_columns(engine, tmp_path, **cells)
    assert again.unchanged == 2


def _not_utf8(*texts: bytes) -> pa.Array:
    return pa.Array.from_buffers(pa.string(), len(texts), pa.array(texts).buffers())


FAR_FUTURE = pa.array([0, 2**60, 0]).cast(pa.timestamp("us", "UTC"))


@pytest.mark.parametrize(
    ("column", "values", "kept"),
    [
        ("email", _not_utf8(b"a@acme.org", b"b\xff@acme.org", b"c@acme.org"), r"b\xff@acme.org"),
        ("updated_at", FAR_FUTURE, "1152921504606846976 timestamp"),
        (
            "created_at",
            pa.array([0, 2**31 - 1, 0], pa.int32()).cast(pa.date32()),
            "2147483647 date",
        ),
        ("segment", pa.ListArray.from_arrays([0, 1, 2, 3], _not_utf8(b"", b"\xff", b"")), "list"),
    ],
)
def test_value_that_cannot_be_read_costs_only_its_own_row(
    engine: Engine, tmp_path: Path, column: str, values: pa.Array, kept: str
) -> None:
    cells = {"contact_id": ["1", "2", "3"], "full_name": ["A", "B", "C"], column: values}
    summary = load_columns(engine, tmp_path, **cells)
    assert (summary.read, summary.loaded, summary.rejected) == (3, 2, {"unreadable_row": 1})
    assert rows_of(engine, "select full_name from crm.contacts order by 1") == [("A",), ("C",)]
    ((line, contact_id, reason, row),) = rejects(summary)
    assert (line, contact_id, reason) == ("2", "2", "unreadable_row")
    assert json.loads(row)["full_name"] == "B"
    assert kept in json.loads(row)[column]


def test_value_that_cannot_be_read_costs_no_row_in_a_column_that_nobody_reads(
    engine: Engine, tmp_path: Path
) -> None:
    summary = load_columns(engine, tmp_path, contact_id=["1", "2", "3"], seen=FAR_FUTURE)
    assert (summary.loaded, summary.rejected, summary.ignored_columns) == (3, {}, ("seen",))
    ((content,),) = rows_of(engine, "select content from crm.contact_rows where contact_id = '2'")
    assert content["seen"] == "1152921504606846976 timestamp[us, tz=UTC]"


def test_nul_characters_and_injections_are_only_text(engine: Engine, tmp_path: Path) -> None:
    load(
        engine,
        tmp_path,
        "1,Robert'); drop table crm.contacts;--,a\x00b@acme.org,,,,,",
        "2,\x00,:email %s {x},,,,,",
    )
    assert rows_of(engine, "select count(*) from crm.contacts") == [(2,)]
    assert rows_of(engine, "select count(*) from enrichment.contacts") == [(2,)]


def test_refused_file_loads_nothing(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="semicolons"):
        load(engine, tmp_path, "1;A", header="contact_id;full_name")
    assert rows_of(engine, "select count(*) from crm.contacts") == [(0,)]


def test_statements_do_not_depend_on_the_number_of_contacts(engine: Engine, tmp_path: Path) -> None:
    with counted(engine) as few:
        load(engine, tmp_path, *_people(5))
    with counted(engine) as many:
        load(engine, tmp_path, *_people(900))
    assert len(many) == len(few)


def _people(count: int) -> Iterable[str]:
    return [f"{n},Jane Number{n},jane{n}@acme.org,,,,2026-01-01," for n in range(count)]


def test_mirror_understands_what_was_loaded_as_the_load_did(engine: Engine, tmp_path: Path) -> None:
    load(
        engine,
        tmp_path,
        'a,"Müller, Dr. Jörg",joerg@bücher.de,030 901820,DE,,2026-01-01,2025-01-01',
        "b,李 小龍,info@acme.org,,,,2026-01-01,",
        "c,mary-jane O'NEILL jr.,mj+x@acme.org,(212) 555-0147,us,,,",
    )
    same = " and ".join(
        f"c.{name} is not distinct from m.{name}"
        for name in COLUMNS
        if name not in ("linkedin_url", "personal_email_consent", "do_not_enrich")
    )
    both = "select count(*) from crm.contacts c join enrichment.contacts m using (contact_id)"
    assert rows_of(engine, f"{both} where {same}") == [(3,)]


TRUTH = os.environ.get("ENRICH_TRUTH_DIR")


@pytest.mark.skipif(TRUTH is None, reason="ENRICH_TRUTH_DIR names no folder with a truth file")
def test_persons_of_the_sample_export_are_the_true_ones(engine: Engine, tmp_path: Path) -> None:
    folder = Path(TRUTH or "")
    later = NOW + timedelta(days=365)
    load_file(engine, folder / "crm_contacts.csv", policy(), later, tmp_path / "rejects.csv")
    found = dict(rows_of(engine, "select contact_id, person_id from enrichment.contacts"))
    with (folder / "crm_contacts_persons.csv").open(newline="") as handle:
        truth = {row["contact_id"]: row for row in csv.DictReader(handle)}
    humans: dict[int, set[str]] = {}
    for contact_id, person_id in found.items():
        humans.setdefault(person_id, set()).add(truth[contact_id]["person_id"] or contact_id)
    false_joins = sum(1 for several in humans.values() if len(several) > 1)
    shared = [row for row in truth.values() if row["shared_identifiers"]]
    joined = sum(found[row["contact_id"]] == found[row["duplicate_of"]] for row in shared)
    assert set(found) == set(truth)
    assert false_joins <= len(humans) / 1_000
    assert joined >= 0.97 * len(shared)


def test_load_waits_for_another_load(engine: Engine) -> None:
    with engine.begin() as one, engine.begin() as other:
        locks.hold(one, locks.LOAD)
        other.execute(text("set local lock_timeout = '50ms'"))
        with pytest.raises(OperationalError, match="lock timeout"):
            contacts.stage_rows(other, [])
        other.rollback()
