"""Rows that are set aside instead of loaded, and the file that a load leaves of them."""

import csv
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Final, Self, TextIO

from enrich_pipeline.domain.errors import ConfigurationError

# Spreadsheets in East Asian settings read the full-width forms alike.
_FORMULA_STARTS: Final = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


@dataclass(frozen=True, slots=True)
class Reject:
    """One row that is not loaded. `row` is the raw row as JSON: nothing of it is lost."""

    line: int
    contact_id: str
    reason: str
    row: str


class RejectsFile:
    """The rejects of one load: columns line, contact_id, reason, row (the raw row as JSON).

    Readable by its owner only. It takes its name when the block ends well; without rejects there is
    no file, and one of an earlier load is removed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unfinished = path.with_name(f"{path.name}.part")
        self._handle: TextIO | None = None
        self.count = 0

    def __enter__(self) -> Self:
        return self

    def write(self, reject: Reject) -> None:
        if self._handle is None:
            self._handle = self._create()
            csv.writer(self._handle).writerow(("line", "contact_id", "reason", "row"))
        csv.writer(self._handle).writerow(
            (reject.line, _inert(reject.contact_id), reject.reason, reject.row)
        )
        self.count += 1

    def _create(self) -> TextIO:
        try:
            descriptor = os.open(self._unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"the rejects file {self._path} cannot be written: {error.strerror}"
            ) from None
        return os.fdopen(descriptor, "w", encoding="utf-8", newline="")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._handle is not None:
            self._handle.close()
        if kind is not None:
            self._unfinished.unlink(missing_ok=True)
        elif self.count:
            self._unfinished.replace(self._path)
        else:
            self._path.unlink(missing_ok=True)


def as_json(raw: object) -> str:
    """Return a raw row as JSON text that PostgreSQL takes too: it knows no NUL, NaN or Infinity."""
    try:
        written = json.dumps(raw, ensure_ascii=False, allow_nan=False, default=str)
    except ValueError:
        pass
    else:
        if "\\u0000" not in written:
            return written
    return json.dumps(_storable(raw), ensure_ascii=False, default=str)


def _storable(raw: object) -> object:
    if isinstance(raw, str):
        return raw.replace("\x00", "\ufffd")
    if isinstance(raw, float) and not isfinite(raw):
        return str(raw)
    if isinstance(raw, Mapping):
        return {_storable(key): _storable(value) for key, value in raw.items()}
    if isinstance(raw, list | tuple):
        return [_storable(value) for value in raw]
    return raw


def _inert(cell: str) -> str:
    """Keep a spreadsheet from running a cell as a formula; the raw row has it unchanged."""
    return f"'{cell}" if cell.startswith(_FORMULA_STARTS) else cell
