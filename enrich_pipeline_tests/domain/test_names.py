import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enrich_pipeline.domain.names import name_key, names_agree, names_contradict
from enrich_pipeline.domain.normalize import NameParts, person_name


def full(text: str) -> NameParts:
    return person_name(None, None, text)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Robert Smith", "Bob Smith"),
        ("Bob Smith", "Rob Smith"),
        ("Katherine Smith", "Cathy Smith"),
        ("ROBERT SMITH", "robert smith"),
        ("Dr. Robert Smith", "Robert Smith, PhD"),
        ("Smith, Robert", "Robert Smith"),
        ("R. Smith", "Robert Smith"),
        ("R. Smith", "Bob Smith"),
        ("Robert S.", "Robert Smith"),
        ("Robert J. Smith", "Robert Smith"),
        ("Robert James Smith", "Robert Smith"),
        ("Jörg Müller", "Joerg Mueller"),
        ("Jörg Müller", "Jorg Muller"),
        ("Søren Sørensen", "Soeren Sorensen"),
        ("Łukasz Wróbel", "Lukasz Wrobel"),
        ("Günther Weiß", "Gunther Weiss"),
        ("Jean-Luc Moreau", "Jeanluc Moreau"),
        ("Jean-Luc Moreau", "JL Moreau"),
        ("Jean-Luc Moreau", "Jean Moreau"),
        ("Anna Smith-Jones", "Anna Smith"),
        ("Anna Smith-Jones", "Anna Jones"),
        ("Bram van den Berg", "Bram Vandenberg"),
        ("Gianluca De Luca", "Gianluca Luca"),
        ("Patrick O'Brien", "Patrick OBrien"),
        ("Gabriel García Márquez", "Gabriel Garcia"),
        ("Mustafa Al-Masri", "Mustafa Almasri"),
        ("Katherine Hofmann", "Katharine Hofmann"),
        ("Anna Petersen", "Anna Peterson"),
        ("Mohammed Taha", "Muhammad Taha"),
        ("مريم منصور", "Mariam Mansour"),
        ("مريم Mansour", "Mariam منصور"),
        ("王小明", "Xiaoming Wang"),
        ("王小明", "王曉明"),
        ("Madonna", "Madonna Ciccone"),
        ("John Smith Jr.", "John Smith"),
    ],
)
def test_one_human_may_be_written_in_both_ways(one: str, other: str) -> None:
    assert not names_contradict(full(one), full(other))
    assert not names_contradict(full(other), full(one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Robert Smith", "Roberta Smith"),
        ("Daniel Smith", "Daniela Smith"),
        ("Alexander Smith", "Alexandra Smith"),
        ("Maria Smith", "Marta Smith"),
        ("Robert Smith", "Alice Smith"),
        ("Robert Smith", "Robert Jones"),
        ("Anna Schmidt", "Anna Becker"),
        ("R. Smith", "Alice Smith"),
        ("Jean-Luc Moreau", "Jean-Pierre Moreau"),
        ("Anna Smith-Jones", "Anna Smith-Brown"),
        ("John Smith Jr.", "John Smith Sr."),
        ("John Smith II", "John Smith III"),
        ("مريم منصور", "فاطمة منصور"),
        ("مريم Mansour", "Mariam Haddad"),
        ("王小明", "李大华"),
        ("Иван Петров", "Олег Петров"),
        ("Madonna", "Robert Smith"),
        ("Gabriel García Márquez", "Gabriel Lopez"),
        ("Katherine Hofmann", "Katharine Hoffman"),
    ],
)
def test_two_humans_are_told_apart(one: str, other: str) -> None:
    assert names_contradict(full(one), full(other))
    assert names_contradict(full(other), full(one))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (NameParts(), NameParts("Ada", "Lovelace", "Ada Lovelace")),
        (NameParts(first="Ada"), NameParts(last="Lovelace")),
        (NameParts(first="Ada"), NameParts("Ada", "Lovelace", "Ada Lovelace")),
        (NameParts(last="Lovelace"), NameParts("Ada", "Lovelace", "Ada Lovelace")),
        (NameParts("Lovelace", "Ada"), NameParts("Ada", "Lovelace")),
        (NameParts("Nguyen", "Van An"), NameParts("An Van", "Nguyen")),
    ],
)
def test_missing_and_swapped_halves_do_not_contradict(one: NameParts, other: NameParts) -> None:
    assert not names_contradict(one, other)
    assert not names_contradict(other, one)


def test_one_half_that_is_known_may_contradict() -> None:
    assert names_contradict(NameParts(first="Bert"), NameParts("Ada", "Lovelace"))
    assert names_contradict(NameParts(last="Smith"), NameParts("Ada", "Lovelace"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("John", "Smith", "John Smith Sr."), ("John", "Smith", "John Smith Jr.")),
        (("John", "Smith", "Smith, John III"), ("John", "Smith", "John Smith II")),
        ((None, None, "Smith, John III"), ("John", "Smith Jr.", None)),
        (("John", "Smith", "John Smith Senior"), ("John", None, "John Smith Junior")),
    ],
)
def test_generation_in_the_full_name_tells_father_from_son(
    one: tuple[str | None, ...], other: tuple[str | None, ...]
) -> None:
    a, b = person_name(*one), person_name(*other)
    assert names_contradict(a, b)
    assert names_contradict(b, a)
    assert not names_agree(a, b)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("John", "Smith", "John Smith Sr."), ("John", "Smith", "John Smith")),
        (("John", "Smith", "Smith, John III"), ("John", "Smith", "John Smith III")),
        (("John", "Smith", "John Smith Sr."), ("John", "Smith Sr.", None)),
        # Names that are spelled like a generation, and the Spanish title.
        (("Junior", "Silva", "Junior Silva"), ("Junior", "Silva Sr.", None)),
        (("Anna", "Senior", "Anna Senior"), ("Anna", "Senior", "Anna Senior Jr.")),
        (("Naosuke", "Ii", "Naosuke Ii"), ("Naosuke", "Ii", "Naosuke Ii III")),
        (("Juan", "García", "Sr Juan García"), ("Juan", "García", "Juan García Jr.")),
        # Two generations are none.
        (("John", "Smith", "John Smith Jr. Sr."), ("John", "Smith Jr.", None)),
    ],
)
def test_generation_of_one_name_alone_does_not_contradict(
    one: tuple[str | None, ...], other: tuple[str | None, ...]
) -> None:
    a, b = person_name(*one), person_name(*other)
    assert not names_contradict(a, b)
    assert not names_contradict(b, a)
    assert names_agree(a, b)


def test_agreement_needs_two_words_that_fit() -> None:
    assert names_agree(full("Bob Smith"), full("Robert Smith"))
    assert names_agree(full("Smith, Robert"), full("Robert J. Smith"))
    assert not names_agree(full("R. Smith"), full("Robert Smith"))
    assert not names_agree(full("مريم منصور"), full("Mariam Mansour"))
    assert not names_agree(NameParts(), full("Robert Smith"))
    assert not names_agree(full("Robert Smith"), full("Robert Jones"))


def test_namesakes_meet_under_one_key() -> None:
    assert name_key(full("Jörg MÜLLER")) == name_key(full("Müller, Jorg")) is not None
    assert name_key(NameParts(first="Ada")) is None


_parts = st.one_of(
    st.none(), st.text(max_size=12), st.sampled_from(["Ada", "al", "Jr", "王", "O'"])
)


@settings(deadline=None)
@given(
    a=st.builds(NameParts, _parts, _parts, _parts), b=st.builds(NameParts, _parts, _parts, _parts)
)
def test_contradiction_is_symmetric_and_no_name_contradicts_itself(
    a: NameParts, b: NameParts
) -> None:
    assert names_contradict(a, b) == names_contradict(b, a)
    assert names_agree(a, b) == names_agree(b, a)
    assert not names_contradict(a, NameParts(a.first, a.last, a.full))
    assert not (names_agree(a, b) and names_contradict(a, b))
