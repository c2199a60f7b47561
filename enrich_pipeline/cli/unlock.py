"""enrich unlock: a locked value may be enriched again."""

from datetime import UTC, datetime

import click

from enrich_pipeline.cli import session, terminal
from enrich_pipeline.cli.lock import CONTACT, FIELD, unknown
from enrich_pipeline.store import decisions, merge


@click.command()
@CONTACT
@FIELD
def command(contact_id: str, field: str) -> None:
    """Let FIELD of CONTACT_ID be enriched again; at once, what is known already takes its place.

    A lock that the source itself asks for comes back with the next load.

    \b
    Examples:
      enrich unlock 0031t00000A phone
    """
    settings = session.load()
    with session.database(settings) as engine, engine.begin() as connection:
        if not decisions.known_contacts(connection, [contact_id]):
            raise unknown([contact_id])
        was_locked = decisions.unlock_value(connection, contact_id, field)
        merge.remerge(connection, settings.policy, [contact_id], datetime.now(UTC))
    terminal.out().print("Unlocked." if was_locked else "It was not locked.")
