"""enrich lock: a value that people vouch for stays as it is."""

from datetime import UTC, datetime

import click

from enrich_pipeline.cli import session, terminal
from enrich_pipeline.domain.enrichment import Field
from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.store import decisions, merge

CONTACT = click.argument("contact_id")
FIELD = click.argument("field", type=click.Choice([field.value for field in Field]))


@click.command()
@CONTACT
@FIELD
@click.option("--reason", default="by hand", show_default=True, help="Kept beside the lock.")
def command(contact_id: str, field: str, reason: str) -> None:
    """Keep the CRM's own value of FIELD of CONTACT_ID, and stop buying it for this contact.

    At once: what enrichment had put in its place is replaced by the CRM's value.

    \b
    Examples:
      enrich lock 0031t00000A phone
      enrich lock 0031t00000A profile --reason "confirmed by phone"
    """
    if reason.strip() == "source":
        raise click.UsageError("--reason source is what locks of the source itself are kept as")
    settings = session.load()
    with session.database(settings) as engine, engine.begin() as connection:
        if not decisions.known_contacts(connection, [contact_id]):
            raise unknown([contact_id])
        is_new = decisions.lock_value(connection, contact_id, field, reason.strip())
        merge.remerge(connection, settings.policy, [contact_id], datetime.now(UTC))
    terminal.out().print("Locked." if is_new else "It was locked already.")


def unknown(contact_ids: list[str]) -> ConfigurationError:
    """What is said of contacts that are not there; an id is no value of a person."""
    return ConfigurationError(
        f"unknown contact {', '.join(contact_ids)}: ids are those of the source, and a contact is "
        "known once `enrich load-contacts` or a night has read it"
    )
