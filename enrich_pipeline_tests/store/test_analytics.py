"""The schema that BI relies on: names and columns are a contract, and so is who may read what."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import ProgrammingError

from enrich_pipeline_tests.store import rows

CONTRACT = {
    "dim_contacts": """
        contact_id person_id first_name last_name full_name
        work_email work_email_status work_email_source work_email_observed_at
        phone phone_status phone_source phone_observed_at
        personal_email personal_email_status personal_email_source personal_email_observed_at
        job_title company_name company_domain linkedin_url location country_code
        profile_source profile_observed_at last_refreshed_at next_refresh_at is_suppressed""",
    "dim_contact_history": """
        contact_version_id contact_id person_id first_name last_name full_name
        work_email work_email_status work_email_source work_email_observed_at
        phone phone_status phone_source phone_observed_at
        personal_email personal_email_status personal_email_source personal_email_observed_at
        job_title company_name company_domain linkedin_url location country_code
        profile_source profile_observed_at changed_fields valid_from valid_to is_current""",
    "fct_field_observations": """
        observation_id person_id field value status confidence provider attempt_id observed_at
        is_winner rejected_reason""",
    "fct_enrichment_attempts": """
        attempt_id call_id person_id field provider waterfall_position outcome requested_at
        responded_at cost_micro_credits cost_usd partition_date batch dagster_run_id""",
    "fct_credit_ledger": """
        entry_id entry_key entry_type provider debit_account credit_account amount_micro_credits
        amount_usd cost_source call_id occurred_at partition_date batch""",
    "fct_skips": "partition_date person_id field provider reason",
    "mart_provider_daily": """
        date provider field attempts found not_found verified reused spend_micro_credits spend_usd
        usd_per_found""",
    "fct_contact_changes": """
        contact_version_id field contact_id kind old_value new_value status source observation_id
        changed_at partition_date""",
    "fct_job_changes": """
        contact_version_id contact_id person_id full_name changed_at source observed_at
        old_job_title old_company_name old_company_domain old_work_email
        job_title company_name company_domain work_email segment""",
    "fct_rejected_answers": """
        answer_id person_id contact_ids provider product reason cost_usd answered_at partition_date
        call_id""",
    "mart_provider_scorecard": """
        date provider field segment asked found verified won found_alone spend_micro_credits
        spend_usd usd_per_verified spend_usd_never_won""",
    "mart_refresh_daily": """
        date contacts_stale contacts_refreshed fields_filled reused
        work_email_coverage_before work_email_coverage_after
        phone_coverage_before phone_coverage_after
        personal_email_coverage_before personal_email_coverage_after
        profile_coverage_before profile_coverage_after
        spend_usd pending in_doubt""",
    "mart_coverage": "date segment field contacts filled verified stale",
}


@pytest.fixture
def conn(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        yield connection


def columns(conn: Connection, table: str) -> dict[str, str]:
    query = """
        select attname, format_type(atttypid, null) from pg_attribute
        where attrelid = cast(:table as regclass) and attnum > 0
    """
    rows = conn.execute(text(query), {"table": f"analytics.{table}"})
    return {name: kind for name, kind in rows}


@pytest.mark.parametrize("table", CONTRACT)
def test_tables_of_the_contract_have_its_columns(conn: Connection, table: str) -> None:
    assert set(CONTRACT[table].split()) - set(columns(conn, table)) == set()


@pytest.mark.parametrize("table", CONTRACT)
def test_names_tell_the_type(conn: Connection, table: str) -> None:
    for name, kind in columns(conn, table).items():
        assert kind not in ("real", "double precision", "timestamp without time zone"), name
        if name.endswith("_at"):
            assert kind == "timestamp with time zone"
        if name.startswith("is_"):
            assert kind == "boolean"
        if name.endswith("_micro_credits"):
            assert kind == "bigint"
        if "usd" in name:
            assert kind == "numeric"


def test_everything_in_the_schema_is_commented(conn: Connection) -> None:
    query = """
        select c.relname || '.' || a.attname
        from pg_class as c join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0
        where c.relnamespace = 'analytics'::regnamespace and c.relkind in ('r', 'v')
          and coalesce(col_description(c.oid, a.attnum), '') = ''
        union all
        select c.relname from pg_class as c
        where c.relnamespace = 'analytics'::regnamespace and c.relkind in ('r', 'v')
          and coalesce(obj_description(c.oid, 'pg_class'), '') = ''
        union all
        select proname from pg_proc
        where pronamespace = 'analytics'::regnamespace and obj_description(oid, 'pg_proc') is null
        union all
        select nspname from pg_namespace
        where nspname = 'analytics' and obj_description(oid, 'pg_namespace') is null
    """.replace("'::regnamespace", "'\\:\\:regnamespace")
    assert conn.execute(text(query)).scalars().all() == []


def test_bi_reader_reads_all_of_analytics(conn: Connection) -> None:
    conn.execute(text("set role bi_reader"))
    for table in CONTRACT:
        conn.execute(text(f"select count(*) from analytics.{table}"))  # noqa: S608


def test_bi_reader_reads_nothing_else_and_writes_nothing(conn: Connection) -> None:
    query = """
        select n.nspname || '.' || c.relname
        from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
        where c.relkind in ('r', 'v', 'm', 'p') and n.nspname !~ '^(pg_|information_schema$)'
          and (
            has_schema_privilege('bi_reader', n.oid, 'usage')
                and has_table_privilege('bi_reader', c.oid, 'select') and n.nspname <> 'analytics'
            or has_table_privilege('bi_reader', c.oid, 'insert, update, delete, truncate')
          )
    """
    assert conn.execute(text(query)).scalars().all() == []
    conn.execute(text("set role bi_reader"))
    with pytest.raises(ProgrammingError, match="permission denied"):
        conn.execute(text("select count(*) from enrichment.observations"))


def test_tables_that_come_later_are_readable_too(conn: Connection) -> None:
    conn.execute(text("create table analytics.later (id bigint)"))
    conn.execute(text("set role bi_reader"))
    assert conn.execute(text("select count(*) from analytics.later")).scalar() == 0


def test_a_person_that_was_merged_away_shows_as_the_survivor(conn: Connection) -> None:
    day = date(2026, 5, 1)
    rows.person(conn, 1)
    rows.person(conn, 2, merged_into=1)
    for person in (1, 2):
        rows.enrichment(conn, person, person, "phone", day)
        rows.attempt(conn, person, person, person, "phone", "lance", day)
        skip = {"partition_date": day, "person_id": person, "field": "phone"}
        more = {"provider": f"p{person}", "reason": "known_miss", "recorded_at": day}
        rows.insert(conn, "skips", [skip | more])

    for view in ("fct_enrichment_attempts", "fct_skips"):
        query = f"select person_id from analytics.{view}"  # noqa: S608
        assert conn.execute(text(query)).scalars().all() == [1, 1]
        assert conn.execute(text(f"{query} where person_id = 1")).all() == [(1,), (1,)]
        assert conn.execute(text(f"{query} where person_id = 2")).all() == []


def test_what_persons_that_became_one_were_skipped_for_alike_shows_once(conn: Connection) -> None:
    day = date(2026, 5, 1)
    skip = {"partition_date": day, "field": "phone", "reason": "known_miss", "recorded_at": day}
    for survivor in (1, 4):
        rows.person(conn, survivor)
        for gone in (survivor + 1, survivor + 2):
            rows.person(conn, gone, merged_into=survivor)
            rows.insert(conn, "skips", [skip | {"person_id": gone, "provider": "lance"}])
    rows.insert(conn, "skips", [skip | {"person_id": 1, "provider": "lance"}])

    found = conn.execute(text("select person_id from analytics.fct_skips order by 1"))
    assert found.scalars().all() == [1, 4]


def test_answers_about_somebody_else_are_listed_with_what_contradicts(conn: Connection) -> None:
    day = date(2026, 5, 1)
    rows.person(conn, 1)
    rows.person(conn, 2, merged_into=1)
    rows.contact(conn, "c1", 1)
    rows.contact(conn, "c2", 1)
    rows.contact(conn, "gone", 1, removed_at=f"{day}T00:00:00Z")
    rows.call(conn, 1, "prospeo", day)
    rejected = {"verdict": "other_person", "answered_at": f"{day}T02:00:00Z", "fields": []}
    for line_id, reason in enumerate(("name", "linkedin", "provider_id"), start=1):
        rows.line(conn, line_id, 1, 2, "prospeo", reason=reason, cost_usd_micro=10_000, **rejected)
    rows.line(conn, 4, 1, 1, "prospeo", verdict="found")
    at = datetime(2026, 5, 1, 2, tzinfo=UTC)
    rows.observation(
        conn, 1, 1, "work_email", "eve@acme.com", "prospeo", 1, at, rejected_reason="other_person"
    )

    query = "select * from analytics.fct_rejected_answers order by answer_id"
    found = conn.execute(text(query)).all()

    assert [r.reason for r in found] == ["name", "linkedin", "provider_id"]
    assert {(r.person_id, tuple(r.contact_ids), r.provider) for r in found} == {
        (1, ("c1", "c2"), "prospeo")
    }
    assert [r.reported_work_email for r in found] == ["eve@acme.com", None, None]
    assert [r.observations for r in found] == [1, 0, 0]
    assert (found[0].partition_date, found[0].cost_usd) == (day, Decimal("0.01"))


def test_bi_reader_asks_what_was_known_at_a_moment(conn: Connection) -> None:
    conn.execute(text("set role bi_reader"))
    assert conn.execute(text("select * from analytics.contacts_as_of('2026-05-01')")).all() == []
