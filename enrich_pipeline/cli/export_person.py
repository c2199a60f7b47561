"""enrich export-person: everything that is known of somebody, for that somebody."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import click

from enrich_pipeline.cli import session, terminal, whom
from enrich_pipeline.cli.lock import unknown
from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.store import erasure
from enrich_pipeline.store.export import SECTIONS, export


@click.command()
@whom.CONTACT
@whom.EMAIL
@whom.LINKEDIN
@whom.PHONE
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write, for its owner's eyes only (default: the standard output).",
)
def command(
    contacts: tuple[str, ...],
    email: str | None,
    linkedin: str | None,
    phone: str | None,
    out: Path | None,
) -> None:
    """Write what is known of a person as JSON: what somebody gets who asks for their data.

    One object with exported_at, persons (ids) and lists: contacts (as the source has them, with the
    raw row), current and history (what is shown), identifiers, values (each with provider, time,
    status and purpose), attempts (who was asked, what came of it), open_requests (what was sent and
    is not closed), about_somebody_else (answers that named another person, without their values),
    consents, suppression, locks and joins.

    \b
    Examples:
      enrich export-person --contact 0031t00000A
      enrich export-person --email a.person@example.com --out person.json
    """
    identifiers = whom.identifiers(contacts, email, linkedin, phone)
    settings = session.load()
    with session.database(settings) as engine, engine.connect() as connection:
        persons = erasure.find(connection, identifiers)
        if not persons:
            if contacts:
                raise unknown(list(contacts))
            raise ConfigurationError("nobody is known by that")
        if len(persons) > 1 and any(kind != "contact" for kind, _ in identifiers):
            raise ConfigurationError(whom.choose(persons))
        document = export(connection, persons, datetime.now(UTC))
    written = json.dumps(document, ensure_ascii=False, indent=2) + "\n"
    if out is None:
        click.echo(written, nl=False)
        return
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(written)
    except OSError as error:
        raise ConfigurationError(f"--out {out}: {error.strerror}") from None
    counts = ", ".join(f"{section} {len(document[section])}" for section in SECTIONS)
    terminal.out().print(f"{out}: {counts}", soft_wrap=True)
