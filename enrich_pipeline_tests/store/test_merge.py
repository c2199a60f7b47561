"""The merge in SQL on a real PostgreSQL: it decides as specified, and writes only what differs."""

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, Row, text
from sqlalchemy.exc import IntegrityError

from enrich_pipeline.domain.enrichment import Attribute, Field, ValueStatus
from enrich_pipeline.domain.merge import UNIT, Own, Report, merge
from enrich_pipeline.store.merge import REASONS, remerge
from enrich_pipeline_tests.store import rows

DAY = date(2026, 5, 1)
NOW = datetime(2026, 5, 1, 2, tzinfo=UTC)
POLICY = rows.default_policy()
WATERFALLS = {field: policy.waterfall for field, policy in POLICY.fields.items()}
PROVIDERS = ("prospeo", "agntdata", "pronto")


@pytest.fixture
def conn(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        rows.person(connection, 1)
        rows.call(connection, 1, "prospeo", DAY)
        for line_id, provider in enumerate(PROVIDERS, start=1):
            rows.line(connection, line_id, 1, 1, provider)
        yield connection


def dim(conn: Connection, contact_id: str = "c1") -> Row[Any]:
    query = text("select * from analytics.dim_contacts where contact_id = :id")
    return conn.execute(query, {"id": contact_id}).one()


def history(conn: Connection, contact_id: str = "c1") -> list[Row[Any]]:
    query = "select * from analytics.dim_contact_history where contact_id = :id order by valid_from"
    return list(conn.execute(text(query), {"id": contact_id}))


def reasons(conn: Connection) -> dict[int, str | None]:
    query = "select observation_id, is_winner, rejected_reason from enrichment.observations"
    found = {}
    for row in conn.execute(text(query)):
        assert row.is_winner == (row.rejected_reason is None)
        found[row.observation_id] = row.rejected_reason
    return found


def everything(conn: Connection) -> list[list[Row[Any]]]:
    return [
        list(conn.execute(text(query)))
        for query in (
            "select * from analytics.dim_contacts order by contact_id",
            "select * from analytics.dim_contact_history order by contact_version_id",
            "select observation_id, is_winner, rejected_reason, xmin from enrichment.observations "
            "order by observation_id",
        )
    ]


# Small pools, so that equal values, ties and shared employers are common.
DOMAINS = st.sampled_from(["acme.com", "globex.com", "Hooli.example"])
NAMES = st.sampled_from(["Acme", "Acme, Inc.", "Globex", "acme", "Acme Robotics", "a-c.me", "-"])
TITLES = st.sampled_from(["CTO", "VP Sales"])
EMAILS = st.sampled_from(
    [
        "a@acme.com",
        "b@acme.com",
        "a@mail.acme.com",
        "a@globex.com",
        "a@hooli.example",
        "a@notacme.com",
    ]
)
TIMES = st.sampled_from([NOW - timedelta(days=days) for days in (1, 2, 100, 400)])
VALUES = {
    Attribute.WORK_EMAIL: EMAILS,
    Attribute.PHONE: st.sampled_from(["+491", "+492", " "]),
    Attribute.PERSONAL_EMAIL: st.sampled_from(["a@home.example", "b@home.example"]),
    Attribute.JOB_TITLE: TITLES,
    Attribute.COMPANY_NAME: NAMES,
    Attribute.COMPANY_DOMAIN: DOMAINS,
    Attribute.LINKEDIN_URL: st.sampled_from(
        ["https://www.linkedin.com/in/a", "https://www.linkedin.com/in/b"]
    ),
    Attribute.LOCATION: st.sampled_from(["Oslo", "Lima"]),
}
REPORT = st.sampled_from(Attribute).flatmap(
    lambda attribute: st.tuples(
        st.sampled_from(range(len(PROVIDERS))),
        st.just(attribute),
        VALUES[attribute],
        st.sampled_from(ValueStatus),
        TIMES,
    )
)


def numbered(drawn: list[tuple[int, Attribute, str, ValueStatus, datetime]]) -> list[Report]:
    return [
        Report(n, line + 1, attribute, value, status, PROVIDERS[line], at)
        for n, (line, attribute, value, status, at) in enumerate(drawn, start=1)
    ]


REPORTS = st.lists(REPORT, max_size=14, unique_by=lambda r: (r[0], r[1], r[2])).map(numbered)
OWN = st.builds(
    Own,
    email=st.none() | EMAILS,
    email_verified_at=st.none() | TIMES,
    phone=st.none() | st.just("+490"),
    phone_verified_at=st.none() | TIMES,
    personal_email=st.none() | st.just("o@home.example"),
    personal_email_verified_at=st.none() | TIMES,
    personal_email_consent=st.booleans(),
    job_title=st.none() | TITLES,
    company_name=st.none() | NAMES,
    company_domain=st.none() | DOMAINS,
    profile_verified_at=st.none() | TIMES,
    linkedin_url=st.none() | st.just("https://www.linkedin.com/in/own"),
    locks=st.frozensets(st.sampled_from(Field), max_size=2),
)


def put_reports(conn: Connection, reports: list[Report]) -> None:
    for r in reports:
        rows.observation(
            conn,
            r.observation_id,
            1,
            r.attribute,
            r.value,
            r.provider,
            r.line_id,
            r.observed_at,
            status=r.status,
        )


def put_contact(conn: Connection, contact_id: str, own: Own) -> None:
    columns = {k: v for k, v in asdict(own).items() if k not in ("linkedin_url", "locks")}
    slug = own.linkedin_url and own.linkedin_url.rpartition("/")[2]
    rows.contact(conn, contact_id, 1, linkedin_slug=slug, **columns)
    locks = [
        {"contact_id": contact_id, "field": f, "reason": "", "locked_at": NOW} for f in own.locks
    ]
    rows.insert(conn, "value_locks", locks)


def assert_as_specified(
    conn: Connection, contact_id: str, own: Own, reports: list[Report]
) -> set[int]:
    """Compare one row of dim_contacts with the specification; return who should have won."""
    wanted, row = merge(own, reports, WATERFALLS), dim(conn, contact_id)
    winners = set()
    for attribute in set(Attribute) - set(UNIT) - {Attribute.LINKEDIN_URL}:
        value = wanted.values.get(attribute)
        found = [
            getattr(row, attribute + suffix)
            for suffix in ("", "_status", "_source", "_observed_at")
        ]
        expected = (
            [value.value, value.status, value.source, value.observed_at] if value else [None] * 4
        )
        assert found == expected, attribute
    linkedin = wanted.values.get(Attribute.LINKEDIN_URL)
    assert row.linkedin_url == (linkedin and linkedin.value)
    for value in wanted.values.values():
        if value.observation_id is not None:
            winners.add(value.observation_id)
    for attribute in UNIT:
        assert getattr(row, attribute) == wanted.profile.get(attribute), attribute
    assert row.profile_status == wanted.profile_status
    assert row.profile_source == wanted.profile_source
    assert row.profile_observed_at == wanted.profile_observed_at
    assert row.is_work_email_outdated == wanted.is_work_email_outdated
    return winners


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(first=OWN, second=OWN, reports=REPORTS)
def test_sql_decides_as_the_specification(
    conn: Connection, first: Own, second: Own, reports: list[Report]
) -> None:
    with conn.begin_nested() as attempt:
        put_contact(conn, "c1", first)
        put_contact(conn, "c2", second)
        put_reports(conn, reports)

        remerge(conn, POLICY, ["c1"], NOW)

        winners = assert_as_specified(conn, "c1", first, reports)
        winners |= assert_as_specified(conn, "c2", second, reports)
        units = {r.observation_id for r in reports if r.attribute in UNIT}
        lost = reasons(conn)
        assert {n for n, reason in lost.items() if reason is None} - units == winners - units

        before = everything(conn)
        remerge(conn, POLICY, ["c2"], NOW + timedelta(days=500))
        assert everything(conn) == before
        attempt.rollback()


AGES = {"now": NOW, "week": NOW - timedelta(days=7), "year": NOW - timedelta(days=365)}


def observe(
    conn: Connection, observation_id: int, attribute: str, value: str, line: int = 1, **columns: Any
) -> None:
    at = columns.pop("at", NOW)
    rows.observation(
        conn, observation_id, 1, attribute, value, PROVIDERS[line - 1], line, at, **columns
    )


def test_losers_carry_the_reason(conn: Connection) -> None:
    rows.contact(conn, "c1", 1, company_domain="old.example", company_name="Old", linkedin_slug="a")
    observe(conn, 1, "work_email", "won@acme.com")
    observe(conn, 2, "work_email", "catch@acme.com", status="catch_all")
    observe(conn, 3, "work_email", "older@acme.com", line=2, at=AGES["week"])
    observe(conn, 4, "work_email", "fresh@old.example", line=2)
    observe(conn, 5, "work_email", "bad@acme.com", status="invalid")
    observe(conn, 6, "work_email", "won@acme.com", line=3, at=AGES["year"])
    observe(conn, 7, "work_email", "late@acme.com", line=2)
    observe(conn, 8, "personal_email", "a@home.example")
    observe(conn, 9, "linkedin_url", "https://www.linkedin.com/in/b")
    observe(conn, 10, "company_name", "Acme")
    observe(conn, 11, "company_domain", "acme.com")
    observe(conn, 12, "job_title", "CTO")
    observe(conn, 13, "job_title", "Intern", line=2)
    observe(conn, 14, "phone", "+491", rejected_reason="other_person")

    remerge(conn, POLICY, ["c1"], NOW)

    conn.execute(text("delete from enrichment.observations where observation_id = 14"))
    assert reasons(conn) == {
        1: None,
        2: "less_verified",
        3: "older",
        4: "former_employer",
        5: "invalid",
        6: "same_value",
        7: "source_order",
        8: "no_consent",
        9: "crm_kept",
        10: None,
        11: None,
        12: None,
        13: "incomplete",
    }


ADA = {"email_verified_at": AGES["week"], "profile_verified_at": AGES["week"], "job_title": "VP"}


@pytest.mark.parametrize(
    ("known", "seen", "wanted"),
    [
        (("Acme Ltd", "acme.co.uk"), ("Acme", "acme.com"), ("Acme", "acme.com")),
        (("Acme, Inc.", "acme.com"), ("Acme", None), ("Acme", "acme.com")),
        (("Acme Ltd", "acme.com"), ("Acme Ltd.", None), ("Acme Ltd.", "acme.com")),
    ],
)
def test_a_legal_form_costs_no_contact_its_verified_address_or_its_domain(
    conn: Connection,
    known: tuple[str, str],
    seen: tuple[str, str | None],
    wanted: tuple[str, str],
) -> None:
    own = f"ada@{known[1]}"
    rows.contact(conn, "c1", 1, email=own, company_name=known[0], company_domain=known[1], **ADA)
    observe(conn, 1, "job_title", "CTO")
    observe(conn, 2, "company_name", seen[0])
    if seen[1]:
        observe(conn, 3, "company_domain", seen[1])
    observe(conn, 4, "work_email", "a.lovelace@acme.com", line=2, status="unverified")

    remerge(conn, POLICY, ["c1"], NOW)

    row = dim(conn)
    assert (row.job_title, row.company_name, row.company_domain) == ("CTO", *wanted)
    assert (row.work_email, row.work_email_status) == (own, "verified")
    assert not row.is_work_email_outdated


def test_a_job_change_outdates_the_address_at_the_employer_before(conn: Connection) -> None:
    acme = {"company_name": "Acme Ltd", "company_domain": "acme.com"}
    rows.contact(conn, "c1", 1, email="ada@acme.com", **acme, **ADA)
    observe(conn, 1, "job_title", "CTO")
    observe(conn, 2, "company_name", "Globex")

    remerge(conn, POLICY, ["c1"], NOW)
    assert (dim(conn).company_domain, dim(conn).is_work_email_outdated) == (None, True)

    observe(conn, 3, "work_email", "ada@globex.com", line=2, status="unverified")
    remerge(conn, POLICY, ["c1"], NOW)
    assert (dim(conn).work_email, dim(conn).is_work_email_outdated) == ("ada@globex.com", False)


def test_no_domain_of_the_employer_is_a_former_one(conn: Connection) -> None:
    own = {"email": "ada@acme.com", "company_name": "Acme Ltd", "company_domain": "acme.com"}
    rows.contact(conn, "c1", 1, **own, **ADA)
    observe(conn, 1, "company_domain", "acme.com", at=AGES["year"])
    observe(conn, 2, "job_title", "CTO", line=2)
    observe(conn, 3, "company_name", "Acme", line=2)
    observe(conn, 4, "company_domain", "acme.io", line=2)

    remerge(conn, POLICY, ["c1"], NOW)

    assert (dim(conn).company_domain, dim(conn).is_work_email_outdated) == ("acme.io", False)


def test_without_a_contact_left_nothing_wins(conn: Connection) -> None:
    rows.contact(conn, "c1", 1)
    observe(conn, 1, "phone", "+491")
    remerge(conn, POLICY, ["c1"], AGES["week"])
    conn.execute(text("update enrichment.contacts set removed_at = now()"))
    observe(conn, 2, "phone", "+492", status="unverified")

    remerge(conn, POLICY, ["c1"], NOW)

    assert reasons(conn) == {1: "no_contact", 2: "no_contact"}
    conn.execute(text("update enrichment.contacts set removed_at = null"))
    remerge(conn, POLICY, ["c1"], NOW)
    assert reasons(conn) == {1: None, 2: "less_verified"}


def test_a_contact_that_went_over_to_another_person_takes_no_values_along(conn: Connection) -> None:
    rows.person(conn, 2)
    rows.contact(conn, "c1", 1)
    joined = {"contact_id": "c1", "person_id": 1, "reason": "new", "valid_to": NOW}
    rows.insert(conn, "contact_persons", [joined | {"valid_from": AGES["year"]}])
    observe(conn, 1, "phone", "+491")
    remerge(conn, POLICY, ["c1"], AGES["week"])
    conn.execute(text("update enrichment.contacts set person_id = 2"))

    remerge(conn, POLICY, ["c1"], NOW)

    assert dim(conn).phone is None
    assert reasons(conn) == {1: "no_contact"}


def test_the_reasons_are_those_that_the_comment_tells(conn: Connection) -> None:
    query = """
        select col_description(attrelid, attnum) from pg_attribute
        where attrelid = cast('analytics.fct_field_observations' as regclass)
          and attname = 'rejected_reason'
    """
    comment = str(conn.execute(text(query)).scalar_one())
    told = comment.partition(": ")[2].partition(";")[0].split(", ")
    assert set(told) == {*REASONS, "other_person"}


def test_an_answer_about_another_person_never_enters_and_keeps_its_reason(conn: Connection) -> None:
    rows.contact(conn, "c1", 1)
    observe(conn, 1, "phone", "+491", rejected_reason="other_person")

    remerge(conn, POLICY, ["c1"], NOW)

    assert dim(conn).phone is None
    query = "select is_winner, rejected_reason from enrichment.observations"
    assert conn.execute(text(query)).one() == (False, "other_person")


def test_a_locked_value_of_the_crm_stays(conn: Connection) -> None:
    rows.contact(conn, "c1", 1, phone="+490")
    lock = {"contact_id": "c1", "field": "phone", "reason": "", "locked_at": NOW}
    rows.insert(conn, "value_locks", [lock])
    observe(conn, 1, "phone", "+491")

    remerge(conn, POLICY, ["c1"], NOW)

    assert (dim(conn).phone, dim(conn).phone_source) == ("+490", "crm")
    assert reasons(conn) == {1: "locked"}


def test_an_observation_that_wins_on_one_contact_is_a_winner(conn: Connection) -> None:
    rows.contact(conn, "c1", 1, personal_email_consent=False, personal_email="own@home.example")
    rows.contact(conn, "c2", 1, personal_email_consent=True)
    observe(conn, 1, "personal_email", "a@home.example")

    remerge(conn, POLICY, ["c1"], NOW)

    assert dim(conn, "c1").personal_email == "own@home.example"
    assert dim(conn, "c2").personal_email == "a@home.example"
    assert reasons(conn) == {1: None}


def test_erased_values_are_gone_from_the_contact(conn: Connection) -> None:
    rows.contact(conn, "c1", 1)
    observe(conn, 1, "phone", "+491")
    remerge(conn, POLICY, ["c1"], NOW)
    conn.execute(text("update enrichment.observations set value = null, erased_at = now()"))

    remerge(conn, POLICY, ["c1"], NOW + timedelta(days=1))

    assert dim(conn).phone is None


def test_observations_of_a_merged_person_count_for_the_survivor(conn: Connection) -> None:
    rows.person(conn, 2, merged_into=1)
    rows.contact(conn, "c1", 1)
    rows.contact(conn, "c2", 2)
    rows.observation(conn, 1, 2, "phone", "+491", "lance", 1, NOW)

    remerge(conn, POLICY, ["c1"], NOW)

    assert (dim(conn, "c1").phone, dim(conn, "c2").phone) == ("+491", "+491")
    assert dim(conn, "c2").person_id == 1


def test_versions_are_half_open_and_name_what_changed(conn: Connection) -> None:
    rows.contact(conn, "c1", 1, full_name="Ada Roe")
    remerge(conn, POLICY, ["c1"], AGES["week"])
    observe(conn, 1, "phone", "+491")
    remerge(conn, POLICY, ["c1"], NOW)

    first, second = history(conn)
    assert first.changed_fields == ["person_id", "full_name"]
    assert second.changed_fields == ["phone", "phone_status", "phone_source", "phone_observed_at"]
    assert (first.valid_from, first.valid_to, first.is_current) == (AGES["week"], NOW, False)
    assert (second.valid_from, second.valid_to, second.is_current) == (NOW, None, True)


def test_changes_at_one_moment_still_follow_each_other(conn: Connection) -> None:
    rows.contact(conn, "c1", 1)
    remerge(conn, POLICY, ["c1"], NOW)
    for number, value in enumerate(("+491", "+492"), start=1):
        observe(conn, number, "phone", value, at=NOW + timedelta(hours=number))
        remerge(conn, POLICY, ["c1"], NOW - timedelta(days=number))

    versions = history(conn)
    assert [v.phone for v in versions] == [None, "+491", "+492"]
    pairs = zip(versions, versions[1:], strict=False)
    assert all(before.valid_to == after.valid_from for before, after in pairs)


def test_overlapping_versions_are_refused(conn: Connection) -> None:
    rows.contact(conn, "c1", 1)
    remerge(conn, POLICY, ["c1"], NOW)
    again = """
        insert into analytics.dim_contact_history
            (contact_id, is_work_email_outdated, is_suppressed, changed_fields,
             valid_from, valid_to)
        values (:id, false, false, '{}', :valid_from, :valid_to)
    """
    before = {"valid_from": AGES["week"], "valid_to": NOW}
    conn.execute(text(again), {"id": "c1", **before})
    conn.execute(text(again), {"id": "another", **before})

    with pytest.raises(IntegrityError, match="dim_contact_history_no_overlap"):
        conn.execute(text(again), {"id": "c1", "valid_from": AGES["year"], "valid_to": None})


def test_a_contact_that_left_the_source_leaves_and_may_return(conn: Connection) -> None:
    rows.contact(conn, "c1", 1, full_name="Ada Roe")
    remerge(conn, POLICY, ["c1"], AGES["year"])
    conn.execute(text("update enrichment.contacts set removed_at = now()"))
    remerge(conn, POLICY, ["c1"], AGES["week"])

    assert conn.execute(text("select count(*) from analytics.dim_contacts")).scalar() == 0
    assert [v.valid_to for v in history(conn)] == [AGES["week"]]

    conn.execute(text("update enrichment.contacts set removed_at = null"))
    remerge(conn, POLICY, ["c1"], NOW)
    assert [(v.valid_from, v.is_current) for v in history(conn)] == [
        (AGES["year"], False),
        (NOW, True),
    ]


def test_suppressed_persons_are_marked_and_never_due(conn: Connection) -> None:
    rows.contact(conn, "c1", 1)
    rows.insert(conn, "person_inputs", [{"person_id": 1, "is_blocked": True, "updated_at": NOW}])

    remerge(conn, POLICY, ["c1"], NOW)

    assert (dim(conn).is_suppressed, dim(conn).next_refresh_at) == (True, None)


def test_next_refresh_is_when_the_first_field_becomes_stale(conn: Connection) -> None:
    own = {"email": "a@acme.com", "email_verified_at": AGES["week"], "phone": "+490"}
    profile = {"job_title": "CTO", "company_name": "Acme", "profile_verified_at": NOW}
    rows.contact(conn, "c1", 1, **own, **profile, phone_verified_at=AGES["week"])

    remerge(conn, POLICY, ["c1"], NOW)

    assert dim(conn).next_refresh_at == AGES["week"] + timedelta(days=90)


def test_a_missing_field_is_due_since_the_contact_exists(conn: Connection) -> None:
    rows.contact(conn, "c1", 1, created_at=AGES["week"])

    remerge(conn, POLICY, ["c1"], NOW)

    assert dim(conn).next_refresh_at == AGES["week"]


def test_a_miss_is_due_when_the_first_provider_may_be_asked_again(conn: Connection) -> None:
    fields = ("work_email", "phone", "profile")
    rows.contact(conn, "c1", 1, created_at=AGES["year"])
    for number, field in enumerate(fields, start=1):
        rows.enrichment(conn, number, 1, field, DAY, result="not_found", closed_at=NOW)
        rows.attempt(
            conn, number, number, 1, field, "prospeo", DAY, outcome="not_found",
            responded_at=NOW - timedelta(hours=number),
        )  # fmt: skip

    remerge(conn, POLICY, ["c1"], NOW)

    assert dim(conn).next_refresh_at == NOW - timedelta(hours=3) + timedelta(days=60)
    assert dim(conn).last_refreshed_at == NOW - timedelta(hours=1)


def test_merging_is_set_based(conn: Connection) -> None:
    """The number of statements does not depend on the number of contacts."""
    counts = []
    statements: list[str] = []
    sqlalchemy.event.listen(conn, "before_cursor_execute", lambda *args: statements.append(args[2]))
    for size in (1, 40):
        ids = [f"n{size}-{n}" for n in range(size)]
        for contact_id in ids:
            rows.contact(conn, contact_id, None)
        statements.clear()
        assert remerge(conn, POLICY, ids, NOW) == size
        counts.append(len(statements))
    assert counts[0] == counts[1]
