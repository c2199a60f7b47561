"""enrich split: contacts that were taken for one human and are not."""

from datetime import UTC, datetime

import click

from enrich_pipeline.cli import session, terminal
from enrich_pipeline.cli.lock import unknown
from enrich_pipeline.store import decisions, merge, persons


@click.command()
@click.argument("contact_ids", nargs=-1, required=True, metavar="CONTACT_ID...")
def command(contact_ids: tuple[str, ...]) -> None:
    """Part these contacts from all others of their persons, for good.

    The contacts named stay together if they were together. What was bought stays with the person
    that keeps most contacts; the others may be enriched anew.

    \b
    Examples:
      enrich split 0031t00000A
      enrich split 0031t00000A 0031t00000B
    """
    settings = session.load()
    now = datetime.now(UTC)
    with session.database(settings) as engine, engine.begin() as connection:
        known = decisions.known_contacts(connection, contact_ids)
        if missing := sorted(set(contact_ids) - known):
            raise unknown(missing)
        summary = persons.split(connection, sorted(known), now)
        contacts = sorted({*contact_ids, *summary.contact_ids})
        merge.remerge(connection, settings.policy, contacts, now)
    terminal.out().print(
        f"{len(summary.contact_ids):,} contacts changed persons, {summary.new_persons:,} persons "
        "are new."
    )
