"""What `bi_masked` sees: every table and row, and of persons only what was declared to be seen."""

from collections.abc import Iterator

import phonenumbers
import pytest
from sqlalchemy import Connection, Engine, exc, text

from enrich_pipeline.store import catalog, connection, publish

from ..support.lab import Bench, Lab, contacts
from .conftest import Login

CANARY = "zzcanary"
NUMBER = "7770007"
SHARES = {"answer.other_person": 0.5, "lance.emails": 0.5}

# A canary in every place that holds something of a person, in the form of what belongs there.
PLANT = (
    """
    update enrichment.observations set value = case attribute
        when 'phone' then '+49' || :number || observation_id
        when 'linkedin_url' then 'https://www.linkedin.com/in/' || :canary || observation_id
        when 'location' then :canary || ' street, Berlin, Germany'
        else :canary || observation_id || '@copperfox.com' end
    where attribute in ('work_email', 'personal_email', 'phone', 'linkedin_url', 'location')
    """,
    "update enrichment.charge_lines set external_id = :canary where verdict = 'other_person'",
    """
    update analytics.dim_contacts set
        first_name = :canary, last_name = :canary, full_name = :canary || ' ' || :canary,
        work_email = :canary || '@copperfox.com',
        personal_email = '"a@' || :canary || '"@gmail.com',
        phone = '+1' || :number, linkedin_url = 'https://www.linkedin.com/in/' || :canary,
        location = :canary
    """,
    """
    update analytics.dim_contact_history as h set
        first_name = d.first_name, last_name = d.last_name, full_name = d.full_name,
        work_email = d.work_email, personal_email = d.personal_email, phone = d.phone,
        linkedin_url = d.linkedin_url, location = d.location, valid_to = now()
    from analytics.dim_contacts as d where d.contact_id = h.contact_id and h.is_current
    """,
    """
    insert into analytics.dim_contact_history (contact_id, full_name, work_email, changed_fields,
        valid_from, is_work_email_outdated, is_suppressed, is_job_change)
    select contact_id, full_name, work_email, '{company_name}', valid_to, false, false, true
    from analytics.dim_contact_history where valid_to = now()
    """,
    """
    update analytics.fct_contact_changes set
        old_value = :canary, new_value = case field when 'phone' then '+49' || :number
            when 'work_email' then :canary || '@copperfox.com' else :canary end
    where field not in ('job_title', 'company_name', 'company_domain', 'country_code', 'segment')
    """,
)


@pytest.fixture
def lab(bench: Bench, engine: Engine) -> Iterator[Lab]:
    """A published night whose tables are full of canaries."""
    with bench.lab(engine.url, shares=SHARES) as lab:
        rows = contacts(range(20), personal_email_consent="true")
        lab.night([{**row, "contact_id": f"{CANARY}-{n}"} for n, row in enumerate(rows)])
        lab.sandbox.wait_for_deliveries()
        lab.drain()
        publish.publish(lab.engine, lab.settings.policy, lab.today, 0, lab.now)
        with lab.engine.begin() as conn:
            for statement in PLANT:
                conn.execute(text(statement), {"canary": CANARY, "number": NUMBER})
        yield lab


def tables(conn: Connection) -> list[str]:
    return [table.name for table in catalog.tables(conn, "analytics")]


def hits(conn: Connection, relation: str) -> int:
    query = f"select count(*) from {relation} as t where t::text like any(:words)"  # noqa: S608
    words = {"words": [f"%{CANARY}%", f"%{NUMBER}%"]}
    number: int = conn.execute(text(query.replace("::", "\\:\\:")), words).scalar_one()
    return number


def test_no_value_of_a_person_is_seen_through_any_view(lab: Lab, login: Login) -> None:
    with lab.engine.connect() as conn:
        planted = {table for table in tables(conn) if hits(conn, f"analytics.{table}")}
        rows = {
            table: conn.execute(text(f"select count(*) from analytics.{table}")).scalar_one()  # noqa: S608
            for table in tables(conn)
        }
    assert {
        "dim_contacts", "dim_contact_history", "fct_field_observations", "fct_contact_changes",
        "fct_job_changes", "fct_rejected_answers",
    } <= planted  # fmt: skip

    masked = connection.create_engine(login("bi_masked"))
    with masked.connect() as conn:
        for table, number in rows.items():
            view = f"analytics_masked.{table}"
            assert hits(conn, view) == 0, view
            query = f"select count(*) from {view}"  # noqa: S608
            assert conn.execute(text(query)).scalar_one() == number
        assert hits(conn, "analytics_masked.contacts_as_of(now())") == 0
        as_of = text("select count(*) from analytics_masked.contacts_as_of(now())")
        assert conn.execute(as_of).scalar_one() == rows["dim_contacts"]
    masked.dispose()


def test_what_is_known_stays_known_and_rows_still_join(lab: Lab) -> None:
    with lab.engine.connect() as conn:
        for table in catalog.tables(conn, "analytics"):
            counts = ", ".join(f"count({column.name})" for column in table.columns)
            shown, masked = (
                conn.execute(text(f"select {counts} from {schema}.{table.name}")).one()  # noqa: S608
                for schema in ("analytics", "analytics_masked")
            )
            assert shown == masked, table.name
        joined = """
            select count(*) from analytics_masked.dim_contacts as d
            join analytics_masked.dim_contact_history as h
                on h.contact_id = d.contact_id and h.is_current
        """
        assert conn.execute(text(joined)).scalar_one() == 20
        contacts = "select count(distinct contact_id) from analytics_masked.dim_contacts"
        assert conn.execute(text(contacts)).scalar_one() == 20


def test_every_column_that_can_hold_text_is_declared_and_no_other(engine: Engine) -> None:
    with engine.connect() as conn:
        holding = conn.execute(
            text("""
                select distinct a.attname from pg_attribute as a
                join pg_class as c on c.oid = a.attrelid and c.relkind in ('r', 'p', 'v', 'm')
                join pg_type as t on t.oid = a.atttypid
                where c.relnamespace = cast('analytics' as regnamespace) and a.attnum > 0
                  and not a.attisdropped and t.typcategory not in ('B', 'D', 'N')
            """)
        ).scalars()
        assert set(holding) == set(catalog.masks(conn))


def test_a_column_that_nobody_declared_is_shown_as_null(engine: Engine) -> None:
    with engine.begin() as conn:
        conn.execute(text("create table analytics.later (number int, said text, more jsonb)"))
        conn.execute(text("""insert into analytics.later values (1, 'secret', '{"a": "b"}')"""))
        for function in ("mask_analytics", "mask_analytics", "set_up_roles"):
            conn.execute(text(f"select enrichment.{function}()"))
        conn.execute(text("set local role bi_masked"))
        seen = conn.execute(text("select * from analytics_masked.later")).one()
        assert tuple(seen) == (1, None, None)


def test_a_phone_number_shows_its_calling_code_and_nothing_more(engine: Engine) -> None:
    codes = [f"+{code}" for code in phonenumbers.COUNTRY_CODE_TO_REGION_CODE]
    with engine.connect() as conn:
        query = text("""
            select code, enrichment.masked_phone(code || '5551234567')
            from unnest(cast(:codes as text[])) as code
        """)
        assert [
            code for code, shown in conn.execute(query, {"codes": codes}) if shown != code
        ] == []
        other = text("select enrichment.masked_phone('030 1234'), enrichment.masked_phone(null)")
        assert tuple(conn.execute(other).one()) == ("***", None)


@pytest.mark.parametrize(
    "statement",
    [
        "select * from analytics.dim_contacts",
        "select * from analytics.contacts_as_of(now())",
        "select * from crm.contacts",
        "select value from enrichment.secrets",
        "select enrichment.identity_hash('masked', 'c1')",
        "delete from analytics_masked.dim_contacts",
        "update analytics_masked.dim_contacts set job_title = ''",
        "create table analytics_masked.mine (x integer)",
        "select enrichment.mask_analytics()",
    ],
)
def test_there_is_no_way_around_the_mask(login: Login, statement: str) -> None:
    masked = connection.create_engine(login("bi_masked"))
    with masked.connect() as conn, pytest.raises(exc.ProgrammingError, match="permission denied"):
        conn.execute(text(statement))
    masked.dispose()
