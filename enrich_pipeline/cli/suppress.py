"""enrich suppress: somebody who must never be enriched, under whatever contact they come back."""

from datetime import UTC, datetime

import click

from enrich_pipeline.cli import session, terminal, whom
from enrich_pipeline.cli.lock import unknown
from enrich_pipeline.store import decisions, locks, merge, person_inputs


@click.command()
@click.option("--contact", help="A contact's id.")
@whom.EMAIL
@whom.LINKEDIN
@click.option("--reason", default="asked for", show_default=True, help="Kept beside it. No names.")
def command(contact: str | None, email: str | None, linkedin: str | None, reason: str) -> None:
    """Put somebody on the list of those who are never enriched.

    The list holds keyed hashes, not values. It blocks at once whoever is known by one of them: what
    is reserved is given back, what is in flight is paid and discarded. Whoever is loaded later with
    one of them is blocked too.

    \b
    Examples:
      enrich suppress --contact 0031t00000A
      enrich suppress --email a.person@example.com --reason "objection of 2026-11-21"
    """
    identifiers = whom.identifiers(() if contact is None else (contact,), email, linkedin, None)
    settings = session.load()
    with session.database(settings) as engine, engine.begin() as connection:
        if contact is not None and not decisions.known_contacts(connection, [contact]):
            raise unknown([contact])
        # As a sync does, and before anything else: both write what may be sent of persons.
        locks.share(connection, locks.PERSONS)
        added = decisions.suppress(connection, identifiers, reason.strip())
        found = decisions.contacts_of(connection, identifiers)
        carriers = sorted(set(found.values()))
        person_inputs.refresh_inputs(connection, carriers)
        # As it now stands, not as it was meant: whoever reads this relies on it.
        blocked = person_inputs.blocked(connection, carriers)
        contacts = sum(person in blocked for person in found.values())
        merge.remerge(connection, settings.policy, list(found), datetime.now(UTC))
    terminal.out().print(
        f"{added} of {len(identifiers)} are new on the list; it blocks "
        f"{len(blocked):,} persons with {contacts:,} contacts now."
    )
