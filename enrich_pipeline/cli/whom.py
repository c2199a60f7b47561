"""How commands are told of whom they shall speak: options, and what they mean normalized."""

from collections.abc import Sequence

import click

from enrich_pipeline.domain import normalize
from enrich_pipeline.store.erasure import Person
from enrich_pipeline.store.tombstones import Identifier

CONTACT = click.option("--contact", "contacts", multiple=True, help="A contact's id; repeatable.")
EMAIL = click.option("--email", help="An e-mail address, of work or private.")
LINKEDIN = click.option("--linkedin", help="The address of a LinkedIn profile.")
PHONE = click.option("--phone", help="A telephone number with its country code, e.g. +49...")


def identifiers(
    contacts: tuple[str, ...], email: str | None, linkedin: str | None, phone: str | None
) -> list[Identifier]:
    """(kind, value) of everything that was given, normalized; messages never quote a value."""
    found: list[Identifier] = [("contact", contact) for contact in contacts]
    if email is not None:
        address = normalize.email(email).value
        if address is None:
            raise click.BadParameter("this is not an e-mail address", param_hint="--email")
        found.append(("email", address))
        if not normalize.is_role_mailbox(address):
            found.append(("email", normalize.mailbox(address)))
    if linkedin is not None:
        slug = normalize.linkedin_slug(linkedin).value
        if slug is None:
            raise click.BadParameter(
                "this is not the address of a LinkedIn profile", param_hint="--linkedin"
            )
        found.append(("linkedin", slug))
    if phone is not None:
        number = normalize.phone(phone, None).value
        if number is None:
            raise click.BadParameter(
                "this is not a telephone number with its country code", param_hint="--phone"
            )
        found.append(("phone", number))
    if not found:
        raise click.UsageError("say whom: by --contact, --email or another option")
    return list(dict.fromkeys(found))


def choose(persons: Sequence[Person]) -> str:
    """What is said where several persons are meant; ids are no values of a person."""
    listed = "; ".join(f"one has {', '.join(person.contact_ids)}" for person in persons)
    return (
        f"that is carried by {len(persons)} persons ({listed}): say which are meant with --contact"
    )
