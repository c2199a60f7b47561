"""What holds for every normalizer and any input: never raises, idempotent, output valid."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from enrich_pipeline.domain import normalize
from enrich_pipeline.domain.contact import COLUMNS, normalize_contact
from enrich_pipeline.domain.normalize import NameParts, Normalized

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)

NORMALIZERS: dict[str, Callable[[object], Normalized[str]]] = {
    "text": normalize.text,
    "company_name": normalize.company_name,
    "email": normalize.email,
    "phone": lambda raw: normalize.phone(raw, "DE"),
    "domain": normalize.domain,
    "linkedin_slug": lambda raw: normalize.linkedin_slug(raw),
    "company_linkedin_url": normalize.company_linkedin_url,
    "country": normalize.country,
    "lance_person_id": normalize.lance_person_id,
    "prospeo_person_id": normalize.prospeo_person_id,
    "apollo_person_id": normalize.apollo_person_id,
}

_words = st.sampled_from(
    ["ada", "Lovelace", "@", "acme", ".com", "ß", "İ", "é", "e\u0301", "\u200b", "\u200d", " ", "-",
     "%C3%A9", "%25", "%ff", "https://", "www.", "linkedin.com/in/", "linkedin.com/company/", "/",
     "+49", "030", "123456", "(", ")", "id:", "mailto:", "<", ">", ",", "n/a", "null", "\x00",
     "\ud800", "🚀", "علی", "王", "Dr.", "Dame", "van", "Jr.", "'", "\u0345", "ᾳ", "ﬁ", "\u1e9e"]
)  # fmt: skip
raw_texts = st.one_of(st.text(max_size=60), st.lists(_words, max_size=8).map("".join))


@pytest.mark.parametrize("name", NORMALIZERS)
@given(raw=raw_texts)
@settings(max_examples=150, deadline=None)
def test_normalizer_never_raises_and_repeats_itself(name: str, raw: str) -> None:
    normalizer = NORMALIZERS[name]
    result = normalizer(raw)
    assert (result.value is None) or (result.problem is None)
    if result.value is None:
        return
    value = result.value
    again = normalize.linkedin_url(value) if name == "linkedin_slug" else value
    assert normalizer(again) == Normalized(value)
    assert value == normalize.text(value).value or name == "country"
    value.encode()  # storable: no lone surrogates
    assert "\x00" not in value


@given(first=raw_texts, last=raw_texts, full=raw_texts)
@settings(max_examples=300, deadline=None)
@example(first="Dr.", last="PhD", full="Mr., Ms.")
@example(first="Dame", last="Jr.", full="Dame, Dr. Dame")
@example(first="", last="", full=",Jr.,")
@example(first="", last="", full="A,\u00a1")
@example(first="", last="", full="\u00a1,A")
def test_person_name_never_raises_and_repeats_itself(first: str, last: str, full: str) -> None:
    name = normalize.person_name(first, last, full)
    again = normalize.person_name(name.first, name.last, name.full)
    assert again.first == name.first
    assert again.last == name.last
    assert again.problems == ()
    for part in (name.first, name.last, name.full):
        assert part is None or any(map(str.isalpha, part))


@given(
    row=st.dictionaries(
        st.sampled_from(COLUMNS),
        st.one_of(
            raw_texts, st.none(), st.booleans(), st.integers(), st.floats(), st.datetimes(),
            st.dates(), st.uuids(), st.binary(max_size=4),
        ),
    )
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_any_row_with_an_id_makes_a_contact(row: dict[str, object]) -> None:
    contact, problems = normalize_contact({**row, "contact_id": "C-1"}, NOW)
    assert contact.contact_id == "C-1"
    assert {problem.column for problem in problems} <= set(COLUMNS)
    for moment in (contact.created_at, contact.updated_at, contact.email_verified_at):
        assert moment is None or (moment.tzinfo is UTC and moment <= NOW)


@given(raw=raw_texts)
@settings(max_examples=200, deadline=None)
def test_timestamp_and_flag_never_raise(raw: str) -> None:
    moment = normalize.timestamp(raw, NOW).value
    assert moment is None or moment <= NOW
    assert normalize.flag(raw) in (True, False, normalize.UNREADABLE)


def test_names_without_problems_compare_by_their_parts() -> None:
    assert NameParts("Ada", problems=(("last_name", "null_word"),)) == NameParts("Ada")
