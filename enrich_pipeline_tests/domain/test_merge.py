"""The rules by which a value of a contact wins, one by one, and what holds for any candidates."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrich_pipeline.domain.enrichment import Attribute, Field, ValueStatus
from enrich_pipeline.domain.merge import (
    UNIT,
    Merged,
    Own,
    Report,
    is_same_employer,
    merge,
)

NOW = datetime(2026, 5, 1, tzinfo=UTC)
WATERFALLS = {
    Field.WORK_EMAIL: ("prospeo", "agntdata"),
    Field.PHONE: ("prospeo", "lance"),
    Field.PERSONAL_EMAIL: ("pronto",),
    Field.PROFILE: ("prospeo", "agntdata"),
}
WEEK, QUARTER, YEAR = (NOW - timedelta(days=days) for days in (7, 100, 400))
_ids = count(1)


def report(attribute: Attribute, value: str, **columns: Any) -> Report:
    number = next(_ids)
    values: dict[str, Any] = {
        "observation_id": number,
        "line_id": number,
        "attribute": attribute,
        "value": value,
        "status": ValueStatus.VERIFIED,
        "provider": "prospeo",
        "observed_at": NOW,
    }
    return Report(**(values | columns))


def unit(line: int, at: datetime = NOW, **values: str) -> list[Report]:
    status = ValueStatus.UNKNOWN
    return [
        report(Attribute(name), value, line_id=line, observed_at=at, status=status)
        for name, value in values.items()
    ]


def phone(value: str, **columns: Any) -> Report:
    return report(Attribute.PHONE, value, **columns)


def email(value: str, **columns: Any) -> Report:
    return report(Attribute.WORK_EMAIL, value, **columns)


def value_of(merged: Merged, attribute: Attribute) -> str | None:
    value = merged.values.get(attribute)
    return value.value if value else None


STATUSES = [
    ValueStatus.VERIFIED,
    ValueStatus.CATCH_ALL,
    ValueStatus.UNVERIFIED,
]


@pytest.mark.parametrize(("better", "worse"), [*pairwise(STATUSES)])
def test_status_comes_before_age(better: ValueStatus, worse: ValueStatus) -> None:
    old, new = phone("+491", status=better, observed_at=YEAR), phone("+492", status=worse)

    assert value_of(merge(Own(), [old, new], WATERFALLS), Attribute.PHONE) == "+491"


def test_unverified_and_unknown_rank_alike() -> None:
    unknown = phone("+491", status=ValueStatus.UNKNOWN, observed_at=YEAR)
    unverified = phone("+492", status=ValueStatus.UNVERIFIED, observed_at=WEEK)

    assert value_of(merge(Own(), [unknown, unverified], WATERFALLS), Attribute.PHONE) == "+492"
    swapped = [replace(unknown, observed_at=NOW), unverified]
    assert value_of(merge(Own(), swapped, WATERFALLS), Attribute.PHONE) == "+491"


def test_the_newer_of_equals_wins_over_the_crm_too() -> None:
    own = Own(phone="+490", phone_verified_at=WEEK)

    assert value_of(merge(own, [phone("+491")], WATERFALLS), Attribute.PHONE) == "+491"
    older = phone("+491", observed_at=YEAR)
    assert value_of(merge(own, [older], WATERFALLS), Attribute.PHONE) == "+490"


def test_a_crm_value_without_a_date_is_unverified_and_of_unknown_age() -> None:
    own = Own(phone="+490")
    ancient = phone("+491", status=ValueStatus.UNVERIFIED, observed_at=YEAR)

    assert value_of(merge(own, [ancient], WATERFALLS), Attribute.PHONE) == "+491"
    kept = merge(own, [], WATERFALLS).values[Attribute.PHONE]
    assert (kept.status, kept.source, kept.observed_at) == (ValueStatus.UNVERIFIED, "crm", None)


def test_at_the_same_moment_the_waterfall_decides_and_the_crm_comes_last() -> None:
    own = Own(phone="+490", phone_verified_at=NOW)
    lance, apollo = phone("+491", provider="lance"), phone("+492", provider="apollo")

    assert value_of(merge(own, [apollo, lance], WATERFALLS), Attribute.PHONE) == "+491"
    assert value_of(merge(own, [apollo], WATERFALLS), Attribute.PHONE) == "+492"


def test_within_a_reply_the_value_named_first_wins() -> None:
    first, second = phone("+491", line_id=7), phone("+492", line_id=7)

    assert value_of(merge(Own(), [second, first], WATERFALLS), Attribute.PHONE) == "+491"


def test_a_locked_value_wins_and_a_lock_without_value_holds_nothing_back() -> None:
    locks = frozenset({Field.PHONE})

    locked = merge(Own(phone="+490", locks=locks), [phone("+491")], WATERFALLS)
    assert value_of(locked, Attribute.PHONE) == "+490"
    empty = merge(Own(locks=locks), [phone("+491")], WATERFALLS)
    assert value_of(empty, Attribute.PHONE) == "+491"


def test_bought_private_addresses_need_consent() -> None:
    bought = report(Attribute.PERSONAL_EMAIL, "a@home.example")
    own = Own(personal_email="own@home.example")

    kept = merge(own, [bought], WATERFALLS)
    assert value_of(kept, Attribute.PERSONAL_EMAIL) == "own@home.example"
    consenting = merge(replace(own, personal_email_consent=True), [bought], WATERFALLS)
    assert value_of(consenting, Attribute.PERSONAL_EMAIL) == "a@home.example"


def test_a_valid_linkedin_address_of_the_crm_stays() -> None:
    own = Own(linkedin_url="https://www.linkedin.com/in/own")
    found = report(Attribute.LINKEDIN_URL, "https://www.linkedin.com/in/found")

    assert value_of(merge(own, [found], WATERFALLS), Attribute.LINKEDIN_URL) == own.linkedin_url
    assert value_of(merge(Own(), [found], WATERFALLS), Attribute.LINKEDIN_URL) == found.value


def test_a_profile_is_won_as_one_unit() -> None:
    new = unit(1, job_title="CTO", company_name="Globex")
    old = unit(2, WEEK, job_title="VP", company_name="Acme", company_domain="acme.com",
               location="Oslo")  # fmt: skip

    merged = merge(Own(), old + new, WATERFALLS)

    assert merged.profile == {Attribute.JOB_TITLE: "CTO", Attribute.COMPANY_NAME: "Globex"}


def test_what_the_winner_lacks_comes_from_a_sighting_at_the_same_employer() -> None:
    own = Own(job_title="VP", company_name="ACME", company_domain="acme.com")
    new = unit(1, job_title="CTO", company_name="Acme")

    assert merge(own, new, WATERFALLS).profile == {
        Attribute.JOB_TITLE: "CTO",
        Attribute.COMPANY_NAME: "Acme",
        Attribute.COMPANY_DOMAIN: "acme.com",
    }


def test_a_sighting_without_title_does_not_empty_the_title() -> None:
    own = Own(job_title="VP", company_name="Acme")

    merged = merge(own, unit(1, company_name="Globex"), WATERFALLS)

    assert merged.profile[Attribute.JOB_TITLE] == "VP"
    assert merged.profile_source == "crm"


def test_the_newest_sighting_of_a_job_wins_over_a_lapsed_verification() -> None:
    own = Own(job_title="VP", company_name="Acme", profile_verified_at=YEAR)

    merged = merge(own, unit(1, job_title="CTO", company_name="Globex"), WATERFALLS)

    assert (merged.profile_source, merged.profile_status) == ("prospeo", ValueStatus.UNKNOWN)


def test_after_a_job_change_the_old_work_email_is_worth_least() -> None:
    own = Own(
        email="a@mail.acme.com",
        email_verified_at=NOW,
        job_title="VP",
        company_name="Acme",
        company_domain="acme.com",
        profile_verified_at=YEAR,
    )
    change = unit(1, job_title="CTO", company_name="Globex", company_domain="globex.com")

    alone = merge(own, change, WATERFALLS)
    assert (value_of(alone, Attribute.WORK_EMAIL), alone.is_work_email_outdated) == (
        own.email,
        True,
    )
    weak = email("a@globex.com", status=ValueStatus.UNVERIFIED, observed_at=YEAR)
    found = merge(own, [*change, weak], WATERFALLS)
    assert (value_of(found, Attribute.WORK_EMAIL), found.is_work_email_outdated) == (
        "a@globex.com",
        False,
    )


def test_an_employer_seen_later_than_the_winner_is_no_former_one() -> None:
    own = Own(job_title="VP", company_name="Acme", company_domain="acme.com", email="a@globex.com")
    incomplete = unit(1, company_name="Globex", company_domain="globex.com")

    assert not merge(own, incomplete, WATERFALLS).is_work_email_outdated


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (("Acme", "acme.com"), ("Globex", "acme.com"), True),
        (("Acme", "acme.com"), ("ACME", "acme.io"), True),
        (("Acme Ltd", "acme.co.uk"), ("Acme", "acme.com"), True),
        (("Acme, Inc.", "acme.com"), ("Acme", None), True),
        (("Acme Ltd", None), ("Acme Ltd.", None), True),
        (("Opal Anchor GmbH", None), ("OpalAnchor", None), True),
        (("Rhein-Main Bau", None), ("Rhein Main Bau", None), True),
        (("Delta", "delta.com"), ("Delta Dental", "deltadental.com"), True),
        (("Acme", None), ("Acmeister", None), False),
        (("Acme UK", None), ("Acme US", None), False),
        (("アクメ", None), ("グローベックス", None), False),
        (("-", None), ("(Acme)", None), False),
        (("Acme", "acme.com"), ("Globex", "globex.com"), False),
        ((None, "acme.com"), ("Globex", "globex.com"), False),
        (("Acme", None), ("Globex", "globex.com"), False),
        ((None, "acme.com"), ("Globex", None), None),
        ((None, None), ("Globex", "globex.com"), None),
    ],
)
def test_employers_are_compared_by_what_both_state(
    one: tuple[str | None, str | None], other: tuple[str | None, str | None], is_same: bool | None
) -> None:
    assert is_same_employer(*one, *other) is is_same
    assert is_same_employer(*other, *one) is is_same


@pytest.mark.parametrize(
    ("known", "seen", "domain"),
    [
        (("Acme Ltd", "acme.com"), ("Acme", "acme.io"), "acme.io"),
        (("Acme, Inc.", "acme.com"), ("Acme", None), "acme.com"),
        (("Acme Ltd", "acme.com"), ("Acme Ltd.", None), "acme.com"),
    ],
)
def test_another_spelling_of_the_employer_outdates_no_address(
    known: tuple[str, str], seen: tuple[str, str | None], domain: str
) -> None:
    own = Own(
        email="ada@acme.com",
        email_verified_at=WEEK,
        job_title="VP",
        company_name=known[0],
        company_domain=known[1],
        profile_verified_at=WEEK,
    )
    named = {"job_title": "CTO", "company_name": seen[0], "company_domain": seen[1]}
    sighting = unit(1, NOW, **{name: value for name, value in named.items() if value})
    unsure = email("x@catchall.example", status=ValueStatus.UNVERIFIED)

    merged = merge(own, [*sighting, unsure], WATERFALLS)

    assert (value_of(merged, Attribute.WORK_EMAIL), merged.is_work_email_outdated) == (
        "ada@acme.com",
        False,
    )
    assert merged.profile[Attribute.JOB_TITLE] == "CTO"
    assert merged.profile.get(Attribute.COMPANY_DOMAIN) == domain


def test_no_domain_of_the_employer_is_a_former_one() -> None:
    own = Own(email="a@acme.com", job_title="VP", company_name="Acme Ltd",
              company_domain="acme.com", profile_verified_at=WEEK)  # fmt: skip
    nameless = unit(1, YEAR, job_title="VP", company_domain="acme.com")
    seen = unit(2, job_title="CTO", company_name="Acme", company_domain="acme.io")

    assert not merge(own, [*nameless, *seen], WATERFALLS).is_work_email_outdated


VALUES = {
    Attribute.WORK_EMAIL: st.sampled_from(["a@acme.com", "b@acme.com", "a@globex.com"]),
    Attribute.COMPANY_NAME: st.sampled_from(["Acme", "Acme, Inc.", "Globex"]),
    Attribute.COMPANY_DOMAIN: st.sampled_from(["acme.com", "globex.com"]),
}
REPORT = st.sampled_from(Attribute).flatmap(
    lambda attribute: st.builds(
        Report,
        observation_id=st.integers(1, 10_000),
        line_id=st.integers(1, 3),
        attribute=st.just(attribute),
        value=VALUES.get(attribute, st.sampled_from(["one", "two", " "])),
        status=st.sampled_from(ValueStatus),
        provider=st.sampled_from(["prospeo", "lance", "apollo"]),
        observed_at=st.sampled_from([NOW, WEEK, QUARTER, YEAR]),
    )
)
REPORTS = st.lists(REPORT, max_size=10, unique_by=lambda r: r.observation_id)
TIMES = st.none() | st.sampled_from([NOW, WEEK, QUARTER, YEAR])
OWN = st.builds(
    Own,
    email=st.none() | VALUES[Attribute.WORK_EMAIL],
    email_verified_at=TIMES,
    phone=st.none() | st.just("own"),
    phone_verified_at=TIMES,
    job_title=st.none() | st.just("own"),
    company_name=st.none() | VALUES[Attribute.COMPANY_NAME],
    company_domain=st.none() | VALUES[Attribute.COMPANY_DOMAIN],
    profile_verified_at=TIMES,
)


@given(own=OWN, reports=REPORTS, shuffled=st.randoms(use_true_random=False))
def test_the_order_of_reports_does_not_matter(
    own: Own, reports: list[Report], shuffled: Any
) -> None:
    one_provider_per_line = [replace(r, provider=f"p{r.line_id}") for r in reports]
    merged = merge(own, one_provider_per_line, WATERFALLS)
    shuffled.shuffle(one_provider_per_line)

    assert merge(own, one_provider_per_line, WATERFALLS) == merged


@given(own=OWN, reports=REPORTS)
def test_nothing_known_is_lost_except_to_another_employer(own: Own, reports: list[Report]) -> None:
    merged = merge(own, reports, WATERFALLS)

    assert (Attribute.WORK_EMAIL in merged.values) >= (own.email is not None)
    assert (Attribute.PHONE in merged.values) >= (own.phone is not None)
    profile = merged.profile
    is_same = is_same_employer(
        own.company_name,
        own.company_domain,
        profile.get(Attribute.COMPANY_NAME),
        profile.get(Attribute.COMPANY_DOMAIN),
    )
    for attribute, value in (
        (Attribute.JOB_TITLE, own.job_title),
        (Attribute.COMPANY_NAME, own.company_name),
        (Attribute.COMPANY_DOMAIN, own.company_domain),
    ):
        assert value is None or attribute in profile or is_same is False


@given(own=OWN, reports=REPORTS, attribute=st.sampled_from([Attribute.PHONE, *UNIT]))
def test_empty_and_invalid_reports_change_nothing(
    own: Own, reports: list[Report], attribute: Attribute
) -> None:
    invalid = report(attribute, "x", observation_id=20_000, status=ValueStatus.INVALID)
    empty = report(attribute, " ", observation_id=20_001)

    assert merge(own, [*reports, invalid, empty], WATERFALLS) == merge(own, reports, WATERFALLS)


@given(own=OWN, reports=REPORTS)
def test_a_worse_phone_changes_nothing(own: Own, reports: list[Report]) -> None:
    merged = merge(own, reports, WATERFALLS)
    winner = merged.values.get(Attribute.PHONE)
    if winner is None:
        return
    worse = phone(
        "worse",
        observation_id=20_000,
        line_id=4,
        provider="apollo",
        status=ValueStatus.UNVERIFIED,
        observed_at=YEAR - timedelta(days=1),
    )
    if winner.status is ValueStatus.UNVERIFIED and winner.observed_at is None:
        return  # of unknown age: any date is better

    assert merge(own, [*reports, worse], WATERFALLS) == merged
