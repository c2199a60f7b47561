import pytest

from enrich_pipeline.domain.normalize import (
    Normalized,
    company_linkedin_url,
    domain,
    linkedin_slug,
    linkedin_slug_kind,
    linkedin_url,
)


@pytest.mark.parametrize(
    ("raw", "registrable"),
    [
        ("acme.com", "acme.com"),
        (" ACME.com ", "acme.com"),
        ("http://www.acme.co.uk/", "acme.co.uk"),
        ("https://shop.acme.co.uk:8443/about?x=1#y", "acme.co.uk"),
        ("acme.com/about", "acme.com"),
        ("//acme.com", "acme.com"),
        ("acme.com.", "acme.com"),
        ("acme.github.io", "acme.github.io"),
        ("münchen.de", "xn--mnchen-3ya.de"),
        ("nowhere-34.example", "nowhere-34.example"),
    ],
)
def test_domain_is_the_one_that_was_registered(raw: str, registrable: str) -> None:
    assert domain(raw) == Normalized(registrable)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ("localhost", "invalid_domain"),
        ("acme", "invalid_domain"),
        ("intranet.local", "invalid_domain"),
        ("co.uk", "invalid_domain"),
        ("github.io", "invalid_domain"),
        ("192.168.0.1", "invalid_domain"),
        ("http://[::1]/", "invalid_domain"),
        ("ada@acme.com", "invalid_domain"),
        ("Acme Inc", "invalid_domain"),
        ("acme..com", "invalid_domain"),
        ("-acme.com", "invalid_domain"),
        ("None", "null_word"),
        ("a" * 2_001, "too_long"),
    ],
)
def test_what_nobody_can_register_is_absent_with_a_reason(raw: str, problem: str) -> None:
    assert domain(raw) == Normalized(None, problem)


@pytest.mark.parametrize(
    "raw",
    [
        "https://www.linkedin.com/in/ada-lovelace-1a2b3c4d",
        "http://linkedin.com/in/ada-lovelace-1a2b3c4d/",
        "HTTPS://WWW.LinkedIn.com/in/Ada-Lovelace-1a2b3c4d",
        "https://m.linkedin.com/in/ada-lovelace-1a2b3c4d/",
        "https://fr.linkedin.com/in/ada-lovelace-1a2b3c4d",
        "https://www.linkedin.com/in/ada-lovelace-1a2b3c4d/de",
        "https://www.linkedin.com/in/ada-lovelace-1a2b3c4d/en-us/",
        "https://www.linkedin.com/in/ada-lovelace-1a2b3c4d?originalSubdomain=uk",
        "www.linkedin.com/in/ada-lovelace-1a2b3c4d#about",
        "linkedin.com/in/ada-lovelace-1a2b3c4d",
        " https://www.linkedin.com/in/ada-lovelace-1a2b3c4d ",
        "https://www.linkedin.com/mwlite/in/ada-lovelace-1a2b3c4d",
        "ada-lovelace-1a2b3c4d",
    ],
)
def test_every_form_of_a_profile_address_has_one_slug(raw: str) -> None:
    assert linkedin_slug(raw) == Normalized("ada-lovelace-1a2b3c4d")


def test_encoded_slug_is_decoded_in_any_script() -> None:
    assert linkedin_slug("https://www.linkedin.com/in/jos%C3%A9-mu%C3%B1oz").value == "josé-muñoz"
    assert linkedin_slug("linkedin.com/in/jos%25C3%25A9").value == "josé"
    assert linkedin_slug("linkedin.com/in/%D8%A3%D8%AD%D9%85%D8%AF-1").value == "أحمد-1"


def test_address_of_a_slug_is_ascii() -> None:
    assert linkedin_url("josé-muñoz") == "https://www.linkedin.com/in/jos%C3%A9-mu%C3%B1oz"


def test_opaque_member_id_keeps_its_case() -> None:
    member = "ACoAABcDEfGhIjKlMnOpQrStUvWxYz0123456789"
    assert linkedin_slug(f"https://www.linkedin.com/in/{member}").value == member


@pytest.mark.parametrize(
    ("slug", "kind"),
    [
        ("ACoAABcDEfGhIjKlMnOpQrStUvWxYz0123456789", "ACo"),
        ("ACwAABcDEfGhIjKlMnOpQrStUvWxYz0123456789", "ACw"),
        ("acoaabcdefghijklmnopqrstuvwxyz0123456789", "name"),
        ("ACoAAda", "name"),
        ("ada-lovelace", "name"),
    ],
)
def test_slug_is_a_public_name_or_one_of_several_member_ids(slug: str, kind: str) -> None:
    assert linkedin_slug_kind(slug) == kind


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ("https://www.linkedin.com/company/acme", "linkedin_company"),
        ("https://www.linkedin.com/school/acme/", "linkedin_company"),
        ("https://www.linkedin.com/sales/lead/ACwAAAada,NAME_SEARCH", "linkedin_sales_navigator"),
        ("https://www.linkedin.com/talent/profile/AEMAA", "linkedin_recruiter"),
        ("https://www.linkedin.com/pub/ada-lovelace/1/2b/3c4", "linkedin_old_profile"),
        ("https://www.linkedin.com/in/", "linkedin_without_profile"),
        ("www.linkedin.com", "linkedin_without_profile"),
        ("https://www.linkedin.com/feed/update/1", "linkedin_without_profile"),
        ("https://twitter.com/ada-lovelace-1a2b3c4d", "not_linkedin"),
        ("https://linkedin.com.evil.com/in/ada", "not_linkedin"),
        ("https://notlinkedin.com/in/ada", "not_linkedin"),
        ("linkedin", "invalid_linkedin"),
        ("Ada Lovelace", "invalid_linkedin"),
        ("https://www.linkedin.com/in/undefined", "invalid_linkedin"),
        ("https://www.linkedin.com/in/unavailable/", "invalid_linkedin"),
        ("https://www.linkedin.com/in/private", "invalid_linkedin"),
        ("https://www.linkedin.com/in/company", "invalid_linkedin"),
        ("https://www.linkedin.com/in/LinkedIn-Member", "invalid_linkedin"),
        ("linkedin.com/in/xxx", "invalid_linkedin"),
        ("https://www.linkedin.com/in/<script>", "invalid_linkedin"),
        ("undefined", "null_word"),
    ],
)
def test_other_pages_are_refused_with_a_reason(raw: str, problem: str) -> None:
    assert linkedin_slug(raw) == Normalized(None, problem)


@pytest.mark.parametrize(
    ("raw", "url"),
    [
        ("linkedin.com/company/Acme/about/", "https://www.linkedin.com/company/acme"),
        ("https://de.linkedin.com/company/1234?x=1", "https://www.linkedin.com/company/1234"),
        ("https://www.linkedin.com/school/mit", "https://www.linkedin.com/school/mit"),
        ("https://www.linkedin.com/sales/company/1234", "https://www.linkedin.com/company/1234"),
    ],
)
def test_company_page_has_one_address(raw: str, url: str) -> None:
    assert company_linkedin_url(raw) == Normalized(url)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ("https://www.linkedin.com/in/ada", "linkedin_not_a_company"),
        ("https://www.linkedin.com/company/", "linkedin_not_a_company"),
        ("https://acme.com", "not_linkedin"),
        ("n/a", "null_word"),
    ],
)
def test_what_is_no_company_page_is_absent_with_a_reason(raw: str, problem: str) -> None:
    assert company_linkedin_url(raw) == Normalized(None, problem)
