from datetime import UTC, datetime
from decimal import Decimal

import pytest

from enrich_pipeline.domain.contact import BadRow, Problem, normalize_contact

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)


def test_messy_row_becomes_a_clean_contact() -> None:
    contact, problems = normalize_contact(
        {
            "contact_id": " C-1 ",
            "first_name": "\u200bDr. Ada",
            "last_name": "Lovelace",
            "email": "Ada@Acme.COM",
            "phone": "020 7946 0958",
            "linkedin_url": "https://uk.linkedin.com/in/ada-lovelace/en",
            "company_domain": "http://www.acme.co.uk/",
            "country_code": "UK",
            "personal_email_consent": "Y",
            "do_not_enrich": "",
            "email_verified_at": "2026-01-02",
            "a_column_of_somebody_else": "x",
        },
        NOW,
    )
    assert problems == ()
    assert contact.contact_id == "C-1"
    assert (contact.first_name, contact.full_name) == ("Ada", "Ada Lovelace")
    assert (contact.email, contact.phone) == ("ada@acme.com", "+442079460958")
    assert (contact.linkedin_slug, contact.company_domain) == ("ada-lovelace", "acme.co.uk")
    assert (contact.country_code, contact.personal_email_consent) == ("GB", True)
    assert not contact.do_not_enrich
    assert contact.email_verified_at == datetime(2026, 1, 2, tzinfo=UTC)


def test_typed_values_of_a_relation_are_read_like_text() -> None:
    contact, problems = normalize_contact(
        {
            "contact_id": 17.0,
            "phone": Decimal(4155552671),
            "country_code": "US",
            "email": float("nan"),
            "do_not_enrich": True,
            "personal_email_consent": None,
            "created_at": datetime(2024, 1, 2),  # noqa: DTZ001
        },
        NOW,
    )
    assert problems == ()
    assert (contact.contact_id, contact.phone, contact.email) == ("17", "+14155552671", None)
    assert contact.do_not_enrich
    assert contact.created_at == datetime(2024, 1, 2, tzinfo=UTC)


def test_unreadable_flags_fail_closed_with_a_problem() -> None:
    contact, problems = normalize_contact(
        {"contact_id": "1", "personal_email_consent": "perhaps", "do_not_enrich": "perhaps"}, NOW
    )
    assert not contact.personal_email_consent
    assert contact.do_not_enrich
    assert problems == (
        Problem("personal_email_consent", "unreadable_flag"),
        Problem("do_not_enrich", "unreadable_flag"),
    )


def test_flags_of_an_unreadable_type_fail_closed() -> None:
    contact, problems = normalize_contact(
        {"contact_id": "1", "personal_email_consent": [True], "do_not_enrich": b"yes"}, NOW
    )
    assert not contact.personal_email_consent
    assert contact.do_not_enrich
    assert set(problems) == {
        Problem("personal_email_consent", "unreadable_type"),
        Problem("do_not_enrich", "unreadable_type"),
    }


def test_verification_date_without_a_value_is_ignored_with_a_problem() -> None:
    contact, problems = normalize_contact(
        {"contact_id": "1", "email": "ada@", "email_verified_at": "2026-01-02T00:00:00Z"}, NOW
    )
    assert contact.email_verified_at is None
    assert problems == (
        Problem("email", "invalid_email"),
        Problem("email_verified_at", "date_without_value"),
    )


def test_bad_value_costs_only_itself() -> None:
    contact, problems = normalize_contact(
        {"contact_id": "1", "email": "x" * 2_000_000, "job_title": ["a"], "last_name": "Lovelace"},
        NOW,
    )
    assert contact.last_name == "Lovelace"
    assert set(problems) == {Problem("email", "too_long"), Problem("job_title", "unreadable_type")}


@pytest.mark.parametrize(
    ("contact_id", "reason"),
    [
        (None, "missing_contact_id"),
        ("", "missing_contact_id"),
        (" \u200b", "missing_contact_id"),
        ("n/a", "missing_contact_id"),
        (float("nan"), "missing_contact_id"),
        ("x" * 201, "contact_id_too_long"),
        ("x" * 2_000_000, "contact_id_too_long"),
    ],
)
def test_row_that_names_no_contact_is_bad(contact_id: object, reason: str) -> None:
    with pytest.raises(BadRow) as bad:
        normalize_contact({"contact_id": contact_id, "email": "ada@acme.com"}, NOW)
    assert bad.value.reason == str(bad.value) == reason


def test_contact_id_of_200_characters_is_usable() -> None:
    assert normalize_contact({"contact_id": "x" * 200}, NOW)[0].contact_id == "x" * 200
