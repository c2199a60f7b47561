import pytest

from enrich_pipeline.domain.normalize import Normalized, phone


@pytest.mark.parametrize(
    ("raw", "country", "number"),
    [
        ("+14155552671", None, "+14155552671"),
        ("+1 (415) 555-2671", None, "+14155552671"),
        ("tel:+14155552671", None, "+14155552671"),
        ("+14155552671 ext. 12", None, "+14155552671"),
        ("+4930123456;ext=7", None, "+4930123456"),
        ("0044 20 7946 0958", None, "+442079460958"),
        ("0014155552671", "US", "+14155552671"),
        ("020 7946 0958", "GB", "+442079460958"),
        ("(415) 555-2671", "US", "+14155552671"),
        ("447409515903", "GB", "+447409515903"),
        ("447409515903", "US", "+447409515903"),
        ("+39 06 69812345", None, "+390669812345"),
        (4155552671, "US", "+14155552671"),
        ("4155552671.0", "US", "+14155552671"),
        ("+14155552671.0", None, "+14155552671"),
        ("030123456.0", "DE", "+4930123456"),
        ("30123456.0", "DE", "+4930123456"),
        ("4930123456.00", "DE", "+4930123456"),
        ("6641234567.0", "AT", "+436641234567"),
        ("436641234567.0", "AT", "+436641234567"),
        ("2079460958.0", "GB", "+442079460958"),
        ("442079460958.0", "GB", "+442079460958"),
        ("0669812345.0", "IT", "+390669812345"),
        ("390669812345.0", "IT", "+390669812345"),
        ("415.555.2671", "US", "+14155552671"),
    ],
)
def test_number_becomes_e164(raw: object, country: str | None, number: str) -> None:
    assert phone(raw, country) == Normalized(number)


@pytest.mark.parametrize(
    ("raw", "country", "problem"),
    [
        ("415 555 2671", None, "phone_without_country"),
        ("447409515903", None, "phone_without_country"),
        ("++1 415", "US", "invalid_phone"),
        ("555-CALL-NOW", "US", "invalid_phone"),
        ("call me", "US", "invalid_phone"),
        ("+1 415 555", "US", "invalid_phone"),
        ("+14155552671 or +14155552672", "US", "invalid_phone"),
        ("4155552671.0", None, "phone_without_country"),
        ("669812345.0", "IT", "invalid_phone"),
        ("12345", "US", "placeholder_phone"),
        ("1234567.0", "US", "placeholder_phone"),
        ("000-000-0000", "US", "placeholder_phone"),
        ("+999999999999999999", "US", "placeholder_phone"),
        ("n/a", "US", "null_word"),
        ("5" * 300, "US", "too_long"),
    ],
)
def test_what_is_no_number_of_a_plan_is_absent_with_a_reason(
    raw: str, country: str | None, problem: str
) -> None:
    assert phone(raw, country) == Normalized(None, problem)


def test_country_of_the_contact_does_not_change_an_international_number() -> None:
    assert phone("+33612345678", "DE") == phone("+33 6 12 34 56 78", None)
