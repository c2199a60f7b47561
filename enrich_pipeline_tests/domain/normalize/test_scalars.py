from datetime import UTC, date, datetime, timedelta, timezone
from uuid import UUID

import pytest

from enrich_pipeline.domain.normalize import (
    UNREADABLE,
    Normalized,
    apollo_person_id,
    company_name,
    country,
    flag,
    lance_person_id,
    prospeo_person_id,
    text,
    timestamp,
)

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
UUID4 = "850b56c1-5288-4390-a214-6abcdef01234"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("GB", "GB"), ("UK", "GB"), ("gb ", "GB"), ("England", "GB"), ("USA", "US"), ("U.S.", "US"),
        ("U.S.A.", "US"), ("united states", "US"), ("DEU", "DE"), ("Germany", "DE"), ("NA", "NA"),
        ("Côte d’Ivoire", "CI"), ("Trinidad & Tobago", "TT"), ("St. Lucia", "LC"),
        ("Türkiye", "TR"),
        ("The Netherlands", "NL"), ("Korea, Republic of", "KR"), ("Virgin Islands, U.S.", "VI"),
    ],
)  # fmt: skip
def test_country_is_read_from_codes_and_english_names(raw: str, code: str) -> None:
    assert country(raw) == Normalized(code)


@pytest.mark.parametrize("raw", ["XX", "ZZ", "Europe", "EU", "1", "+44", "EN", "Korea", "x" * 300])
def test_country_is_never_guessed(raw: str) -> None:
    assert country(raw) == Normalized(None, "unknown_country")


def test_every_country_that_has_a_numbering_plan_is_known() -> None:
    from phonenumbers import SUPPORTED_REGIONS

    # Ascension and Tristan da Cunha have a plan each and share the code of Saint Helena.
    assert {r for r in SUPPORTED_REGIONS if country(r).value != r} <= {"AC", "TA"}


@pytest.mark.parametrize("raw", ["true", "True", "TRUE", "1", "yes", "Y", "t", True, 1])
def test_spellings_of_yes(raw: object) -> None:
    assert flag(raw) is True


@pytest.mark.parametrize("raw", ["", None, "false", "FALSE", "0", "no", "N", "f", False, 0, "  "])
def test_spellings_of_no_and_emptiness(raw: object) -> None:
    assert flag(raw) is False


@pytest.mark.parametrize("raw", ["maybe", "n/a", "2", "yes!", "null", "?"])
def test_what_is_neither_is_unreadable(raw: object) -> None:
    assert flag(raw) is UNREADABLE


@pytest.mark.parametrize(
    ("raw", "moment"),
    [
        ("2024-05-06T07:08:09Z", datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)),
        ("2024-05-06T07:08:09.250000Z", datetime(2024, 5, 6, 7, 8, 9, 250_000, tzinfo=UTC)),
        ("2024-05-06 07:08:09", datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)),
        ("2024-05-06T07:08:09+02:00", datetime(2024, 5, 6, 5, 8, 9, tzinfo=UTC)),
        ("2024-05-06", datetime(2024, 5, 6, tzinfo=UTC)),
        (date(2024, 5, 6), datetime(2024, 5, 6, tzinfo=UTC)),
        (datetime(2024, 5, 6, 7), datetime(2024, 5, 6, 7, tzinfo=UTC)),  # noqa: DTZ001
        (
            datetime(2024, 5, 6, 7, tzinfo=timezone(timedelta(hours=2))),
            datetime(2024, 5, 6, 5, tzinfo=UTC),
        ),
        (NOW, NOW),
    ],
)
def test_moment_is_aware_and_utc(raw: object, moment: datetime) -> None:
    read = timestamp(raw, NOW).value
    assert read == moment
    assert read is not None
    assert read.tzinfo is UTC


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ("2026-11-21T08:00:01Z", "timestamp_in_future"),
        ("9999-12-31T23:59:59-23:00", "invalid_timestamp"),
        ("2024-13-45T00:00:00Z", "invalid_timestamp"),
        ("31/02/2024", "invalid_timestamp"),
        ("05/03/2024", "invalid_timestamp"),
        ("0000-00-00", "invalid_timestamp"),
        ("1970-01-01T00:00:00Z", "invalid_timestamp"),
        ("1699999999999", "invalid_timestamp"),
        (1_699_999_999, "invalid_timestamp"),
        ("yesterday", "invalid_timestamp"),
        ("null", "null_word"),
    ],
)
def test_moment_that_cannot_be_believed_is_absent_with_a_reason(raw: object, problem: str) -> None:
    assert timestamp(raw, NOW) == Normalized(None, problem)


@pytest.mark.parametrize(
    "raw", [UUID4, UUID4.upper(), f" id:{UUID4} ", f"{{{UUID4}}}", UUID(UUID4)]
)
def test_lance_id_is_a_uuid_of_version_4(raw: object) -> None:
    assert lance_person_id(raw) == Normalized(UUID4)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ("00000000-0000-0000-0000-000000000000", "placeholder_id"),
        ("11111111-1111-1111-1111-111111111111", "placeholder_id"),
        ("850b56c1-5288-1390-a214-6abcdef01234", "invalid_lance_id"),
        ("850b56c1-5288-4390-c214-6abcdef01234", "invalid_lance_id"),
        ("850b56c1-5288-4390-a214-6abcdef01", "invalid_lance_id"),
        ("undefined", "null_word"),
    ],
)
def test_other_uuids_are_no_lance_id(raw: str, problem: str) -> None:
    assert lance_person_id(raw) == Normalized(None, problem)


def test_prospeo_id_is_alphanumeric_and_its_case_is_kept_where_it_may_matter() -> None:
    assert prospeo_person_id("ID:686B249130E2FFF0BA4B0").value == "686b249130e2fff0ba4b0"
    assert prospeo_person_id("aZ09xYq7").value == "aZ09xYq7"
    assert prospeo_person_id("a-b-c-1").problem == "invalid_prospeo_id"
    assert prospeo_person_id("lovelace").problem == "invalid_prospeo_id"
    assert prospeo_person_id("00000000-0000-0000-0000-000000000000").problem == "placeholder_id"
    assert prospeo_person_id("0123456789").problem == "placeholder_id"


def test_apollo_id_that_was_cut_off_is_no_id() -> None:
    assert apollo_person_id("84E6FE2DA20774C8AA58DD14").value == "84e6fe2da20774c8aa58dd14"
    assert apollo_person_id("84e6fe2da20774c8aa58d").problem == "invalid_apollo_id"
    assert apollo_person_id("0" * 24).problem == "placeholder_id"


def test_text_loses_what_nobody_sees_and_nothing_else() -> None:
    assert text('Head of "Growth"\r\nEMEA;\tAPAC\x00\u200b\ufeff').value == (
        'Head of "Growth" EMEA; APAC'
    )
    assert text("=1+1 {{7*7}} %s").value == "=1+1 {{7*7}} %s"
    assert text("a\ud800b").value == "ab"
    assert text("Vertrieb & Fußball 🚀").value == "Vertrieb & Fußball 🚀"


def test_text_is_never_cut() -> None:
    assert text("x" * 100, 100).value == "x" * 100
    assert text("x" * 101, 100) == Normalized(None, "too_long")
    assert text("x" * 2_000_000) == Normalized(None, "too_long")


@pytest.mark.parametrize(
    "raw", ["N/A", "null", "None", "#N/A", "unknown", "—", "...", "???", "nan"]
)
def test_words_that_say_nothing_are_absent(raw: str) -> None:
    assert text(raw) == Normalized(None, "null_word")


def test_company_keeps_its_legal_form_and_loses_its_trademark_sign() -> None:
    assert company_name(" Acme Labs, Inc.® ").value == "Acme Labs, Inc."
    assert company_name("©®").problem == "not_a_name"
    assert company_name("3M").value == "3M"
