"""Contact files as they arrive: every line is a row or a reject, or the file is refused."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.intake.file import ContactFile, Row
from enrich_pipeline.intake.rejects import Reject, RejectsFile


def read(path: Path) -> list[Row | Reject]:
    return list(ContactFile(path))


def written(tmp_path: Path, content: bytes, name: str = "contacts.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def only_row(rows: list[Row | Reject]) -> Mapping[str, object]:
    assert len(rows) == 1
    assert isinstance(rows[0], Row)
    return rows[0].cells


def test_byte_order_mark_quotes_and_crlf_are_not_part_of_the_values(tmp_path: Path) -> None:
    path = written(
        tmp_path, b'\xef\xbb\xbfcontact_id,full_name\r\n1,"Doe, ""Jane""\r\nII"\r\n2,Bob\r\n'
    )
    first, second = read(path)
    assert isinstance(first, Row)
    assert first.cells == {"contact_id": "1", "full_name": 'Doe, "Jane"\r\nII'}
    assert isinstance(second, Row)
    assert (second.line, second.cells["full_name"]) == (4, "Bob")


def test_lines_in_latin_1_are_read_and_the_assumption_is_stated(tmp_path: Path) -> None:
    text = "contact_id,full_name\n1,José\n2,Zoë\n"
    path = written(tmp_path, text.encode("latin-1"))
    file = ContactFile(path)
    names = [row.cells["full_name"] for row in file if isinstance(row, Row)]
    assert names == ["José", "Zoë"]
    assert file.encoding_notice == "2 lines are not UTF-8 and read as Windows-1252 (Latin-1)"


def test_one_line_in_another_encoding_does_not_spoil_the_utf_8_ones(tmp_path: Path) -> None:
    path = written(
        tmp_path, b"contact_id,full_name\n1," + "José\n2,".encode() + "Zoë\n".encode("latin-1")
    )
    file = ContactFile(path)
    assert [row.cells["full_name"] for row in file if isinstance(row, Row)] == ["José", "Zoë"]
    assert file.lines_in_other_encoding == 1


def test_bytes_that_windows_1252_does_not_know_are_read_too(tmp_path: Path) -> None:
    path = written(tmp_path, b"contact_id,full_name\n1,A\x81B\xe9\n")
    assert only_row(read(path))["full_name"] == "A\x81Bé"


@pytest.mark.parametrize(
    ("delimiter", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")]
)
def test_another_delimiter_is_named_and_nothing_is_read(
    tmp_path: Path, delimiter: str, name: str
) -> None:
    header = delimiter.join(("contact_id", "full_name", "email"))
    path = written(tmp_path, f"{header}\n1{delimiter}A{delimiter}a@b.com\n".encode())
    with pytest.raises(ConfigurationError, match=rf"by {name}.*with commas; nothing was loaded"):
        ContactFile(path)


def test_file_without_contact_id_is_refused_without_quoting_it(tmp_path: Path) -> None:
    path = written(tmp_path, b"Jane,Doe,jane@doe.org\n")
    with pytest.raises(ConfigurationError, match="has no column contact_id") as caught:
        ContactFile(path)
    assert "jane" not in str(caught.value).lower()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04rest", "workbook"),
        (b"\x1f\x8brest", "compressed"),
        (b"\xff\xfec\x00o\x00", "UTF-16"),
        (b"PAR1 cut off", "not a complete Parquet file"),
        (b"contact_id,email,Email\n1,a@b.co,c@d.co\n", "several columns called email"),
        (b'contact_id,"' + b"x" * 17_000_000, "first line cannot be read"),
    ],
)
def test_file_that_is_none_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ContactFile(written(tmp_path, content))


def test_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        ContactFile(tmp_path / "nowhere.csv")


def test_header_alone_is_a_file_without_rows(tmp_path: Path) -> None:
    assert read(written(tmp_path, b"contact_id,email\n")) == []


def test_unknown_columns_are_named_and_kept_in_the_raw_row(tmp_path: Path) -> None:
    file = ContactFile(written(tmp_path, b" Contact_ID ,shoe_size\n1,42\n\n,\n"))
    assert file.ignored_columns == ("shoe_size",)
    assert only_row(list(file)) == {"contact_id": "1", "shoe_size": "42"}


def test_ragged_rows_are_set_aside_and_their_neighbours_are_not(tmp_path: Path) -> None:
    path = written(tmp_path, b"contact_id,email,phone\n1,a@b.co\n2,,\n3,a@b.co,1,2\n4,,\n")
    rows = read(path)
    rejects = [r for r in rows if isinstance(r, Reject)]
    assert [(r.line, r.contact_id, r.reason) for r in rejects] == [
        (2, "1", "too_few_cells"),
        (4, "3", "too_many_cells"),
    ]
    assert json.loads(rejects[1].row) == ["3", "a@b.co", "1", "2"]
    assert [r.line for r in rows if isinstance(r, Row)] == [3, 5]


def test_cell_of_two_megabytes_costs_only_its_own_row(tmp_path: Path) -> None:
    huge = "x" * 2_000_000
    path = written(tmp_path, f'contact_id,email\n1,"{huge}"\n2,a@b.co\n'.encode())
    first, second = read(path)
    assert isinstance(first, Reject)
    assert (first.contact_id, first.reason) == ("1", "cell_too_long")
    assert json.loads(first.row) == {"contact_id": "1", "email": huge}
    assert isinstance(second, Row)


def test_quote_that_is_never_closed_costs_only_its_own_line(tmp_path: Path) -> None:
    path = written(tmp_path, b'contact_id,email\n1,"open\n2,a@b.co\n3,c@d.co\n')
    rows = read(path)
    assert isinstance(rows[0], Reject)
    assert (rows[0].line, rows[0].reason) == (2, "stray_quote")
    assert json.loads(rows[0].row) == ['1,"open']
    assert [(r.line, r.cells["contact_id"]) for r in rows[1:] if isinstance(r, Row)] == [
        (3, "2"),
        (4, "3"),
    ]


def test_quote_that_a_later_row_seems_to_close_swallows_no_rows(tmp_path: Path) -> None:
    path = written(tmp_path, b'contact_id,email\n1,"open\n2,a@b.co\n3,"c@d.co\n4,\n')
    rows = read(path)
    assert [r.line for r in rows if isinstance(r, Reject)] == [2, 4]
    assert [r.line for r in rows if isinstance(r, Row)] == [3, 5]


def test_quote_beyond_the_longest_record_costs_only_its_own_line(tmp_path: Path) -> None:
    filler = b"".join(b"%d,%s\n" % (n, b"x" * 900) for n in range(20_000))
    path = written(tmp_path, b'contact_id,email\nfirst,"open\n' + filler)
    rows = read(path)
    assert [r.contact_id for r in rows if isinstance(r, Reject)] == ["first"]
    assert len(rows) == 20_001


def test_lone_carriage_returns_end_lines(tmp_path: Path) -> None:
    path = written(tmp_path, b'contact_id,full_name\r1,"a\rb"\r2,c\r')
    assert [r.cells["full_name"] for r in read(path) if isinstance(r, Row)] == ["a\rb", "c"]


def test_parquet_rows_keep_their_types(tmp_path: Path) -> None:
    path = tmp_path / "contacts.parquet"
    frame = pd.DataFrame(
        {
            "contact_id": ["1", "2"],
            "do_not_enrich": [True, None],
            "updated_at": [datetime(2026, 1, 1, tzinfo=UTC), None],
            "email": ["a@b.co", "x" * 1_000_001],
        }
    )
    frame.to_parquet(path)
    first, second = read(path)
    assert isinstance(first, Row)
    assert (first.line, first.cells["do_not_enrich"]) == (1, True)
    assert isinstance(second, Reject)
    assert (second.line, second.contact_id, second.reason) == (2, "2", "cell_too_long")


def test_parquet_file_with_damaged_pages_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "contacts.parquet"
    pd.DataFrame({"contact_id": [f"contact {n}" for n in range(5_000)]}).to_parquet(path)
    content = bytearray(path.read_bytes())
    content[4:2_000] = b"\xff" * 1_996
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="not a complete Parquet file"):
        read(path)


def test_rejects_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    rejects = RejectsFile(tmp_path / "nowhere" / "rejects.csv")
    with rejects, pytest.raises(ConfigurationError, match=r"rejects\.csv cannot be written"):
        rejects.write(Reject(1, "", "too_few_cells", "[]"))


def test_rejects_are_for_their_owner_only_and_run_nothing_in_a_spreadsheet(
    tmp_path: Path,
) -> None:
    path = tmp_path / "contacts.csv.rejects.csv"
    with RejectsFile(path) as rejects:
        rejects.write(Reject(7, "=1+1", "too_few_cells", '["=1+1"]'))
    assert path.stat().st_mode & 0o077 == 0
    assert path.read_text() == ('line,contact_id,reason,row\n7,\'=1+1,too_few_cells,"[""=1+1""]"\n')


def test_without_rejects_an_earlier_rejects_file_goes(tmp_path: Path) -> None:
    path = tmp_path / "rejects.csv"
    path.write_text("old")
    with RejectsFile(path):
        pass
    assert not path.exists()


def _write_half(path: Path) -> None:
    with RejectsFile(path) as rejects:
        rejects.write(Reject(1, "", "too_few_cells", "[]"))
        raise KeyError


def test_failed_load_leaves_an_earlier_rejects_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "rejects.csv"
    path.write_text("old")
    with pytest.raises(KeyError):
        _write_half(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
