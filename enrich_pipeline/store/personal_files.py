"""Files that hold values of persons: rejects beside loaded files, pages and logs in ENRICH_HOME.

Where rejects lie is noted by every load. A page of a night can be written anew, so that one that
names somebody who was erased simply goes; of rejects the person's rows go; in other files the
person's values are overwritten in place. The data files of the embedded server are PostgreSQL's.
"""

import csv
import html
import json
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, text

_REPORTS: Final = "reports"
_SERVER: Final = "pg"
_MAX_FIELD: Final = 64_000_000
_TELLING: Final = 5
"""Shorter values stand for too much else."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What was found in files: pages removed, rows cut out of rejects, files with masked values."""

    pages: int = 0
    rejects: int = 0
    masked: int = 0


def note_rejects(conn: Connection, path: Path, rejects: int, now: datetime) -> None:
    """Remember where a load left rejected rows; without any there is no file."""
    if rejects == 0:
        conn.execute(
            text("delete from enrichment.rejects_files where path = :path"),
            {"path": str(path.resolve())},
        )
        return
    conn.execute(
        text("""
            insert into enrichment.rejects_files (path, rejects, written_at)
            values (:path, :rejects, :now)
            on conflict (path) do update
            set rejects = excluded.rejects, written_at = excluded.written_at
        """),
        {"path": str(path.resolve()), "rejects": rejects, "now": now},
    )


def rejects_files(conn: Connection) -> list[Path]:
    """The files with rejected rows that loads have left, as noted."""
    rows = conn.execute(text("select path from enrichment.rejects_files order by path")).scalars()
    return [Path(path) for path in rows]


def rejects_before(conn: Connection, before: datetime) -> list[Path]:
    """Files with rejected rows that loads left before a moment."""
    rows = conn.execute(
        text("""
            select path from enrichment.rejects_files where written_at < :before order by path
        """),
        {"before": before},
    ).scalars()
    return [Path(path) for path in rows]


def remove_rejects(conn: Connection, paths: Collection[Path]) -> int:
    """Remove files with rejected rows, and the note of them; returns how many there were."""
    for path in paths:
        path.unlink(missing_ok=True)
    return conn.execute(
        text("delete from enrichment.rejects_files where path = any(cast(:paths as text[]))"),
        {"paths": [str(path) for path in paths]},
    ).rowcount


def clean(
    home: Path, rejects: Collection[Path], contact_ids: Collection[str], values: Collection[str]
) -> Cleaned:
    """Take a person out of all files; a second time finds nothing.

    An id of the source may be a mere number: it counts as the person's on pages, which can be
    written anew, and in the column of rejects that holds ids.
    """
    telling = _pattern([value for value in values if len(value) >= _TELLING])
    named = _pattern([*values, *contact_ids])
    pages = cut = masked = 0
    for path in _files(home):
        is_page = path.parent == home / _REPORTS
        if not (named if is_page else telling).search(path.read_bytes()):
            continue
        if is_page:
            path.unlink()
            pages += 1
        else:
            _mask(path, telling)
            masked += 1
    for path in rejects:
        if path.is_file():
            cut += _cut_rows(path, frozenset(contact_ids), telling)
    return Cleaned(pages, cut, masked)


def remove_pages(home: Path, before: datetime) -> int:
    """Remove the pages of nights written before a moment; each can be written anew."""
    old = pages_before(home, before)
    for path in old:
        path.unlink(missing_ok=True)
    return len(old)


def pages_before(home: Path, before: datetime) -> list[Path]:
    """Files of the report folder last written before a moment."""
    folder = home / _REPORTS
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and datetime.fromtimestamp(path.stat().st_mtime, UTC) < before
    )


def _files(home: Path) -> Iterator[Path]:
    for path in sorted(home.rglob("*")):
        inside = path.relative_to(home).parts
        if inside[0] != _SERVER and path.is_file() and not path.is_symlink():
            yield path


def _pattern(values: Collection[str]) -> re.Pattern[bytes]:
    """The values as whole words in any spelling that a file may hold: plain, HTML or JSON."""
    spellings = {
        spelling
        for value in values
        for spelling in (value, html.escape(value), json.dumps(value)[1:-1])
        if value.strip()
    }
    words = "|".join(re.escape(s) for s in sorted(spellings, key=len, reverse=True)) or "(?!)"
    return re.compile(rf"(?<![0-9A-Za-z_])(?:{words})(?![0-9A-Za-z_])".encode(), re.IGNORECASE)


def _mask(path: Path, pattern: re.Pattern[bytes]) -> None:
    """In place and of the same length: a log that somebody writes to stays the same file."""
    with path.open("r+b") as file:
        content = file.read()
        for match in pattern.finditer(content):
            file.seek(match.start())
            file.write(b"*" * len(match.group()))


def _cut_rows(path: Path, contact_ids: frozenset[str], pattern: re.Pattern[bytes]) -> int:
    """Rows of rejects are line, contact_id, reason, row."""
    csv.field_size_limit(_MAX_FIELD)
    part = path.with_name(f"{path.name}.part")
    cut = 0
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with (
        path.open(encoding="utf-8", newline="") as source,
        os.fdopen(descriptor, "w", encoding="utf-8", newline="") as target,
    ):
        writer = csv.writer(target)
        for record in csv.reader(source):
            is_named = len(record) > 1 and record[1].removeprefix("'") in contact_ids
            if is_named or pattern.search("\n".join(record).encode()):
                cut += 1
            else:
                writer.writerow(record)
    if cut:
        part.replace(path)
    else:
        part.unlink()
    return cut
