"""Any relation as the source: mapped, read incrementally, and never mistaken for empty."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.domain.policy import Policy
from enrich_pipeline.intake.source import SyncSummary, sync_source
from enrich_pipeline_tests.support.contacts import NOW, policy, put_contacts, rows_of
from enrich_pipeline_tests.support.statements import counted


def run(engine: Engine, statement: str) -> None:
    with engine.begin() as conn:
        conn.execute(text(statement))


def custom(relation: str = "sales.people", **columns: str) -> Policy:
    return policy(source={"relation": relation, "columns": columns})


def weighted(**refresh: Any) -> Policy:
    return policy(
        source={"relation": "sales.people", "columns": {"contact_id": "id"}}, refresh=refresh
    )


@pytest.fixture
def people(engine: Engine) -> None:
    """A table of somebody else's: other names, an integer key, a column to weigh by."""
    run(engine, "create schema sales")
    run(
        engine,
        """
        create table sales.people (id integer primary key, "E-Mail" text, name text,
                                   locked text, revenue numeric)
        """,
    )
    run(
        engine,
        """
        insert into sales.people values
            (1, 'Ada@Acme.org', 'Ada Lovelace', 'phone, work_email', 10),
            (2, 'not an address', 'Grace Hopper', null, 'NaN')
        """,
    )


MAPPING = {"contact_id": "id", "email": "E-Mail", "full_name": "name"}


@pytest.mark.usefixtures("people")
def test_relation_with_other_column_names_is_read_by_its_mapping(engine: Engine) -> None:
    summary = sync_source(engine, custom(**MAPPING), NOW)
    assert (summary.added, summary.persons) == (2, 2)
    assert summary.values_left_out == {"email: invalid_email": 1}
    assert rows_of(
        engine, "select contact_id, email, full_name from enrichment.contacts order by 1"
    ) == [("1", "ada@acme.org", "Ada Lovelace"), ("2", None, "Grace Hopper")]
    assert rows_of(engine, "select contact_id from analytics.dim_contacts order by 1") == [
        ("1",),
        ("2",),
    ]


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(
    ("config", "message"),
    [
        (custom("sales.nobody"), "source.relation: sales.nobody does not exist"),
        (custom('sales.people"; drop table x; --'), "source.relation: "),
        (custom(**MAPPING, phone="tel"), "source.columns.phone: sales.people has no column tel"),
        (custom(**MAPPING, shoe_size="name"), "source.columns.shoe_size: there is no such"),
        (custom(email="E-Mail"), "source.columns.contact_id: "),
        (weighted(weight_column="gain"), "refresh.weight_column: sales.people has no numeric"),
        (weighted(weight_column="name"), "refresh.weight_column: sales.people has no numeric"),
    ],
)
def test_setting_that_does_not_fit_the_relation_is_named(
    engine: Engine, config: Policy, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        sync_source(engine, config, NOW)


@pytest.mark.usefixtures("people")
def test_only_rows_that_changed_are_read_again(engine: Engine) -> None:
    config = custom(**MAPPING)
    sync_source(engine, config, NOW)
    run(engine, "update sales.people set name = 'Ada King' where id = 1")
    read: list[int] = []
    summary = sync_source(engine, config, NOW, read.append)
    assert (summary.added, summary.updated, read) == (0, 1, [1])
    assert sync_source(engine, config, NOW).updated == 0
    assert rows_of(engine, "select full_name from analytics.dim_contacts order by contact_id") == [
        ("Ada King",),
        ("Grace Hopper",),
    ]


@pytest.mark.parametrize("write", [datetime.isoformat, lambda at: f" {at:%Y-%m-%d %H:%M}+00 "])
def test_moment_that_was_still_to_come_counts_once_it_has(
    engine: Engine, write: Callable[[datetime], str]
) -> None:
    # When it is, is asked of the database; that it came, of the caller.
    come = datetime.now(UTC).replace(second=0, microsecond=0)
    run(engine, "create schema sales")
    run(engine, "create table sales.people (id text, mail text, seen text)")
    mapping = {"contact_id": "id", "email": "mail", "email_verified_at": "seen"}
    for name, at in (("a", come), ("b", come + timedelta(days=400))):
        run(engine, f"insert into sales.people values ('{name}', '{name}@x.org', '{write(at)}')")  # noqa: S608
    config = custom(**mapping)
    verified = "select email_verified_at from enrichment.contacts order by contact_id"

    early = sync_source(engine, config, come - timedelta(minutes=1))
    assert early.values_left_out == {"email_verified_at: timestamp_in_future": 2}
    assert rows_of(engine, verified) == [(None,), (None,)]

    assert sync_source(engine, config, come).updated == 1
    assert rows_of(engine, verified) == [(come,), (None,)]
    status = "select work_email_status from analytics.dim_contacts where contact_id = 'a'"
    assert rows_of(engine, status) == [("verified",)]
    assert sync_source(engine, config, come).updated == 0


@pytest.mark.usefixtures("people")
def test_contact_that_left_is_marked_and_returns_as_the_same_person(engine: Engine) -> None:
    config = custom(**MAPPING)
    sync_source(engine, config, NOW)
    (before,) = rows_of(engine, "select person_id from enrichment.contacts where contact_id = '1'")
    run(engine, "delete from sales.people where id = 1")
    summary = sync_source(engine, config, NOW)
    assert (summary.removed, summary.persons) == (1, 1)
    assert rows_of(engine, "select contact_id from analytics.dim_contacts") == [("2",)]
    assert sync_source(engine, config, NOW).removed == 0
    run(engine, "insert into sales.people values (1, 'ada@acme.org', 'Ada Lovelace')")
    summary = sync_source(engine, config, NOW)
    assert (summary.updated, summary.persons) == (1, 2)
    assert rows_of(
        engine,
        "select person_id from enrichment.contacts where contact_id = '1' and removed_at is null",
    ) == [before]


@pytest.mark.usefixtures("people")
def test_source_that_is_suddenly_empty_stops_and_removes_nothing(engine: Engine) -> None:
    config = custom(**MAPPING)
    sync_source(engine, config, NOW)
    run(engine, "delete from sales.people")
    with pytest.raises(ConfigurationError, match="sales.people is empty although 2 contacts"):
        sync_source(engine, config, NOW)
    assert rows_of(engine, "select count(*) from analytics.dim_contacts") == [(2,)]


def test_source_that_was_always_empty_is_fine(engine: Engine) -> None:
    assert sync_source(engine, policy(), NOW) == SyncSummary(
        added=0,
        updated=0,
        removed=0,
        rejected={},
        values_left_out={},
        persons=0,
        joined=0,
        suspected_duplicates=0,
    )


@pytest.mark.usefixtures("people")
def test_view_with_several_rows_per_contact_is_read_the_same_way_every_time(
    engine: Engine,
) -> None:
    run(
        engine,
        """
        create view sales.twice as
        select id, "E-Mail", name, date '2026-01-01' as changed from sales.people
        union all select id, "E-Mail", name || ' newer', date '2026-02-01' from sales.people
        """,
    )
    config = custom("sales.twice", **MAPPING, updated_at="changed")
    assert sync_source(engine, config, NOW).rejected == {"repeated_contact_id": 2}
    again = sync_source(engine, config, NOW)
    assert (again.added, again.updated) == (0, 0)
    assert rows_of(engine, "select full_name from enrichment.contacts order by contact_id") == [
        ("Ada Lovelace newer",),
        ("Grace Hopper newer",),
    ]


def test_keys_that_mean_one_contact_do_not_take_turns(engine: Engine) -> None:
    put_contacts(
        engine,
        [{"contact_id": "7", "first_name": "Ada"}, {"contact_id": " 7", "first_name": "Grace"}],
    )
    first = sync_source(engine, policy(), NOW)
    assert (first.added, first.rejected) == (1, {"repeated_contact_id": 1})
    second = sync_source(engine, policy(), NOW)
    assert (second.updated, second.rejected) == (0, {"repeated_contact_id": 1})


@pytest.mark.usefixtures("people")
def test_weights_and_locks_come_with_the_contacts(engine: Engine) -> None:
    columns: Mapping[str, str] = MAPPING | {"locked_fields": "locked"}
    config = policy(
        source={"relation": "sales.people", "columns": columns},
        refresh={"weight_column": "revenue"},
    )
    with engine.begin() as conn:
        conn.execute(text("insert into enrichment.value_locks values ('1', 'profile', 'by hand')"))
    summary = sync_source(engine, config, NOW)
    assert summary.values_left_out["weight: invalid_number"] == 1
    assert rows_of(engine, "select weight::text from enrichment.contacts order by 1") == [
        ("10",),
        (None,),
    ]
    run(engine, "update sales.people set locked = 'phone,shoes' where id = 1")
    summary = sync_source(engine, config, NOW)
    assert summary.values_left_out == {"locked_fields: unknown_field": 1}
    assert rows_of(engine, "select field, reason from enrichment.value_locks order by 1") == [
        ("phone", "source"),
        ("profile", "by hand"),
    ]


def test_rows_without_an_id_are_counted_and_the_rest_is_read(engine: Engine) -> None:
    put_contacts(engine, [{"contact_id": "n/a"}, {"contact_id": "1", "first_name": "Ada"}])
    summary = sync_source(engine, policy(), NOW)
    assert (summary.added, summary.rejected) == (1, {"missing_contact_id": 1})


def test_statements_of_a_sync_do_not_depend_on_the_number_of_contacts(engine: Engine) -> None:
    put_contacts(engine, [{"contact_id": str(n), "first_name": "Ada"} for n in range(3)])
    with counted(engine) as few:
        sync_source(engine, policy(), NOW)
    put_contacts(engine, [{"contact_id": str(n), "first_name": "Ada"} for n in range(3, 900)])
    with counted(engine) as many:
        sync_source(engine, policy(), NOW)
    assert len(many) == len(few)


# ---- identifiers that a contact loses -----------------------------------------------------------

SHARED = {"email": "x@acme.org"}
FIRST_NAMES = ("Ada", "Bruno", "Clara", "David", "Emma", "Felix", "Greta")
LAST_NAMES = ("Stone", "Lovelace", "Hopper", "Bartik", "Turing", "Knuth")


def named(contact_id: str, name: str, **values: Any) -> dict[str, Any]:
    return {"contact_id": contact_id, "full_name": name} | values


def load(engine: Engine, *contacts: dict[str, Any]) -> SyncSummary:
    put_contacts(engine, contacts)
    return sync_source(engine, policy(), NOW)


def humans(engine: Engine) -> list[str]:
    """The contacts of each person, and how many identifiers point to it."""
    query = """
        select string_agg(contact_id, '+' order by contact_id) || ': ' || (
            select count(*) from enrichment.person_identifiers as i where i.person_id = c.person_id)
        from enrichment.contacts as c group by person_id order by 1
    """
    return [row for (row,) in rows_of(engine, query)]


def humans_of_a_fresh_load(engine: Engine) -> list[str]:
    run(engine, "truncate enrichment.contacts, enrichment.persons cascade")
    sync_source(engine, policy(), NOW)
    return humans(engine)


def test_when_a_wrong_address_is_corrected_its_other_carriers_are_looked_at_again(
    engine: Engine,
) -> None:
    load(
        engine,
        named("a", "Bob Stone", **SHARED),
        named("b", "Ada Lovelace", **SHARED),
        named("c", "Ada Lovelace", **SHARED),
    )
    assert humans(engine) == ["a: 0", "b: 0", "c: 0"]

    load(engine, named("a", "Bob Stone", email="bob@acme.org"))

    assert humans(engine) == ["a: 1", "b+c: 1"]
    query = "select contact_id, person_id from analytics.dim_contacts where contact_id <> 'a'"
    assert len({person_id for _, person_id in rows_of(engine, query)}) == 1
    assert humans_of_a_fresh_load(engine) == ["a: 1", "b+c: 1"]


def test_who_alone_is_left_with_an_address_is_known_by_it(engine: Engine) -> None:
    load(engine, named("a", "Bob Stone", **SHARED), named("b", "Ada Lovelace", **SHARED))
    load(engine, named("a", "Bob Stone"))

    assert humans(engine) == ["a: 0", "b: 1"]
    assert humans_of_a_fresh_load(engine) == ["a: 0", "b: 1"]


def test_several_corrections_at_once_leave_what_a_fresh_load_finds(engine: Engine) -> None:
    load(
        engine,
        named("a", "Bob Stone", **SHARED),
        named("b", "Ada Lovelace", **SHARED),
        named("c", "Ada Lovelace", **SHARED, personal_email="y@home.org"),
        named("d", "Ada Lovelace", **SHARED, personal_email="y@home.org"),
        named("e", "Eve Smith", personal_email="y@home.org"),
        named("f", "Ada Lovelace", personal_email="y@home.org"),
    )
    load(
        engine,
        named("a", "Bob Stone", personal_email="y@home.org"),
        named("b", "Ada Lovelace"),
        named("e", "Eve Smith"),
    )
    found = humans(engine)
    load(engine, named("a", "Bob Stone"))

    assert humans(engine) == ["a: 0", "b: 0", "c+d+f: 2", "e: 0"]
    assert found == ["a: 0", "b: 0", "c+d: 1", "e: 0", "f: 0"]
    assert humans_of_a_fresh_load(engine) == ["a: 0", "b: 0", "c+d+f: 2", "e: 0"]


@pytest.mark.parametrize(("carriers", "is_judged"), [(5, True), (40, False)])
def test_a_mailbox_of_many_names_is_not_judged_anew_whenever_one_of_them_leaves_it(
    engine: Engine, carriers: int, is_judged: bool
) -> None:
    names = [f"{first} {last}" for first in FIRST_NAMES for last in LAST_NAMES][:carriers]
    load(engine, *(named(f"c{n}", name, **SHARED) for n, name in enumerate(names)))
    run(engine, "truncate enrichment.suspected_duplicates")

    load(engine, named("c0", "Ada Roe", email="ada@acme.org"))

    listed = rows_of(engine, "select count(*) > 0 from enrichment.suspected_duplicates")
    assert listed == [(is_judged,)]
