"""Loading a contact file into `crm.contacts`, the default source.

A file row adds to what is stored and never empties it. Reading the file is `intake/file.py`, what a
value means is `domain/contact.py`; the mirror and the persons follow through `intake/source.py`.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Engine

from enrich_pipeline.domain.contact import BadRow, normalize_contact
from enrich_pipeline.domain.normalize.text import clean
from enrich_pipeline.domain.policy import Policy
from enrich_pipeline.intake.file import ContactFile
from enrich_pipeline.intake.rejects import Reject, RejectsFile, as_json
from enrich_pipeline.intake.source import SyncSummary, identifiers_of, sync_source
from enrich_pipeline.store import contacts, locks, personal_files, tombstones
from enrich_pipeline.store.tombstones import Tombstones

FLAGS = ("personal_email_consent", "do_not_enrich")
Progress = Callable[[int], None]
"""Receives the number of rows handled so far."""

_PROGRESS_EVERY = 1_000


@dataclass(frozen=True, slots=True)
class LoadSummary:
    """What became of the rows of a file; all counts are rows unless they say otherwise.

    `values_left_out` counts the values that were made absent, by column and reason code
    (`phone: invalid_phone`). `persons`, `joined`, `suspected_duplicates` are those of the sync.
    """

    read: int
    inserted: int
    updated: int
    unchanged: int
    skipped_older: int
    rejected: dict[str, int]
    rejects_path: Path | None
    values_left_out: dict[str, int]
    ignored_columns: tuple[str, ...]
    encoding_notice: str | None
    sync: SyncSummary

    @property
    def loaded(self) -> int:
        return self.inserted + self.updated + self.unchanged

    @property
    def persons(self) -> int:
        """Persons in all after the load."""
        return self.sync.persons

    @property
    def joined(self) -> int:
        """Contacts that this load brought into a person that other contacts share."""
        return self.sync.joined

    @property
    def suspected_duplicates(self) -> int:
        return self.sync.suspected_duplicates


def load_file(
    engine: Engine,
    path: Path,
    policy: Policy,
    now: datetime,
    rejects_path: Path | None = None,
    on_progress: Progress | None = None,
) -> LoadSummary:
    """Load a contact file and bring mirror and persons up to date.

    An empty or unreadable cell leaves the stored value; a row whose `updated_at` is older than the
    stored one is skipped. Bad rows, skipped rows and the losers of a repeated contact_id go to
    `rejects_path` (default: FILE.rejects.csv) with the reason; of persons who were erased only the
    line. Loading a file twice changes nothing the second time.

    Raises:
        ConfigurationError: the file as a whole cannot be read; nothing was loaded.
    """
    file = ContactFile(path)
    target = rejects_path or path.with_name(f"{path.name}.rejects.csv")
    with RejectsFile(target) as rejects, engine.begin() as conn:
        tally = _Tally(rejects, on_progress)
        # Nobody is erased between the look at who was and the rows that are stored.
        locks.hold(conn, locks.LOAD)
        contacts.stage_rows(conn, _staged(file, now, tally, tombstones.read(conn)))
        for row in contacts.staged_rejects(conn):
            tally.reject(Reject(row.line, row.contact_id, row.reason, row.content))
        result = contacts.upsert_staged(conn, source=path.name, now=now)
        personal_files.note_rejects(conn, target, rejects.count, now)
    skipped_older = tally.rejected.pop(contacts.OLDER, 0)
    return LoadSummary(
        read=tally.read,
        inserted=result.inserted,
        updated=result.updated,
        unchanged=result.unchanged,
        skipped_older=skipped_older,
        rejected=dict(sorted(tally.rejected.items())),
        rejects_path=target if rejects.count else None,
        values_left_out=dict(sorted(tally.left_out.items())),
        ignored_columns=file.ignored_columns,
        encoding_notice=file.encoding_notice,
        sync=sync_source(engine, policy, now, on_progress),
    )


class _Tally:
    """What is counted, and set aside, while rows stream by."""

    def __init__(self, rejects: RejectsFile, on_progress: Progress | None) -> None:
        self.read = 0
        self.rejected: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self._rejects = rejects
        self._on_progress = on_progress

    def count(self) -> None:
        self.read += 1
        if self._on_progress is not None and self.read % _PROGRESS_EVERY == 0:
            self._on_progress(self.read)

    def reject(self, reject: Reject) -> None:
        self.rejected[reject.reason] += 1
        self._rejects.write(reject)


def _staged(
    file: ContactFile, now: datetime, tally: _Tally, erased: Tombstones
) -> Iterator[contacts.StagedRow]:
    for row in file:
        tally.count()
        if isinstance(row, Reject):
            tally.reject(row)
            continue
        try:
            contact, problems = normalize_contact(row.cells, now)
        except BadRow as error:
            raw_id = str(row.cells.get("contact_id") or "").strip()[:200]
            tally.reject(Reject(row.line, raw_id, error.reason, as_json(row.cells)))
            continue
        if erased.recognize(identifiers_of(contact)):
            # Not even the rejects say who it was: the line must do.
            tally.reject(Reject(row.line, "", tombstones.ERASED, ""))
            continue
        tally.left_out.update(f"{p.column}: {p.code}" for p in problems)
        yield contacts.StagedRow(
            line=row.line,
            contact=contact,
            empty=frozenset(name for name in FLAGS if _is_empty(row.cells.get(name))),
            content=as_json(row.cells),
            problems=as_json([{"column": p.column, "code": p.code} for p in problems]),
        )


def _is_empty(cell: object) -> bool:
    """Whether a cell says nothing, as `normalize_contact` reads it: not a number is nothing too."""
    return cell is None or cell != cell or (isinstance(cell, str) and not clean(cell))
