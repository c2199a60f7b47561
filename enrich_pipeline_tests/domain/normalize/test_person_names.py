import pytest

from enrich_pipeline.domain.normalize import NameParts, person_name


@pytest.mark.parametrize(
    ("raw", "first", "last", "full"),
    [
        (("Ada", "Lovelace", ""), "Ada", "Lovelace", "Ada Lovelace"),
        (("\u200bAda ", "Lovelace\xa0", "Ada Lovelace\t"), "Ada", "Lovelace", "Ada Lovelace"),
        (("Dr. Ada", "Lovelace, PhD", None), "Ada", "Lovelace", "Ada Lovelace"),
        (("Ada 🚀", "Lovelace 👩\u200d💻", None), "Ada", "Lovelace", "Ada Lovelace"),
        (("Robert (Bob)", "O’Brien", None), "Robert", "O'Brien", "Robert O'Brien"),
        (("", "", "Lovelace, Ada"), "Ada", "Lovelace", "Ada Lovelace"),
        (("", "", "Campbell, Ms. Ada"), "Ada", "Campbell", "Ada Campbell"),
        (("", "", "Mr Ada Lovelace"), "Ada", "Lovelace", "Ada Lovelace"),
        (("", "", "Maarten de Boer"), "Maarten", "de Boer", "Maarten de Boer"),
        (("", "", "Bram van den Berg"), "Bram", "van den Berg", "Bram van den Berg"),
        (("", "", "Ben Baker"), "Ben", "Baker", "Ben Baker"),
        (("", "", "John Q. Public"), "John Q.", "Public", "John Q. Public"),
        (("", "", "Sammy Davis Jr."), "Sammy", "Davis Jr.", "Sammy Davis Jr."),
        (("", "n/a", "Samira صالح"), "Samira", "صالح", "Samira صالح"),
        (("Ada", "", "Ada Lovelace"), "Ada", "Lovelace", "Ada Lovelace"),
        (("", "Lovelace", "Ada Lovelace"), "Ada", "Lovelace", "Ada Lovelace"),
        (("", "Lovelace", "Lovelace, Ada"), "Ada", "Lovelace", "Ada Lovelace"),
    ],
)
def test_name_is_cleaned_and_completed(
    raw: tuple[object, object, object], first: str, last: str, full: str
) -> None:
    assert person_name(*raw) == NameParts(first, last, full)


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        (("Mr.", "Smith", "Mr. John Smith"), ("John", "Smith", "John Smith")),
        (("Mr", "Smith", "Smith, John"), ("John", "Smith", "John Smith")),
        (("Mr & Mrs", "Smith", None), (None, "Smith", None)),
        (("Dr", "", "Dr Anna Smith"), ("Anna", "Smith", "Anna Smith")),
        (("Prof. Dr.", "Smith", "Prof. Dr. Anna Smith"), ("Anna", "Smith", "Anna Smith")),
        (("Herr", "Müller", None), (None, "Müller", None)),
        (("Herr", "Müller", "Herr Müller"), (None, "Müller", "Müller")),
        (("Mag.", "Huber", "Mag. Anna Huber"), ("Anna", "Huber", "Anna Huber")),
        (("Dame", "Dench", "Dame Judi Dench"), ("Judi", "Dench", "Judi Dench")),
        (("Dame", "", "Dame Judi Dench"), ("Judi", "Dench", "Judi Dench")),
        (("M.", "Dupont", "M. Jean Dupont"), ("Jean", "Dupont", "Jean Dupont")),
    ],
)
def test_title_is_no_first_name(
    raw: tuple[object, object, object], kept: tuple[str | None, str | None, str | None]
) -> None:
    name = person_name(*raw)
    assert (name.first, name.last, name.full) == kept
    assert name.problems == (("first_name", "title_only"),)


@pytest.mark.parametrize(
    ("raw", "first"),
    [
        (("Dame", "Diouf", "Dame Diouf"), "Dame"),
        (("Dame", "Diouf", None), "Dame"),
        (("Dame", "", "Dame Diouf"), "Dame"),
        (("Sir", "de Boer Jr.", "Sir de Boer Jr."), "Sir"),
        (("Dr. Dame", "Diouf", None), "Dame"),
        (("M.", "Dupont", "M. Dupont"), "M."),
        (("M.", "Smith", "Michael Smith"), "M."),
        (("Mag", "Huber", "Mag Huber"), "Mag"),
        (("Mrinal", "Sen", None), "Mrinal"),
    ],
)
def test_given_name_that_is_a_title_elsewhere_stays(
    raw: tuple[object, object, object], first: str
) -> None:
    name = person_name(*raw)
    assert (name.first, name.problems) == (first, ())


@pytest.mark.parametrize(
    "full",
    ["Gabriel García Márquez", "Mary Anne Smith Jones", "王 小明", "김 철수", "Madonna", "de Boer"],
)
def test_full_name_with_several_readings_is_not_split(full: str) -> None:
    assert person_name(None, None, full) == NameParts(None, None, full)


@pytest.mark.parametrize("full", ["Smith, Mr.", "Smith, Prof. Dr."])
def test_title_behind_a_comma_is_no_first_name(full: str) -> None:
    assert person_name(None, None, full) == NameParts(None, None, "Smith")


@pytest.mark.parametrize("full", ["Ada null", "Ada, None", "n/a Ada", "undefined, Ada"])
def test_empty_half_of_a_joined_name_is_no_name(full: str) -> None:
    assert person_name(None, None, full) == NameParts(None, None, "Ada")


def test_given_name_alone_does_not_take_a_compound_rest() -> None:
    assert person_name("Anna", None, "Anna Maria Schmidt").last is None


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("<script>alert(1)</script>", "not_a_name"),
        ('=HYPERLINK("http://evil.example","click")', "not_a_name"),
        ("'; DROP TABLE contacts;--", "not_a_name"),
        ("12345", "not_a_name"),
        ("🚀", "not_a_name"),
        ("N/A", "null_word"),
        (".", "null_word"),
        ("x" * 151, "too_long"),
    ],
)
def test_what_is_no_name_is_absent_with_its_column_and_reason(raw: str, code: str) -> None:
    name = person_name(raw, "Lovelace", None)
    assert (name.first, name.last) == (None, "Lovelace")
    assert name.problems == (("first_name", code),)


@pytest.mark.parametrize("family", ["Na", "Nan", "Null-Smith", "Ng", "O", "Sr"])
def test_short_and_odd_family_names_stay(family: str) -> None:
    assert person_name("Ada", family, None).last == family


def test_joiner_that_spells_a_word_stays() -> None:
    assert person_name("علی\u200cرضا", "رضایی", None).first == "علی\u200cرضا"


def test_name_is_composed() -> None:
    assert person_name("Jose\u0301", "Mun\u0303oz", None) == person_name("José", "Muñoz", None)
