"""Which contacts are one human: joining by screened identifiers, and persons that last.

Pure and deterministic: the result does not depend on the order of the contacts. Reading contacts
and writing persons is the store's. Identifiers that a provider returns never come here: they serve
to ask that provider again and join nobody.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations
from typing import Final, NamedTuple

from enrich_pipeline.domain.contact import Contact
from enrich_pipeline.domain.names import fold, name_key, names_agree, names_contradict
from enrich_pipeline.domain.normalize import (
    NameParts,
    is_role_mailbox,
    linkedin_slug_kind,
    mailbox,
)
from enrich_pipeline.domain.normalize.text import word_set


class IdentifierKind(StrEnum):
    """What can join two contacts."""

    LINKEDIN = "linkedin"
    EMAIL = "email"
    LANCE = "lance"
    PROSPEO = "prospeo"
    APOLLO = "apollo"


class Identifier(NamedTuple):
    """A screened identifier: its kind and canonical value."""

    kind: IdentifierKind
    value: str


_PROVIDER_KINDS: Final = (IdentifierKind.LANCE, IdentifierKind.PROSPEO, IdentifierKind.APOLLO)

# What a shared identifier is worth when a group has to be taken apart: the weakest ties go first. A
# profile names a human; an id was matched to one by a machine; a mailbox may change hands; that two
# contacts were one person before is only a memory of one of these.
_STRENGTH: Final = {
    IdentifierKind.LINKEDIN: 8,
    IdentifierKind.LANCE: 6,
    IdentifierKind.PROSPEO: 6,
    IdentifierKind.APOLLO: 6,
    IdentifierKind.EMAIL: 4,
}
_STRENGTH_REMEMBERED: Final = 1

# Pairs are weighed one by one up to this many carriers of an identifier; more are tied in a star.
_MAX_PAIRED: Final = 30

# Domains that forms are filled with where no address is to be given.
_PLACEHOLDER_DOMAINS: Final = word_set("""
    none.com na.com null.com test.com noemail.com nomail.com domain.com company.com unknown.com
    noreply.com invalid.com fake.com example.com example.org example.net
""")


@dataclass(frozen=True, slots=True)
class ContactKeys:
    """What person resolution reads of a contact."""

    contact_id: str
    name: NameParts = NameParts()
    identifiers: frozenset[Identifier] = frozenset()
    company: str | None = None


def keys_of(contact: Contact) -> ContactKeys:
    """Return the joining keys of a normalized contact, after placeholder and role screening."""
    found: list[Identifier] = []
    if contact.linkedin_slug is not None:
        found.append(Identifier(IdentifierKind.LINKEDIN, contact.linkedin_slug))
    for address in (contact.email, contact.personal_email):
        if address is not None and _joins(address):
            found.append(Identifier(IdentifierKind.EMAIL, mailbox(address)))
    for kind, value in zip(
        _PROVIDER_KINDS,
        (contact.lance_person_id, contact.prospeo_person_id, contact.apollo_person_id),
        strict=True,
    ):
        if value is not None:
            found.append(Identifier(kind, value))
    company = contact.company_domain or (contact.company_name and fold(contact.company_name))
    return ContactKeys(
        contact_id=contact.contact_id,
        name=NameParts(contact.first_name, contact.last_name, contact.full_name),
        identifiers=frozenset(found),
        company=company or None,
    )


def _joins(address: str) -> bool:
    return not is_role_mailbox(address) and address.partition("@")[2] not in _PLACEHOLDER_DOMAINS


class GroupReason(StrEnum):
    """Why the contacts of a group are one person."""

    ALONE = "alone"
    SHARED_IDENTIFIER = "shared_identifier"
    ALREADY_ONE_PERSON = "already_one_person"


@dataclass(frozen=True, slots=True)
class Group:
    """Contacts that are one human.

    `joined_by` are the identifiers that at least two of them share; `identifiers` are all that only
    this group carries and that may therefore point to its person.
    """

    contact_ids: tuple[str, ...]
    joined_by: tuple[Identifier, ...]
    identifiers: tuple[Identifier, ...]
    reason: GroupReason


class SuspectReason(StrEnum):
    """Why contacts look like one human and were not joined."""

    SAME_NAME_AND_COMPANY = "same_name_and_company"
    CONTESTED_IDENTIFIER = "contested_identifier"


@dataclass(frozen=True, slots=True)
class Suspect:
    """Contacts of different groups that a human may want to look at. Listed, never acted upon."""

    contact_ids: tuple[str, ...]
    reason: SuspectReason
    identifier: Identifier | None = None


@dataclass(frozen=True, slots=True)
class Resolution:
    """The groups of all contacts that were given, and what only looks like more.

    `contested` are identifiers that contacts of several groups carry: they point to nobody.
    """

    groups: tuple[Group, ...]
    suspects: tuple[Suspect, ...]
    contested: tuple[Identifier, ...]


def resolve(
    contacts: Sequence[ContactKeys],
    existing: Mapping[str, int] | None = None,
    splits: Collection[frozenset[str]] = (),
) -> Resolution:
    """Group contacts that are one human.

    An identifier whose carriers' names contradict joins nobody. The others join from the strongest
    tie to the weakest; a tie that would bring contradicting contacts into one group is not made.

    Args:
        contacts: The changed contacts and everything tied to them: with a contact come all that
            share an identifier with it and all of its person, and theirs. Each once.
        existing: contact_id to person_id of contacts that already belong to a person. They stay
            together unless something now contradicts it.
        splits: Pairs of contact ids that were taken apart by hand; they never meet in one group.
    """
    known = existing or {}
    by_id = {contact.contact_id: contact for contact in contacts}
    ordered = [by_id[contact_id] for contact_id in sorted(by_id)]
    carriers: dict[Identifier, list[ContactKeys]] = defaultdict(list)
    for contact in ordered:
        for identifier in contact.identifiers:
            carriers[identifier].append(contact)
    usable = {
        identifier: holders
        for identifier, holders in carriers.items()
        if len(holders) > 1 and not _any_names_contradict(holders)
    }
    clusters = _Clusters(ordered, splits)
    for one, other in _ties(usable, ordered, known):
        clusters.join(one, other)
    groups = _groups(clusters, carriers, usable)
    group_of = {
        contact_id: number
        for number, group in enumerate(groups)
        for contact_id in group.contact_ids
    }
    contested = sorted(
        identifier
        for identifier, holders in carriers.items()
        if len({group_of[holder.contact_id] for holder in holders}) > 1
    )
    suspects = [
        Suspect(_ids(carriers[identifier]), SuspectReason.CONTESTED_IDENTIFIER, identifier)
        for identifier in contested
    ]
    suspects += _namesakes(ordered, group_of)
    return Resolution(tuple(groups), tuple(suspects), tuple(contested))


def contradict(one: ContactKeys, other: ContactKeys) -> bool:
    """Return True where two contacts cannot be one human.

    Their names contradict; or one provider knows them under two ids; or they have two LinkedIn
    profiles and names that do not confirm each other. (Two profiles alone are no contradiction:
    people rename their profile, and exports keep the old address.)
    """
    if names_contradict(one.name, other.name):
        return True
    if any(_differ(one, other, kind) for kind in _PROVIDER_KINDS):
        return True
    return _have_two_profiles(one, other) and not names_agree(one.name, other.name)


def _differ(one: ContactKeys, other: ContactKeys, kind: IdentifierKind) -> bool:
    ones, others = _values(one, kind), _values(other, kind)
    return bool(ones) and bool(others) and ones.isdisjoint(others)


def _have_two_profiles(one: ContactKeys, other: ContactKeys) -> bool:
    ones, others = (_values(contact, IdentifierKind.LINKEDIN) for contact in (one, other))
    kinds = {linkedin_slug_kind(slug) for slug in ones}
    return ones.isdisjoint(others) and any(linkedin_slug_kind(slug) in kinds for slug in others)


def _values(contact: ContactKeys, kind: IdentifierKind) -> set[str]:
    return {i.value for i in contact.identifiers if i.kind is kind}


def _any_names_contradict(holders: Sequence[ContactKeys]) -> bool:
    names = sorted({holder.name for holder in holders}, key=repr)
    return any(names_contradict(one, other) for one, other in combinations(names, 2))


def _ties(
    usable: Mapping[Identifier, Sequence[ContactKeys]],
    ordered: Sequence[ContactKeys],
    known: Mapping[str, int],
) -> list[tuple[str, str]]:
    """Return pairs of contact ids to join, the strongest first, equals in order of their ids."""
    strength: dict[tuple[str, str], int] = defaultdict(int)
    for identifier, holders in usable.items():
        for pair in _pairs([holder.contact_id for holder in holders]):
            strength[pair] += _STRENGTH[identifier.kind]
    persons: dict[int, list[str]] = defaultdict(list)
    for contact in ordered:
        if contact.contact_id in known:
            persons[known[contact.contact_id]].append(contact.contact_id)
    for members in persons.values():
        for pair in _pairs(members):
            strength[pair] += _STRENGTH_REMEMBERED
    return sorted(strength, key=lambda pair: (-strength[pair], pair))


def _pairs(ids: Sequence[str]) -> Iterable[tuple[str, str]]:
    if len(ids) <= _MAX_PAIRED:
        return combinations(ids, 2)
    return ((ids[0], other) for other in ids[1:])


class _Clusters:
    """Disjoint sets of contacts that refuse to join where two members contradict."""

    def __init__(self, contacts: Sequence[ContactKeys], splits: Collection[frozenset[str]]) -> None:
        self._members = {contact.contact_id: [contact] for contact in contacts}
        # Contacts with equal names and identifiers contradict the same: compared once per cluster,
        # or a thousand copies of one row would cost half a million comparisons.
        self._faces = {contact.contact_id: {_face(contact): contact} for contact in contacts}
        self._root = {contact.contact_id: contact.contact_id for contact in contacts}
        self._apart: dict[str, set[str]] = defaultdict(set)
        for pair in splits:
            for contact_id in pair:
                self._apart[contact_id] |= pair - {contact_id}

    def join(self, one: str, other: str) -> None:
        keep, drop = sorted(
            (self._root[one], self._root[other]), key=lambda root: (-len(self._members[root]), root)
        )
        if keep == drop or self._split_by_hand(keep, drop) or self._contradict(keep, drop):
            return
        moved = self._members.pop(drop)
        self._members[keep].extend(moved)
        self._faces[keep].update(self._faces.pop(drop))
        for contact in moved:
            self._root[contact.contact_id] = keep

    def _split_by_hand(self, keep: str, drop: str) -> bool:
        return any(
            self._root.get(enemy) == keep
            for contact in self._members[drop]
            for enemy in self._apart.get(contact.contact_id, ())
        )

    def _contradict(self, keep: str, drop: str) -> bool:
        return any(
            contradict(one, two)
            for one in self._faces[keep].values()
            for two in self._faces[drop].values()
        )

    def members(self) -> Iterable[Sequence[ContactKeys]]:
        return self._members.values()


def _face(contact: ContactKeys) -> tuple[NameParts, frozenset[Identifier]]:
    return contact.name, contact.identifiers


def _groups(
    clusters: _Clusters,
    carriers: Mapping[Identifier, Sequence[ContactKeys]],
    usable: Mapping[Identifier, Sequence[ContactKeys]],
) -> list[Group]:
    groups = []
    for members in clusters.members():
        ids = _ids(members)
        within = set(ids)
        counts: dict[Identifier, int] = defaultdict(int)
        for member in members:
            for identifier in member.identifiers:
                counts[identifier] += 1
        joined_by = sorted(i for i, count in counts.items() if count > 1 and i in usable)
        own = sorted(i for i in counts if all(c.contact_id in within for c in carriers[i]))
        if len(ids) == 1:
            reason = GroupReason.ALONE
        elif joined_by:
            reason = GroupReason.SHARED_IDENTIFIER
        else:
            reason = GroupReason.ALREADY_ONE_PERSON
        groups.append(Group(ids, tuple(joined_by), tuple(own), reason))
    return sorted(groups, key=lambda group: group.contact_ids)


def _namesakes(ordered: Sequence[ContactKeys], group_of: Mapping[str, int]) -> list[Suspect]:
    meeting: dict[tuple[str, str], list[ContactKeys]] = defaultdict(list)
    for contact in ordered:
        key = name_key(contact.name)
        if key is not None and contact.company is not None:
            meeting[key, contact.company].append(contact)
    return [
        Suspect(_ids(holders), SuspectReason.SAME_NAME_AND_COMPANY)
        for _, holders in sorted(meeting.items())
        if len({group_of[holder.contact_id] for holder in holders}) > 1
    ]


def _ids(contacts: Iterable[ContactKeys]) -> tuple[str, ...]:
    return tuple(sorted(contact.contact_id for contact in contacts))


@dataclass(frozen=True, slots=True)
class Assignment:
    """The person of a group: an existing one, or None for a new one; and who merges into it."""

    group: Group
    person_id: int | None
    merged_person_ids: tuple[int, ...] = ()


def assign(groups: Sequence[Group], existing: Mapping[str, int]) -> tuple[Assignment, ...]:
    """Give every group its person.

    The oldest person (smallest id) of a group survives and the others of that group merge into it.
    A person whose contacts fell apart stays with the group that holds most of them, at a tie with
    the one that holds the smallest contact_id.

    Args:
        groups: Of `resolve`, which saw all contacts of every person in `existing`.
        existing: contact_id to person_id before.
    """
    holdings: dict[int, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for number, group in enumerate(groups):
        for contact_id in group.contact_ids:
            if contact_id in existing:
                holdings[existing[contact_id]][number].append(contact_id)
    claims: dict[int, list[int]] = defaultdict(list)
    for person_id, held in holdings.items():
        home = min(held, key=lambda number: (-len(held[number]), min(held[number])))
        claims[home].append(person_id)
    assignments = []
    for number, group in enumerate(groups):
        persons = sorted(claims[number])
        assignments.append(Assignment(group, persons[0] if persons else None, tuple(persons[1:])))
    return tuple(assignments)
