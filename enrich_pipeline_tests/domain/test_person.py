import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enrich_pipeline.domain.contact import Contact
from enrich_pipeline.domain.normalize import person_name
from enrich_pipeline.domain.person import (
    ContactKeys,
    GroupReason,
    Identifier,
    IdentifierKind,
    SuspectReason,
    assign,
    contradict,
    keys_of,
    resolve,
)


def keys(contact_id: str, name: str = "", company: str | None = None, **ids: str) -> ContactKeys:
    return ContactKeys(
        contact_id,
        person_name(None, None, name),
        frozenset(Identifier(IdentifierKind(kind), value) for kind, value in ids.items()),
        company,
    )


def ids(*contacts: ContactKeys, **options: object) -> list[tuple[str, ...]]:
    return [g.contact_ids for g in resolve(contacts, **options).groups]  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", list(IdentifierKind))
def test_shared_identifier_of_any_kind_joins(kind: IdentifierKind) -> None:
    resolution = resolve(
        [
            keys("1", "Ada Lovelace", **{kind.value: "x"}),
            keys("2", "A. Lovelace", **{kind.value: "x"}),
        ]
    )
    (group,) = resolution.groups
    assert group.contact_ids == ("1", "2")
    assert group.joined_by == group.identifiers == (Identifier(kind, "x"),)
    assert group.reason is GroupReason.SHARED_IDENTIFIER
    assert not resolution.suspects
    assert not resolution.contested


def test_joins_run_through_third_contacts() -> None:
    assert ids(
        keys("1", email="a@x.com", linkedin="ada"),
        keys("2", email="a@x.com", lance="L"),
        keys("3", lance="L", apollo="A"),
        keys("4", apollo="B"),
    ) == [("1", "2", "3"), ("4",)]


def test_identifier_of_contradicting_names_joins_nobody_and_is_listed() -> None:
    shared = Identifier(IdentifierKind.EMAIL, "family@x.com")
    resolution = resolve(
        [
            keys("1", "Ada Lovelace", email=shared.value),
            keys("2", "Ada Lovelace", email=shared.value),
            keys("3", "Bob Lovelace", email=shared.value),
        ]
    )
    assert [group.contact_ids for group in resolution.groups] == [("1",), ("2",), ("3",)]
    assert resolution.contested == (shared,)
    assert all(shared not in group.identifiers for group in resolution.groups)
    assert resolution.suspects[0].reason is SuspectReason.CONTESTED_IDENTIFIER
    assert resolution.suspects[0].contact_ids == ("1", "2", "3")


def test_contradiction_across_a_nameless_contact_splits_the_group() -> None:
    # 1 and 3 never share an identifier: only the whole group shows that they are two humans.
    assert ids(
        keys("1", "Ada Lovelace", linkedin="ada"),
        keys("2", "", linkedin="ada", email="a@x.com"),
        keys("3", "Bob Smith", email="a@x.com"),
    ) == [("1", "2"), ("3",)]


def test_group_is_split_along_its_weakest_identifier() -> None:
    assert ids(
        keys("1", "Ada Lovelace", email="a@x.com"),
        keys("2", "", linkedin="bob", email="a@x.com"),
        keys("3", "Bob Smith", linkedin="bob"),
    ) == [("1",), ("2", "3")]


def test_two_ids_of_one_provider_contradict() -> None:
    one = keys("1", "Ada Lovelace", email="a@x.com", lance="L1")
    other = keys("2", "Ada Lovelace", email="a@x.com", lance="L2")
    assert contradict(one, other)
    assert ids(one, other) == [("1",), ("2",)]


def test_two_linkedin_profiles_contradict_only_where_the_names_do_not_agree() -> None:
    one = keys("1", "Ada Lovelace", email="a@x.com", linkedin="ada-1")
    same = keys("2", "Lovelace, Ada", email="a@x.com", linkedin="ada-2")
    initial = keys("3", "A. Lovelace", email="a@x.com", linkedin="ada-3")
    assert ids(one, same) == [("1", "2")]
    assert ids(one, initial) == [("1",), ("3",)]


def test_member_id_and_public_name_of_a_profile_cannot_be_compared() -> None:
    tail = "AABcDEfGhIjKlMnOpQrStUvWxYz012345678"
    named = keys("1", "Ada Lovelace", email="a@x.com", linkedin="ada-1")
    opaque = keys("2", "A. Lovelace", email="a@x.com", linkedin=f"ACw{tail}1")
    other_product = keys("3", "A. Lovelace", email="a@x.com", linkedin=f"ACo{tail}2")
    other_member = keys("4", "A. L.", email="a@x.com", linkedin=f"ACw{tail}3")
    other_human = keys("5", "Bob Lovelace", lance="L", linkedin=f"ACo{tail}4")
    assert ids(named, opaque, other_product) == [("1", "2", "3")]
    assert ids(opaque, other_member) == [("2",), ("4",)]
    assert contradict(opaque, other_member)
    assert contradict(named, other_human)


def test_name_and_company_join_nothing_and_are_listed() -> None:
    resolution = resolve(
        [
            keys("1", "Ada Lovelace", "acme.com", linkedin="ada-1"),
            keys("2", "LOVELACE, Ada", "acme.com", linkedin="ada-2"),
            keys("3", "Ada Lovelace", "other.com"),
        ]
    )
    assert len(resolution.groups) == 3
    (suspect,) = resolution.suspects
    assert suspect.reason is SuspectReason.SAME_NAME_AND_COMPANY
    assert suspect.contact_ids == ("1", "2")


def test_contacts_of_one_person_stay_together_without_a_shared_identifier() -> None:
    one, other = keys("1", "Ada Lovelace", email="new@x.com"), keys("2", "Ada Lovelace")
    assert ids(one, other) == [("1",), ("2",)]
    (group,) = resolve([one, other], existing={"1": 7, "2": 7}).groups
    assert group.contact_ids == ("1", "2")
    assert group.reason is GroupReason.ALREADY_ONE_PERSON


def test_contact_that_became_somebody_else_leaves_its_person() -> None:
    assert ids(
        keys("1", "Ada Lovelace", linkedin="ada"),
        keys("2", "Bob Smith", linkedin="ada"),
        existing={"1": 7, "2": 7},
    ) == [("1",), ("2",)]


def test_contacts_split_by_hand_never_meet_again() -> None:
    contacts = [
        keys("1", "Ada Lovelace", linkedin="ada"),
        keys("2", "Ada Lovelace", linkedin="ada", email="a@x.com"),
        keys("3", "Ada Lovelace", email="a@x.com"),
    ]
    apart = {frozenset({"1", "3"})}
    assert ids(*contacts, splits=apart) == [("1", "2"), ("3",)]
    assert ids(*contacts, splits=apart, existing={"1": 7, "2": 7, "3": 7}) == [("1", "2"), ("3",)]


def test_role_mailboxes_and_placeholders_do_not_become_keys() -> None:
    contact = Contact(
        "1",
        "Ada",
        "Lovelace",
        "Ada Lovelace",
        email="info@acme.com",
        personal_email="ada+crm@gmail.com",
        linkedin_slug="ada",
        company_name="Acme, Inc.",
        lance_person_id="850b56c1-5288-4390-a214-6abcdef01234",
    )
    found = keys_of(contact)
    assert found.identifiers == {
        Identifier(IdentifierKind.EMAIL, "ada@gmail.com"),
        Identifier(IdentifierKind.LINKEDIN, "ada"),
        Identifier(IdentifierKind.LANCE, "850b56c1-5288-4390-a214-6abcdef01234"),
    }
    assert found.company == "acmeinc"
    assert not keys_of(Contact("2", email="ada@none.com")).identifiers
    for placeholder in ("example.com", "example.org", "example.net"):
        assert not keys_of(Contact("3", personal_email=f"ada@{placeholder}")).identifiers
    assert keys_of(Contact("4", email="ada@nowhere.example")).identifiers


def test_oldest_person_survives_a_merge() -> None:
    (group,) = resolve([keys("1", email="a@x.com"), keys("2", email="a@x.com")]).groups
    (assignment,) = assign([group], {"1": 12, "2": 5})
    assert assignment.person_id == 5
    assert assignment.merged_person_ids == (12,)


def test_person_that_falls_apart_stays_with_most_of_its_contacts() -> None:
    groups = resolve([keys("1"), keys("2", email="a@x.com"), keys("3", email="a@x.com")]).groups
    found = {a.group.contact_ids: a.person_id for a in assign(groups, dict.fromkeys("123", 5))}
    assert found == {("1",): None, ("2", "3"): 5}
    tie = {a.group.contact_ids: a.person_id for a in assign(groups, {"1": 5, "2": 5})}
    assert tie == {("1",): 5, ("2", "3"): None}


def test_contacts_without_a_person_get_a_new_one() -> None:
    (assignment,) = assign(resolve([keys("1")]).groups, {})
    assert assignment.person_id is None


_names = st.sampled_from(["", "Ada Lovelace", "A. Lovelace", "Bob Smith", "Bob Lovelace", "Ada"])
_ids = st.sets(
    st.tuples(st.sampled_from(list(IdentifierKind)), st.sampled_from("xyz")).map(
        lambda pair: Identifier(*pair)
    ),
    max_size=3,
)
_contacts = st.lists(st.tuples(_names, _ids, st.sampled_from([None, "acme.com"])), max_size=9).map(
    lambda rows: [
        ContactKeys(str(n), person_name(None, None, name), frozenset(found), company)
        for n, (name, found, company) in enumerate(rows)
    ]
)


@given(contacts=_contacts, seed=st.integers(), data=st.data())
@settings(deadline=None)
def test_resolution_is_a_partition_without_contradictions_in_any_order(
    contacts: list[ContactKeys], seed: int, data: st.DataObject
) -> None:
    existing = {contact.contact_id: data.draw(st.integers(1, 3)) for contact in contacts[::2]}
    apart = {frozenset({"0", "1"})}
    resolution = resolve(contacts, existing, apart)
    shuffled = random.Random(seed).sample(contacts, len(contacts))
    assert resolve(shuffled, existing, apart) == resolution
    assert assign(resolve(shuffled).groups, existing) == assign(resolve(contacts).groups, existing)
    seen = [contact_id for group in resolution.groups for contact_id in group.contact_ids]
    assert sorted(seen) == [contact.contact_id for contact in contacts]
    by_id = {contact.contact_id: contact for contact in contacts}
    owners: dict[Identifier, tuple[str, ...]] = {}
    for group in resolution.groups:
        assert not {"0", "1"} <= set(group.contact_ids)
        for one in group.contact_ids:
            assert not any(contradict(by_id[one], by_id[two]) for two in group.contact_ids)
        for identifier in group.identifiers:
            assert owners.setdefault(identifier, group.contact_ids) == group.contact_ids
            assert identifier not in resolution.contested


@given(contacts=_contacts)
@settings(deadline=None)
def test_resolving_what_was_resolved_changes_nothing(contacts: list[ContactKeys]) -> None:
    first = resolve(contacts)
    existing = {
        contact_id: number + 1
        for number, group in enumerate(first.groups)
        for contact_id in group.contact_ids
    }
    again = resolve(contacts, existing)
    assert [g.contact_ids for g in again.groups] == [g.contact_ids for g in first.groups]
    assert [a.person_id for a in assign(again.groups, existing)] == [
        number + 1 for number in range(len(first.groups))
    ]
