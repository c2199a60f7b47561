"""Whether an answer contradicts what was sent: by provider id, profile or name."""

import pytest

from enrich_pipeline.providers.protocol import Datapoint, PersonInputs, Subject
from enrich_pipeline.waterfall.right_person import contradiction

MEMBER = "ACwAABcDEfGhIjKlMnOpQrStUvWxYz0123456789"
OTHER_MEMBER = "ACwAABcDEfGhIjKlMnOpQrStUvWxYz9876543210"
OTHER_PRODUCT = "ACoAABcDEfGhIjKlMnOpQrStUvWxYz9876543210"


def sent(linkedin: str | None = None, name: str | None = None) -> PersonInputs:
    known = {Datapoint.LINKEDIN: linkedin, Datapoint.FULL_NAME: name, Datapoint.LANCE_ID: "L1"}
    return PersonInputs(1, {datapoint: value for datapoint, value in known.items() if value})


@pytest.mark.parametrize(
    ("known", "found", "reason"),
    [
        ("ada-lovelace", "ada-lovelace", None),
        ("ada-lovelace", "ada-byron", "linkedin"),
        ("ada-lovelace", None, None),
        ("ada-lovelace", MEMBER, None),
        (MEMBER, "ada-lovelace", None),
        (MEMBER, MEMBER, None),
        (MEMBER, OTHER_MEMBER, "linkedin"),
        (MEMBER, OTHER_PRODUCT, None),
    ],
)
def test_only_profiles_named_in_the_same_way_contradict(
    known: str, found: str | None, reason: str | None
) -> None:
    assert contradiction(sent(known), Subject(linkedin=found), "lance") == reason


def test_name_and_provider_id_contradict_where_profiles_cannot_be_compared() -> None:
    known = sent("ada-lovelace", "Ada Lovelace")
    stranger = Subject(linkedin=MEMBER, full_name="Bob Smith")
    assert contradiction(known, stranger, "lance") == "name"
    other = Subject(linkedin=MEMBER, full_name="Ada Lovelace", provider_id="L2")
    assert contradiction(known, other, "lance") == "provider_id"


def test_answer_about_the_father_is_not_about_the_son() -> None:
    known = PersonInputs(
        1,
        {
            Datapoint.FIRST_NAME: "John",
            Datapoint.LAST_NAME: "Smith",
            Datapoint.FULL_NAME: "John Smith Jr.",
        },
    )
    father = Subject(first_name="John", last_name="Smith", full_name="John Smith Sr.")
    assert contradiction(known, father, "apollo") == "name"
    titled = Subject(first_name="Mr.", last_name="Smith", full_name="Mr. John Smith")
    assert contradiction(known, titled, "apollo") is None
