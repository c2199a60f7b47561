"""enrich erase: a person's values out of every table and file, and kept out."""

from collections.abc import Sequence
from datetime import UTC, datetime

import click
from sqlalchemy import Engine

from enrich_pipeline.cli import session, terminal, whom
from enrich_pipeline.cli.lock import unknown
from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.settings import Settings
from enrich_pipeline.store import erasure, personal_files
from enrich_pipeline.store.erasure import Erased, Person
from enrich_pipeline.store.tombstones import Identifier

OWN_SOURCE = "crm.contacts"


@click.command()
@whom.CONTACT
@whom.EMAIL
@whom.LINKEDIN
@whom.PHONE
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def command(
    contacts: tuple[str, ...],
    email: str | None,
    linkedin: str | None,
    phone: str | None,
    yes: bool,
) -> None:
    """Erase a person: every value in every table, stored request, reply, report and log.

    All contacts of the person go, those of the past too. What stays: amounts in the ledger, counts,
    and a keyed hash of each identifier, by which no later load takes the person in again and no
    night buys anything. An answer that is still under way, or lies unread in the inbox, is paid by
    the next run, and thrown away.
    Prints a receipt without personal data. A second time there is nothing left to erase.

    Not in reach of this command: a source table of your own (it says which rows to delete there),
    the files that you loaded, and what PostgreSQL keeps of the past, its write-ahead log and your
    backups: let them expire, and erase again after restoring one. Afterwards the tables are
    vacuumed, so that no query reaches the old rows; their bytes are overwritten in time, or at once
    by VACUUM FULL. Before PostgreSQL 18 the planner's statistics of a table that has become empty
    stay until it has rows again. A row that carries neither the ids nor an address known here
    cannot be recognized: nobody is kept out by a name or a telephone number, which others share.

    \b
    Examples:
      enrich erase --contact 0031t00000A
      enrich erase --email a.person@example.com --yes
    """
    identifiers = whom.identifiers(contacts, email, linkedin, phone)
    settings = session.load()
    with session.database(settings) as engine:
        _make_up(engine, settings)
        with engine.connect() as connection:
            persons = erasure.find(connection, identifiers)
            is_gone = not persons and erasure.was_erased(connection, identifiers)
        if not persons:
            _nobody(contacts, is_gone)
            return
        if len(persons) > 1 and any(kind != "contact" for kind, _ in identifiers):
            raise ConfigurationError(whom.choose(persons))
        if not yes:
            click.confirm(_question(persons), abort=True, err=True)
        _erase(engine, settings, persons, identifiers)


def _erase(
    engine: Engine, settings: Settings, persons: Sequence[Person], identifiers: list[Identifier]
) -> None:
    with terminal.working("Erasing") as show:
        with engine.begin() as connection:
            erased = erasure.erase(connection, persons, identifiers, datetime.now(UTC))
            rejects = personal_files.rejects_files(connection)
            ours, others = erasure.vacuumable(connection)
        show("Cleaning files", None, None)
        cleaned = personal_files.clean(settings.home, rejects, erased.contact_ids, erased.values)
        with engine.begin() as connection:
            erasure.note_files_done(connection)
        show("Vacuuming", None, None)
        if ours:
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                erasure.vacuum(connection, ours)
    _tell(erased, cleaned)
    if others:
        terminal.warn(
            f"this role may not vacuum {len(others)} of the tables: as their owner, "
            f"VACUUM (ANALYZE) {', '.join(others)}"
        )
    relation = settings.policy.source.relation
    if relation != OWN_SOURCE:
        key = settings.policy.source.columns.get("contact_id", "contact_id")
        rows = ", ".join(source_key for person in persons for source_key in person.source_keys)
        terminal.warn(
            f"{relation} is yours: delete its rows with {key} {rows}. Until then they are read "
            "and left out"
        )


def _make_up(engine: Engine, settings: Settings) -> None:
    """Files of an erasure that was cut off: whose they were is not known any more."""
    with engine.begin() as connection:
        cut_off = erasure.pending_files(connection)
        if cut_off is None:
            return
        old = personal_files.rejects_before(connection, cut_off)
        removed = personal_files.remove_rejects(connection, old)
        removed += personal_files.remove_pages(settings.home, cut_off)
        erasure.note_files_done(connection)
    terminal.note(
        f"An earlier erasure was cut off before its files: {removed} pages and rejects files of "
        "before were removed. `enrich report --date DATE` writes a page anew."
    )


def _nobody(contacts: tuple[str, ...], is_gone: bool) -> None:
    if is_gone:
        terminal.out().print("Erased before: nothing is left.")
    elif contacts:
        raise unknown(list(contacts))
    else:
        terminal.out().print(
            "Nobody is known by that: there is nothing to erase. `enrich suppress` keeps out "
            "whoever might come."
        )


def _question(persons: Sequence[Person]) -> str:
    ids = [contact_id for person in persons for contact_id in person.contact_ids]
    shown = ", ".join(ids[:20]) + (f" and {len(ids) - 20} more" if len(ids) > 20 else "")
    people = "1 person" if len(persons) == 1 else f"{len(persons)} persons"
    return f"Erase {people} with all {len(ids)} contacts: {shown}. This cannot be undone. Go on?"


def _tell(erased: Erased, cleaned: personal_files.Cleaned) -> None:
    receipt, out = erased.receipt, terminal.out()
    out.print(f"Receipt {receipt.erasure_id} of {receipt.erased_at:%Y-%m-%d %H:%M:%S} UTC")
    out.print(f"Request {receipt.request_hash}")
    out.print(f"{receipt.persons:,} persons, {receipt.contacts:,} contacts erased.")
    for table, rows in receipt.rows.items():
        if rows:
            out.print(f"  {table} {rows:,}")
    out.print(
        f"Files: {cleaned.pages:,} pages removed, {cleaned.rejects:,} rejected rows cut out, "
        f"{cleaned.masked:,} other files cleaned."
    )
    if receipt.open_calls:
        out.print(
            f"{receipt.open_calls:,} calls with them are open or written off: what comes for them "
            "is paid and thrown away; until they close they keep the provider's own id."
        )
