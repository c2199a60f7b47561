"""Contact files, CSV or Parquet, as a stream of rows: every line either a row or a reject.

Nothing is normalized and nothing is stored here. A file that cannot be understood as a whole (no
`contact_id` column, another delimiter, a workbook) is refused before its first row; a line that
cannot be understood is set aside and the rest is read.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import pyarrow
import pyarrow.parquet

from enrich_pipeline.domain.contact import COLUMNS
from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.intake.rejects import Reject, as_json

MAX_CELL: Final = 1_000_000
"""Longest cell, in characters, of a row that is loaded."""

# An unclosed quote swallows what follows; after this many characters the line that opened it is
# set aside and reading resumes with the next one.
_MAX_RECORD: Final = 16_000_000
_MAX_LINE: Final = 64_000_000
_OTHER_DELIMITERS: Final = {";": "semicolons (;)", "\t": "tabs", "|": "bars (|)"}
_OTHER_FORMATS: Final = (
    (b"PK\x03\x04", "a workbook or a ZIP archive: export it as CSV or unpack it"),
    (b"\x1f\x8b", "compressed: unpack it first"),
    (b"\xff\xfe", "encoded as UTF-16: export it as CSV in UTF-8"),
    (b"\xfe\xff", "encoded as UTF-16: export it as CSV in UTF-8"),
)
_PARQUET: Final = b"PAR1"
_PARQUET_ROWS: Final = 2_000
# What Arrow raises for a value that Python has no form for: text that is not UTF-8, the year 60000.
_NO_VALUE: Final = (ValueError, ArithmeticError, LookupError, pyarrow.ArrowException)


@dataclass(frozen=True, slots=True)
class Row:
    """One row: header name to raw cell. `line` counts from 1; in a Parquet file it is the row."""

    line: int
    cells: Mapping[str, object]


class ContactFile:
    """An opened contact file. Iterate it once; `encoding_notice` is complete after that."""

    def __init__(self, path: Path) -> None:
        """Read the header.

        Raises:
            ConfigurationError: the file is missing, or not a contact file as a whole.
        """
        self.path = path
        self.lines_in_other_encoding = 0
        self._header: tuple[str, ...] = ()
        try:
            with path.open("rb") as handle:
                start = handle.read(4)
        except OSError as error:
            raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
        self._is_parquet = start == _PARQUET
        for magic, advice in _OTHER_FORMATS:
            if start.startswith(magic):
                raise ConfigurationError(f"{path.name} is {advice}")
        if self._is_parquet:
            self._header = tuple(self._parquet().schema_arrow.names)
        else:
            with path.open("rb") as handle:
                self._header = self._read_header(_Lines(handle, self))
            self.lines_in_other_encoding = 0
        self._check_header()

    @property
    def ignored_columns(self) -> tuple[str, ...]:
        """Columns of the file that are not the contract's."""
        return tuple(name for name in self._header if name not in COLUMNS)

    @property
    def encoding_notice(self) -> str | None:
        """What was assumed about text that is not UTF-8, or None."""
        count = self.lines_in_other_encoding
        if not count:
            return None
        lines = "1 line is" if count == 1 else f"{count} lines are"
        return f"{lines} not UTF-8 and read as Windows-1252 (Latin-1)"

    def __iter__(self) -> Iterator[Row | Reject]:
        """Every row of the file in order, empty lines left out."""
        return self._parquet_rows() if self._is_parquet else self._csv_rows()

    def _check_header(self) -> None:
        if not any(self._header):
            raise ConfigurationError(f"{self.path.name} is empty: it has no header")
        if "contact_id" not in self._header:
            # The first line is not quoted: without a header it is a person's data.
            raise ConfigurationError(
                f"{self.path.name} has no column contact_id: its first line must name the columns, "
                f"which are {', '.join(COLUMNS)}"
            )
        repeated = sorted({n for n in self._header if n and self._header.count(n) > 1})
        if repeated:
            raise ConfigurationError(
                f"{self.path.name} has several columns called {', '.join(repeated)}: "
                "which one is meant cannot be known"
            )

    def _read_header(self, lines: "_Lines") -> tuple[str, ...]:
        csv.field_size_limit(_MAX_RECORD)
        try:
            cells = next(csv.reader(lines), [])
        except csv.Error:
            raise ConfigurationError(f"{self.path.name}: its first line cannot be read") from None
        header = tuple(_column_name(cell) for cell in cells)
        if "contact_id" not in header:
            text = "".join(lines.taken)
            for delimiter, name in _OTHER_DELIMITERS.items():
                others = next(csv.reader([text], delimiter=delimiter), [])
                if "contact_id" in map(_column_name, others) and len(others) > 1:
                    raise ConfigurationError(
                        f"{self.path.name} separates its columns by {name}: "
                        "export it again with commas; nothing was loaded"
                    )
        return header

    def _csv_rows(self) -> Iterator[Row | Reject]:
        with self.path.open("rb") as handle:
            lines = _Lines(handle, self)
            next(csv.reader(lines), None)
            reader = csv.reader(lines)
            while True:
                lines.start_record()
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error:
                    reader = csv.reader(lines)
                    yield self._set_aside_first_line(lines, "unreadable_line")
                    continue
                if len(lines.taken) > 1 and (
                    len(cells) != len(self._header) or lines.has_stray_quote()
                ):
                    # The quote was probably never meant as one: what follows are rows of their own.
                    yield self._set_aside_first_line(lines, "stray_quote")
                    continue
                if any(cell.strip() for cell in cells):
                    yield self._row(lines.first_line, cells)

    def _set_aside_first_line(self, lines: "_Lines", reason: str) -> Reject:
        first = lines.give_back_all_but_first()
        cells = next(csv.reader([first.rstrip("\r\n")]), [])
        raw = as_json([first.rstrip("\r\n")])
        return Reject(lines.first_line, self._contact_id(cells), reason, raw)

    def _row(self, line: int, cells: Sequence[str]) -> Row | Reject:
        contact_id = self._contact_id(cells)
        if len(cells) != len(self._header):
            reason = "too_few_cells" if len(cells) < len(self._header) else "too_many_cells"
            return Reject(line, contact_id, reason, as_json(cells))
        row = {name: cell for name, cell in zip(self._header, cells, strict=True) if name}
        if max(map(len, cells)) > MAX_CELL:
            return Reject(line, contact_id, "cell_too_long", as_json(row))
        return Row(line, row)

    def _contact_id(self, cells: Sequence[str]) -> str:
        position = self._header.index("contact_id")
        return cells[position].strip()[:200] if position < len(cells) else ""

    def _parquet(self) -> "pyarrow.parquet.ParquetFile":
        try:
            return pyarrow.parquet.ParquetFile(self.path)
        except (pyarrow.ArrowException, OSError):
            raise self._broken_parquet() from None

    def _parquet_batches(self) -> Iterator["pyarrow.RecordBatch"]:
        batches = self._parquet().iter_batches(batch_size=_PARQUET_ROWS)
        while True:
            try:
                batch = next(batches, None)
            except (pyarrow.ArrowException, OSError):
                raise self._broken_parquet() from None
            if batch is None:
                return
            yield batch

    def _broken_parquet(self) -> ConfigurationError:
        return ConfigurationError(f"{self.path.name} is not a complete Parquet file")

    def _parquet_rows(self) -> Iterator[Row | Reject]:
        line = 0
        for batch in self._parquet_batches():
            for cells, unreadable in _cells(batch):
                line += 1
                longest = max((len(v) for v in cells.values() if isinstance(v, str)), default=0)
                # What is in a column that nobody reads costs nobody a row.
                if longest > MAX_CELL or not unreadable.isdisjoint(COLUMNS):
                    reason = "cell_too_long" if longest > MAX_CELL else "unreadable_row"
                    contact_id = str(cells.get("contact_id") or "")[:200]
                    yield Reject(line, contact_id, reason, as_json(cells))
                else:
                    yield Row(line, cells)


def _cells(batch: "pyarrow.RecordBatch") -> Iterator[tuple[dict[str, object], set[str]]]:
    """The rows of a batch, each with the columns of which only a text for people could be read."""
    try:
        rows = batch.to_pylist()
    except _NO_VALUE:
        for place in range(batch.num_rows):
            cells: dict[str, object] = {}
            unreadable: set[str] = set()
            for name in batch.schema.names:
                cell = batch.column(name)[place]
                try:
                    cells[name] = cell.as_py()
                except _NO_VALUE:
                    cells[name] = _for_people(cell)
                    unreadable.add(name)
            yield cells, unreadable
        return
    for row in rows:
        yield row, set()


def _for_people(cell: "pyarrow.Scalar") -> str:
    if pyarrow.types.is_temporal(cell.type):
        return f"{cell.value} {cell.type}"  # the number behind it: Arrow too miswrites such years
    try:
        raw: bytes = cell.cast(pyarrow.binary()).as_py()
    except _NO_VALUE:
        return f"unreadable {cell.type}"
    return raw.decode(errors="backslashreplace")


class _Lines:
    """Physical lines of a CSV file as text, with those of the record at hand kept to go back to.

    Each line is decoded by itself, so that one line in another encoding does not spoil the others.
    """

    def __init__(self, handle: BinaryIO, file: ContactFile) -> None:
        self._source = self._decoded(handle)
        self._file = file
        self._returned: list[str] = []
        self._line = 0
        self.taken: list[str] = []
        self.first_line = 1

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._returned.pop() if self._returned else next(self._source)
        self._line += 1
        self.taken.append(line)
        return line

    def start_record(self) -> None:
        self.taken = []
        self.first_line = self._line + 1

    def has_stray_quote(self) -> bool:
        """Whether a quoted cell of the record is not closed where a cell ends."""
        try:
            next(csv.reader(self.taken, strict=True))
        except csv.Error:
            return True
        return False

    def give_back_all_but_first(self) -> str:
        first, *others = self.taken
        self._returned.extend(reversed(others))
        self._line -= len(others)
        return first

    def _decoded(self, handle: BinaryIO) -> Iterator[str]:
        is_first = True
        # A cap on the line keeps a file without line ends from filling the memory.
        for raw in iter(lambda: handle.readline(_MAX_LINE), b""):
            text = self._decode(raw, "utf-8-sig" if is_first else "utf-8")
            is_first = False
            if "\r" in text[:-2]:
                # Lines may end in a lone carriage return; inside quotes the reader puts it back.
                yield from _split_at_returns(text)
            else:
                yield text

    def _decode(self, raw: bytes, encoding: str) -> str:
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            self._file.lines_in_other_encoding += 1
        try:
            return raw.decode("cp1252")
        except UnicodeDecodeError:
            return raw.decode("latin-1")


def _split_at_returns(text: str) -> list[str]:
    parts = text.replace("\r\n", "\n").split("\r")
    ending = "\r\n" if text.endswith("\r\n") else "\n"
    lines = [part + "\r" for part in parts[:-1]]
    last = parts[-1]
    if last:
        lines.append(last[:-1] + ending if last.endswith("\n") else last)
    return lines


def _column_name(cell: str) -> str:
    return cell.strip().lower()
