"""Mutated contact files, loaded into a database as a user would."""

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from sqlalchemy import Engine, make_url, text

from enrich_pipeline.intake.load import load_file
from enrich_pipeline.settings import load as load_settings
from enrich_pipeline.store import connection

from ..support.lab import contact
from . import mutations
from .fuzz_reading import Tally, memory_bytes

COLUMNS = tuple(contact(0))


def rows(database: str, folder: Path, seed: int, first: int, count: int) -> Tally:
    """A contact file of mutated rows, every tenth of them sound, loaded as a user would."""
    tally = Tally()
    path = folder / f"rows-{first}.csv"
    sound = []
    with path.open("wb") as file:
        file.write((",".join(COLUMNS) + "\n").encode())
        for number in range(first, first + count):
            random = Random(f"{seed}:row:{number}")
            cells = contact(number, contact_id=f"c{number:07d}")
            if number % 10 == 0:
                sound.append(cells["contact_id"])
                file.write((",".join(cells.values()) + "\n").encode())
            else:
                file.write(mutations.line(random, list(cells.values())))
    tally.inputs = count
    place = f"rows {first} to {first + count - 1}"
    engine = connection.create_engine(make_url(database), pool_size=1)
    try:
        tally.violations += [f"{place}: {fault}" for fault in _load(engine, path, sound, tally)]
    except Exception as error:  # noqa: BLE001  (what this campaign looks for)
        tally.exceptions += 1
        tally.violations.append(f"{place}: {type(error).__name__}")
    finally:
        engine.dispose()
    tally.memory_bytes = memory_bytes()
    return tally


def _load(engine: Engine, path: Path, sound: Sequence[str], tally: Tally) -> Iterator[str]:
    policy = load_settings({}, path.parent).policy
    summary = load_file(engine, path, policy, datetime.now(UTC))
    path.unlink()
    told = summary.loaded + summary.skipped_older + sum(summary.rejected.values())
    tally.dispositions.update(
        {"loaded": summary.loaded, "rejected": sum(summary.rejected.values())}
    )
    if told != summary.read:
        tally.doubled_verdicts += 1
        yield f"verdicts: {told} for {summary.read} rows"
    kept = ""
    if summary.rejects_path is not None:
        kept = summary.rejects_path.read_text(encoding="utf-8", errors="surrogatepass")
        for record in csv.reader(io.StringIO(kept, newline="")):
            if any(cell[:1] in tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20") for cell in record):
                yield "rejects: a cell that a spreadsheet runs as a formula"
        summary.rejects_path.unlink()
    with engine.connect() as conn:
        stored = set(conn.execute(text("select contact_id from crm.contacts")).scalars())
        missing = [one for one in sound if one not in stored and one not in kept]
        if missing:
            inside = conn.execute(
                text("""
                    select count(*) from unnest(cast(:ids as text[])) as lost(id)
                    where not exists (
                        select 1 from crm.contact_rows as r
                        where position(lost.id in cast(r.content as text)) > 0)
                """),
                {"ids": missing},
            ).scalar_one()
            if inside:
                yield f"lost: {inside} sound rows are neither loaded nor set aside"
