import pytest

from enrich_pipeline.domain.normalize import Normalized, email, is_role_mailbox, mailbox


@pytest.mark.parametrize(
    ("raw", "address"),
    [
        ("ada@acme.com", "ada@acme.com"),
        ("  Ada.Lovelace@ACME.Com ", "ada.lovelace@acme.com"),
        ("<ada@acme.com>", "ada@acme.com"),
        ("Ada Lovelace <ada@acme.com>", "ada@acme.com"),
        ("mailto:ada@acme.com?subject=hi", "ada@acme.com"),
        ("ada@acme.com;", "ada@acme.com"),
        ("\u200bada@acme.com\xa0", "ada@acme.com"),
        ("ada+crm@acme.co.uk", "ada+crm@acme.co.uk"),
        ("o'brien@acme.ie", "o'brien@acme.ie"),
        ("ada@münchen.de", "ada@xn--mnchen-3ya.de"),
        ("jörg@acme.de", "jörg@acme.de"),
        ("info@acme.com", "info@acme.com"),
        ("ada@nowhere-1.example", "ada@nowhere-1.example"),
    ],
)
def test_address_is_kept_in_lower_case_without_what_stands_around_it(
    raw: str, address: str
) -> None:
    assert email(raw) == Normalized(address)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ("ada", "invalid_email"),
        ("ada@", "invalid_email"),
        ("@acme.com", "invalid_email"),
        ("ada@@acme.com", "invalid_email"),
        ("ada@localhost", "invalid_email"),
        ("ada@gmial", "invalid_email"),
        ("ada@acme.com..com", "invalid_email"),
        ("ada lovelace@acme.com", "invalid_email"),
        ("ada (at) acme.com", "invalid_email"),
        ("ada.@acme.com", "invalid_email"),
        (f"{'a' * 65}@acme.com", "invalid_email"),
        ("none@none", "invalid_email"),
        ("none@none.com", "placeholder_email"),
        ("No-Email@acme.com", "placeholder_email"),
        ("ada@acme.com,bob@acme.com", "several_emails"),
        ("ada@acme.com / bob@acme.com", "several_emails"),
        ("#N/A", "null_word"),
        ("-", "null_word"),
        ("a" * 3_000, "too_long"),
    ],
)
def test_what_is_no_single_address_is_absent_with_a_reason(raw: str, problem: str) -> None:
    assert email(raw) == Normalized(None, problem)


@pytest.mark.parametrize("raw", [None, "", "   ", "\u200b"])
def test_empty_cell_is_no_problem(raw: object) -> None:
    assert email(raw) == Normalized(None)


@pytest.mark.parametrize(
    "address",
    [
        "info@acme.com", "sales@acme.com", "kontakt@acme.de", "buchhaltung@acme.de", "hr@acme.com",
        "ventas@acme.es", "comptabilite@acme.fr", "biuro@acme.pl", "no-reply@acme.com",
        "sales-emea@acme.com", "support2@acme.com", "info+ada@acme.com", "office.berlin@acme.de",
        "berlin-office@acme.de", "berlin_office2@acme.de", "uk.sales@acme.com", "hr.team@acme.com",
        "it-service@acme.com", "donotreply@acme.com", "do-not-reply@acme.com",
    ],
)  # fmt: skip
def test_mailbox_of_a_function_is_recognized(address: str) -> None:
    assert is_role_mailbox(address)


@pytest.mark.parametrize(
    "address",
    ["ada@acme.com", "ada.sales@acme.com", "infante@acme.com", "it.peters@acme.com", "i.r@acme.com",
     "mailer.john@acme.com", "salesman@acme.com", "carolina@acme.com", "steve.jobs@acme.com",
     "frank.press@acme.com", "j.sales2@acme.com", "dominique.bureau@acme.fr",
     "ada.lovelace.office@acme.com", "ada.serviceman@acme.com"],
)  # fmt: skip
def test_mailbox_of_a_human_is_not_taken_for_a_function(address: str) -> None:
    assert not is_role_mailbox(address)


def test_tagged_address_is_the_same_mailbox() -> None:
    assert mailbox("ada+crm@acme.com") == mailbox("ada@acme.com") == "ada@acme.com"
    assert mailbox("+ada@acme.com") == "+ada@acme.com"
