"""Is the answer about the person who was asked for?

A matched reply can be about a namesake or a predecessor in the mailbox. What contradicts is paid
for, kept for a person to judge, and never merged.
"""

from functools import lru_cache

from enrich_pipeline.domain.names import names_contradict
from enrich_pipeline.domain.normalize import linkedin_slug_kind
from enrich_pipeline.domain.normalize.person_names import NameParts, person_name
from enrich_pipeline.providers.protocol import Datapoint, PersonInputs, Subject


def contradiction(sent: PersonInputs, subject: Subject, provider: str) -> str | None:
    """Why `subject` cannot be the person that was sent to `provider`, or None."""
    own_id = sent.datapoints.get(ID_OF[provider]) if provider in ID_OF else None
    if own_id and subject.provider_id and own_id != subject.provider_id:
        return "provider_id"
    linkedin = sent.get(Datapoint.LINKEDIN)
    if linkedin and subject.linkedin and _are_two_profiles(linkedin, subject.linkedin):
        return "linkedin"
    found = _name_found(subject.first_name, subject.last_name, subject.full_name)
    if names_contradict(_name_sent(sent), found):
        return "name"
    return None


ID_OF = {
    "lance": Datapoint.LANCE_ID,
    "prospeo": Datapoint.PROSPEO_ID,
    "apollo": Datapoint.APOLLO_ID,
}
"""Under which datapoint a provider's own id of a person is known, where it has one."""


def _are_two_profiles(sent: str, found: str) -> bool:
    return sent != found and linkedin_slug_kind(sent) == linkedin_slug_kind(found)


def _name_sent(sent: PersonInputs) -> NameParts:
    return NameParts(
        sent.get(Datapoint.FIRST_NAME),
        sent.get(Datapoint.LAST_NAME),
        sent.get(Datapoint.FULL_NAME),
    )


@lru_cache(maxsize=10_000)
def _name_found(first: str | None, last: str | None, full: str | None) -> NameParts:
    """Kept: a name is asked about for each product of a call, and most providers spell it alike."""
    return person_name(first, last, full)
