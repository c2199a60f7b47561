"""Persons that last: joined, merged, parted, and what may be sent of each."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from enrich_pipeline.intake import source
from enrich_pipeline.intake.source import sync_source
from enrich_pipeline.providers import reading
from enrich_pipeline.store import person_merges, persons, work
from enrich_pipeline_tests.bench import warehouse
from enrich_pipeline_tests.store import rows
from enrich_pipeline_tests.store.waits import until_somebody_waits
from enrich_pipeline_tests.support.contacts import NOW, policy, put_contacts, rows_of
from enrich_pipeline_tests.support.plans import explained
from enrich_pipeline_tests.support.statements import counted

DAY = date(2026, 9, 20)
SMALL = frozenset({"secrets", "suppressions", "person_splits", "suspected_duplicates"})
MORE = (
    "insert into enrichment.contact_identifiers "
    "select 'email', contact_id, contact_id from enrichment.contacts",
    "insert into enrichment.person_identifiers "
    "select 'email', contact_id, contact_id, person_id from enrichment.contacts",
    "insert into enrichment.contact_persons (contact_id, person_id, reason) "
    "select contact_id, person_id, 'new' from enrichment.contacts",
    "insert into enrichment.provider_identities (provider, external_id, person_id) "
    "select 'lance', person_id, person_id from enrichment.persons",
    "update enrichment.contacts set name_at_company = contact_id",
    "alter table enrichment.persons alter person_id restart with 10000",
    "analyze",
)
LANCE = "6f1c2d3e-4a5b-4c6d-8e7f-9a0b1c2d3e4f"


def add(engine: Engine, *contacts: dict[str, Any]) -> None:
    put_contacts(engine, contacts)
    sync_source(engine, policy(), NOW)


def contact(contact_id: str, name: str = "Ada Lovelace", **values: Any) -> dict[str, Any]:
    first, last = name.split()
    return {"contact_id": contact_id, "first_name": first, "last_name": last} | values


def person_of(engine: Engine, contact_id: str) -> int:
    ((person_id,),) = rows_of(
        engine, "select person_id from enrichment.contacts where contact_id = :c", c=contact_id
    )
    return int(person_id)


def one_person(engine: Engine, *contact_ids: str) -> bool:
    return len({person_of(engine, c) for c in contact_ids}) == 1


def inputs(engine: Engine, contact_id: str, *columns: str) -> tuple[Any, ...]:
    ((row),) = rows_of(
        engine,
        f"select {', '.join(columns)} from enrichment.person_inputs where person_id ="  # noqa: S608
        " (select person_id from enrichment.contacts where contact_id = :c)",
        c=contact_id,
    )
    return row


def refresh(engine: Engine, *contact_ids: str) -> None:
    with engine.begin() as conn:
        persons.refresh_inputs(conn, [person_of(engine, c) for c in contact_ids])


def bought(
    engine: Engine,
    person_id: int,
    values: dict[str, str],
    observed_at: datetime = NOW,
    line_id: int = 1,
    provider: str = "prospeo",
    **columns: Any,
) -> None:
    """A settled line of a person with what it reported."""
    with engine.begin() as conn:
        rows.call(conn, line_id, provider, DAY)
        rows.insert(
            conn,
            "charge_lines",
            [
                {
                    "line_id": line_id,
                    "call_id": line_id,
                    "item_key": "a",
                    "person_id": person_id,
                    "provider": provider,
                    "product": "match",
                    "options": "",
                    "fields": ["work_email"],
                    "state": "posted",
                    "hold_micro": 1,
                    "hold_usd_micro": 1,
                    "cost_micro": 1,
                    "cost_usd_micro": 1,
                    "verdict": "found",
                    "answered_at": NOW,
                    "sent_identity": [],
                }
                | columns
            ],
        )
        rows.insert(
            conn,
            "observations",
            [
                {
                    "person_id": person_id,
                    "attribute": attribute,
                    "value": value,
                    "status": "verified",
                    "provider": provider,
                    "call_id": line_id,
                    "line_id": line_id,
                    "observed_at": observed_at,
                    "recorded_at": NOW,
                    "is_winner": False,
                }
                for attribute, value in values.items()
            ],
        )


def enrichment(engine: Engine, person_id: int, state: str, cycle: int = 1) -> int:
    with engine.begin() as conn:
        return int(
            conn.execute(
                text("""
                    insert into enrichment.enrichments
                        (person_id, field, cycle, state, result, waterfall, next_provider,
                         partition_date, batch, closed_at)
                    values (:person_id, 'phone', :cycle, :state,
                            case when :state = 'finished' then 'found' end, '{prospeo}',
                            case when :state = 'open' then 'prospeo' end, :day, 0,
                            case when :state = 'finished' then now() end)
                    returning enrichment_id
                """),
                {"person_id": person_id, "cycle": cycle, "state": state, "day": DAY},
            ).scalar_one()
        )


def row_waits(engine: Engine, person_id: int, planned_at: datetime, batch: int = 0) -> None:
    """The person's phone, of contact 2, is planned and waits."""
    with engine.begin() as conn:
        conn.execute(
            text("""
                insert into enrichment.plan_nights
                    (partition_date, as_of, contacts_cap, batches) values (:day, now(), 1, 4)
            """),
            {"day": DAY},
        )
        rows.insert(
            conn,
            "plan_rows",
            [
                {
                    "partition_date": DAY,
                    "contact_id": "2",
                    "person_id": person_id,
                    "field": "phone",
                    "reason": "missing",
                    "rank": 1,
                    "batch": batch,
                    "state": "waiting",
                    "planned_at": planned_at,
                }
            ],
        )


def test_contacts_that_share_a_screened_identifier_are_one_person(engine: Engine) -> None:
    add(
        engine,
        contact("1", email="ada@acme.org"),
        contact("2", email="ADA+crm@acme.org", linkedin_url="linkedin.com/in/ada-lovelace-1a2b3c"),
        contact("3", linkedin_url="https://de.linkedin.com/in/Ada-Lovelace-1a2b3c/"),
        contact("4", "Grace Hopper", email="info@acme.org"),
        contact("5", "Jean Bartik", email="info@acme.org"),
    )
    assert one_person(engine, "1", "2", "3")
    assert not one_person(engine, "4", "5")
    assert rows_of(
        engine,
        "select kind, count(*) from enrichment.person_identifiers group by kind order by kind",
    ) == [("email", 1), ("linkedin", 1)]


def test_resolution_does_not_depend_on_the_order_in_which_contacts_came(engine: Engine) -> None:
    add(engine, contact("1", email="ada@acme.org"))
    add(engine, contact("3", linkedin_url="linkedin.com/in/ada-lovelace-1a2b3c"))
    assert not one_person(engine, "1", "3")
    add(
        engine,
        contact("2", email="ada@acme.org", linkedin_url="linkedin.com/in/ada-lovelace-1a2b3c"),
    )
    assert one_person(engine, "1", "2", "3")


def test_older_person_survives_a_merge_and_the_joins_are_dated(engine: Engine) -> None:
    add(engine, contact("1", email="ada@acme.org"))
    add(engine, contact("2", lance_person_id=LANCE))
    old, young = person_of(engine, "1"), person_of(engine, "2")
    add(engine, contact("3", email="ada@acme.org", lance_person_id=LANCE))
    assert {person_of(engine, c) for c in "123"} == {old}
    assert rows_of(
        engine, "select merged_into from enrichment.persons where person_id = :p", p=young
    ) == [(old,)]
    assert rows_of(
        engine,
        "select person_id, valid_to is null, reason from enrichment.contact_persons"
        " where contact_id = '2' order by valid_from",
    ) == [(young, False, "alone"), (old, True, "shared_identifier")]
    assert rows_of(engine, "select distinct person_id from enrichment.person_identifiers") == [
        (old,)
    ]
    assert rows_of(engine, "select person_id from enrichment.person_inputs") == [(old,)]


def test_what_was_bought_follows_a_merge_and_what_is_under_way_finishes_where_it_is(
    engine: Engine,
) -> None:
    add(engine, contact("1", email="ada@acme.org"), contact("2", lance_person_id=LANCE))
    old, young = person_of(engine, "1"), person_of(engine, "2")
    bought(engine, young, {"work_email": "ada@acme.org"}, line_id=1)
    bought(engine, young, {}, line_id=2, product="mobile", state="held", verdict=None)
    pending = enrichment(engine, young, "pending")
    row_waits(engine, young, NOW, batch=3)
    add(engine, contact("3", email="ada@acme.org", lance_person_id=LANCE))
    assert rows_of(
        engine, "select line_id, person_id from enrichment.charge_lines order by line_id"
    ) == [(1, old), (2, young)]
    assert rows_of(engine, "select person_id from enrichment.observations") == [(old,)]
    assert rows_of(engine, "select person_id, batch from enrichment.plan_rows") == [(old, 3)]
    assert rows_of(
        engine, "select enrichment_id, person_id, state from enrichment.enrichments"
    ) == [(pending, young, "pending")]
    with engine.begin() as conn:
        conn.execute(text("update enrichment.charge_lines set state = 'posted' where line_id = 2"))
        person_merges.follow_merges(conn)
    assert rows_of(engine, "select person_id from enrichment.charge_lines where line_id = 2") == [
        (old,)
    ]


def test_contacts_read_one_by_one_make_the_same_persons(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "CHUNK", 1)
    add(engine, *(contact(c, email=f"ada{c}@acme.org") for c in "1234"))
    assert len({person_of(engine, c) for c in "1234"}) == 4
    add(
        engine,
        contact("1", email="ada1@acme.org", lance_person_id=LANCE),
        contact("3", email="ada3@acme.org", lance_person_id=LANCE),
        contact("5", email="ada4@acme.org"),
        contact("6", email="ada2@acme.org", lance_person_id=LANCE),
    )
    assert one_person(engine, "1", "2", "3", "6")
    assert one_person(engine, "4", "5")
    merged = "select count(*) from enrichment.persons where merged_into is not null"
    assert rows_of(engine, merged) == [(2,)]
    assert {inputs(engine, c, "lance_id") for c in "1236"} == {(LANCE,)}


def test_a_merge_touches_nothing_before_it_holds_all_persons_concerned(engine: Engine) -> None:
    """Else it and a settlement of some of the same persons come to wait for each other."""
    add(engine, contact("1", email="ada@acme.org"), contact("2", lance_person_id=LANCE))
    young = person_of(engine, "2")
    bought(engine, young, {}, state="held", verdict=None)
    add(engine, contact("3", email="ada@acme.org", lance_person_id=LANCE))
    other = LANCE.replace("6f", "7f")
    add(
        engine,
        contact("4", "Grace Hopper", email="grace@acme.org"),
        contact("5", "Grace Hopper", lance_person_id=other),
    )
    joins = contact("6", "Grace Hopper", email="grace@acme.org", lance_person_id=other)
    with engine.begin() as conn:
        conn.execute(text("update enrichment.charge_lines set state = 'posted'"))
    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as settling:
            work.lock_persons(settling, [young, person_of(engine, "5")], wait=True)
            loading = pool.submit(add, engine, joins)
            until_somebody_waits(engine)
            settling.execute(text("update enrichment.charge_lines set external_id = 'known'"))
        loading.result()
    assert one_person(engine, "4", "5")


def test_what_somebody_is_at_work_on_follows_a_merge_later(engine: Engine) -> None:
    add(engine, contact("1", email="ada@acme.org"), contact("2", lance_person_id=LANCE))
    old, young = person_of(engine, "1"), person_of(engine, "2")
    bought(engine, young, {}, state="held", verdict=None)
    add(engine, contact("3", email="ada@acme.org", lance_person_id=LANCE))
    with engine.begin() as conn:
        conn.execute(text("update enrichment.charge_lines set state = 'posted'"))
    whose = "select person_id from enrichment.charge_lines"
    with engine.begin() as settling:
        work.lock_persons(settling, [young], wait=True)
        with engine.begin() as conn:
            person_merges.follow_merges(conn)
        assert rows_of(engine, whose) == [(young,)]
    with engine.begin() as conn:
        person_merges.follow_merges(conn)
    assert rows_of(engine, whose) == [(old,)]


@pytest.mark.parametrize(
    ("of_old", "of_young", "expected"),
    [
        ((), ("open",), [("old", 1, "open")]),
        (("finished",), ("open",), [("old", 1, "finished"), ("old", 2, "open")]),
        (("finished",), ("finished",), [("old", 1, "finished"), ("old", 2, "finished")]),
        (("open",), ("open",), [("old", 1, "open"), ("young", 1, "expired")]),
        (("pending",), ("open",), [("old", 1, "pending"), ("young", 1, "expired")]),
        (("open",), ("in_doubt",), [("old", 1, "open"), ("young", 1, "in_doubt")]),
    ],
)
def test_open_work_of_a_merged_person_moves_or_ends(
    engine: Engine,
    of_old: Sequence[str],
    of_young: Sequence[str],
    expected: list[tuple[str, int, str]],
) -> None:
    add(engine, contact("1", email="ada@acme.org"), contact("2", lance_person_id=LANCE))
    who = {person_of(engine, "1"): "old", person_of(engine, "2"): "young"}
    for states, contact_id in ((of_old, "1"), (of_young, "2")):
        for state in states:
            enrichment(engine, person_of(engine, contact_id), state)
    row_waits(engine, person_of(engine, "2"), datetime.now(UTC))
    add(engine, contact("3", email="ada@acme.org", lance_person_id=LANCE))
    found = rows_of(engine, "select person_id, cycle, state from enrichment.enrichments")
    assert sorted((who[p], cycle, state) for p, cycle, state in found) == expected


@pytest.mark.parametrize(("is_planned", "of_old"), [(False, ()), (True, ("finished",))])
def test_open_work_of_a_merged_person_ends_unless_an_unanswered_row_waits_for_it(
    engine: Engine, is_planned: bool, of_old: Sequence[str]
) -> None:
    add(engine, contact("1", email="ada@acme.org"), contact("2", lance_person_id=LANCE))
    if is_planned:
        row_waits(engine, person_of(engine, "2"), datetime.now(UTC))
    for state in of_old:
        enrichment(engine, person_of(engine, "1"), state)
    ended = enrichment(engine, person_of(engine, "2"), "open")
    add(engine, contact("3", email="ada@acme.org", lance_person_id=LANCE))
    state = "select state from enrichment.enrichments where enrichment_id = :e"
    assert rows_of(engine, state, e=ended) == [("expired",)]


def test_contradiction_that_comes_later_parts_a_person(engine: Engine) -> None:
    add(engine, contact("1", email="ada@acme.org"), contact("2", email="ada@acme.org"))
    assert one_person(engine, "1", "2")
    add(engine, contact("2", "Grace Hopper", email="ada@acme.org"))
    assert not one_person(engine, "1", "2")
    assert rows_of(engine, "select kind from enrichment.person_identifiers") == []
    assert rows_of(
        engine, "select contact_id, other_contact_id, reason from enrichment.suspected_duplicates"
    ) == [("1", "2", "contested_identifier")]


def test_split_contacts_never_meet_again(engine: Engine) -> None:
    same = {"email": "ada@acme.org", "company_domain": "acme.org"}
    add(engine, *(contact(c, **same) for c in "123"))
    with engine.begin() as conn:
        persons.split(conn, ["3"], NOW)
    assert one_person(engine, "1", "2")
    assert not one_person(engine, "1", "3")
    add(engine, contact("3", job_title="Countess", **same), contact("4", **same))
    assert not one_person(engine, "1", "3")
    assert rows_of(
        engine, "select contact_ids, other_contact_ids from enrichment.person_splits"
    ) == [(["3"], ["1", "2"])]
    assert ("1", "3") not in rows_of(
        engine, "select contact_id, other_contact_id from enrichment.suspected_duplicates"
    )


def test_namesakes_at_one_company_are_listed_and_never_joined(engine: Engine) -> None:
    add(
        engine,
        contact("1", company_domain="acme.org"),
        contact("2", "ADA LOVELACE", company_domain="www.acme.org"),
        contact("3", company_domain="other.org"),
    )
    assert not one_person(engine, "1", "2")
    assert rows_of(
        engine, "select contact_id, other_contact_id, reason from enrichment.suspected_duplicates"
    ) == [("1", "2", "same_name_and_company")]
    add(engine, contact("2", "Grace Hopper", company_domain="acme.org"))
    assert rows_of(engine, "select count(*) from enrichment.suspected_duplicates") == [(0,)]


def test_ids_that_a_provider_returned_join_nobody(engine: Engine) -> None:
    add(engine, contact("1", lance_person_id=LANCE), contact("2"))
    with engine.begin() as conn:
        rows.insert(
            conn,
            "provider_identities",
            [
                {
                    "person_id": person_of(engine, "2"),
                    "provider": "lance",
                    "external_id": LANCE,
                    "seen_at": NOW,
                }
            ],
        )
        persons.resolve(conn, ["1", "2"])
    assert not one_person(engine, "1", "2")
    refresh(engine, "2")
    assert inputs(engine, "2", "lance_id") == (LANCE,)


def test_both_names_come_from_one_contact_and_values_from_the_latest(engine: Engine) -> None:
    add(
        engine,
        {
            "contact_id": "1",
            "first_name": "Ada",
            "last_name": "Lovelace",
            "email": "ada@acme.org",
            "company_name": "Old",
            "updated_at": "2026-01-01",
        },
        {
            "contact_id": "2",
            "first_name": "Ada",
            "email": "ada@acme.org",
            "company_name": "New",
            "company_domain": "new.org",
            "updated_at": "2026-02-01",
        },
    )
    assert one_person(engine, "1", "2")
    assert inputs(engine, "1", "first_name", "last_name", "company_name", "company_domain") == (
        "Ada",
        "Lovelace",
        "New",
        "new.org",
    )


def test_role_mailbox_is_nobodys_address_and_the_observed_one_serves(engine: Engine) -> None:
    add(engine, contact("1", email="info@acme.org"))
    assert inputs(engine, "1", "email") == (None,)
    linkedin = "https://www.linkedin.com/in/ada-lovelace-1a2b3c"
    bought(engine, person_of(engine, "1"), {"work_email": "ada@acme.org", "linkedin_url": linkedin})
    refresh(engine, "1")
    assert inputs(engine, "1", "email", "linkedin") == ("ada@acme.org", "ada-lovelace-1a2b3c")


@pytest.mark.parametrize(("age_in_days", "company"), [(1, "New"), (100, "Old")])
def test_company_is_the_contacts_unless_a_newer_profile_names_another(
    engine: Engine, age_in_days: int, company: str
) -> None:
    add(
        engine,
        contact(
            "1",
            company_name="Old",
            company_domain="old.org",
            company_linkedin_url="https://www.linkedin.com/company/old",
            profile_verified_at=NOW - timedelta(days=50),
            job_title="x y",
        ),
    )
    bought(
        engine,
        person_of(engine, "1"),
        {"company_name": "New", "company_domain": "new.org"},
        NOW - timedelta(days=age_in_days),
    )
    refresh(engine, "1")
    name, domain, page = inputs(engine, "1", "company_name", "company_domain", "company_linkedin")
    assert (name, domain) == (company, f"{company.lower()}.org")
    assert (page is None) == (company == "New")


def test_a_newer_profile_of_the_same_company_loses_nothing_that_is_known_of_it(
    engine: Engine,
) -> None:
    page = "https://www.linkedin.com/company/acme"
    add(
        engine,
        contact(
            "1",
            company_name="Acme",
            company_domain="acme.com",
            company_linkedin_url=page,
            profile_verified_at=NOW - timedelta(days=50),
            job_title="x y",
        ),
    )
    bought(engine, person_of(engine, "1"), {"company_name": "Acme, Inc."}, NOW)
    refresh(engine, "1")
    told = inputs(engine, "1", "company_name", "company_domain", "company_linkedin")
    assert told == ("Acme, Inc.", "acme.com", page)


def test_a_profile_in_letters_beyond_ascii_is_known_as_it_is_sent(engine: Engine) -> None:
    add(engine, contact("1", linkedin_slug=None))
    found = reading.linkedin_url("https://www.linkedin.com/in/jos%C3%A9-garc%C3%ADa-1a2b")
    assert found is not None
    bought(engine, person_of(engine, "1"), {"linkedin_url": found}, NOW)
    refresh(engine, "1")
    assert inputs(engine, "1", "linkedin") == ("josé-garcía-1a2b",)


def test_answers_about_another_person_and_erased_ones_are_not_used(engine: Engine) -> None:
    add(engine, contact("1"))
    bought(engine, person_of(engine, "1"), {"work_email": "a@acme.org", "company_name": "Acme"})
    with engine.begin() as conn:
        conn.execute(
            text("""
                update enrichment.observations
                set rejected_reason = case attribute when 'work_email' then 'other_person' end,
                    value = case attribute when 'work_email' then value end,
                    erased_at = case attribute when 'work_email' then null else now() end
            """)
        )
    refresh(engine, "1")
    assert inputs(engine, "1", "email", "company_name") == (None, None)


def test_consent_of_one_contact_counts_and_a_refusal_of_one_blocks(engine: Engine) -> None:
    add(
        engine,
        contact("1", email="ada@acme.org"),
        contact("2", email="ada@acme.org", personal_email_consent=True),
    )
    assert inputs(engine, "1", "personal_email_consent", "is_blocked") == (True, False)
    add(engine, contact("1", email="ada@acme.org", do_not_enrich=True))
    assert inputs(engine, "2", "is_blocked", "blocked_reason") == (True, "do_not_enrich")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("contact", "1"),
        ("email", "ada+crm@acme.org"),
        ("email", "ada@acme.org"),
        ("linkedin", "ada-lovelace-1a2b3c"),
        ("lance", LANCE),
    ],
)
def test_suppression_of_any_identifier_blocks_the_person(
    engine: Engine, kind: str, value: str
) -> None:
    add(
        engine,
        contact(
            "1",
            email="ada+crm@acme.org",
            linkedin_url="linkedin.com/in/ada-lovelace-1a2b3c",
            lance_person_id=LANCE,
        ),
        contact("2", "Grace Hopper"),
    )
    with engine.begin() as conn:
        conn.execute(
            text("""
                insert into enrichment.suppressions (hash, reason)
                values (enrichment.identity_hash(:kind, :value), 'asked us to')
            """),
            {"kind": kind, "value": value},
        )
    refresh(engine, "1", "2")
    assert inputs(engine, "1", "is_blocked", "blocked_reason") == (True, "suppressed")
    assert inputs(engine, "2", "is_blocked") == (False,)


def test_identity_holds_a_hash_of_every_identifying_input_and_no_value(engine: Engine) -> None:
    add(engine, contact("1", email="ada@acme.org", company_domain="acme.org"))
    (identity,) = inputs(engine, "1", "identity")
    assert [h.partition(":")[0] for h in identity] == ["email", "company_domain"]
    assert "acme" not in "".join(identity)


def test_answer_that_comes_after_a_merge_serves_the_survivor(engine: Engine) -> None:
    add(engine, contact("1", linkedin_url="linkedin.com/in/ada-lovelace-1a2b3c"))
    add(engine, contact("2", lance_person_id=LANCE))
    young = person_of(engine, "2")
    add(
        engine,
        contact("3", linkedin_url="linkedin.com/in/ada-lovelace-1a2b3c", lance_person_id=LANCE),
    )
    bought(engine, young, {"work_email": "ada@acme.org"})
    with engine.begin() as conn:
        persons.refresh_inputs(conn, [young])
    assert inputs(engine, "1", "email") == ("ada@acme.org",)
    assert rows_of(engine, "select count(*) from enrichment.person_inputs") == [(1,)]


def test_inputs_that_did_not_change_are_not_written(engine: Engine) -> None:
    add(engine, contact("1", email="ada@acme.org"))
    (before,) = inputs(engine, "1", "updated_at")
    refresh(engine, "1")
    assert inputs(engine, "1", "updated_at") == (before,)


# ---- many of them -------------------------------------------------------------------------------


def test_resolving_a_contact_reads_no_table_that_grows_as_a_whole(engine: Engine) -> None:
    warehouse.fill(engine, contacts=2_000, observations=20_000)
    with engine.begin() as conn:
        for statement in MORE:
            conn.exec_driver_sql(statement)
    with engine.connect() as conn, explained(conn, SMALL) as whole:
        summary = persons.resolve(conn, ["c131", "c132"])
        persons.refresh_inputs(conn, summary.person_ids)
    assert summary.person_ids
    assert not whole, "\n".join(whole)


def test_no_chunk_of_a_sync_is_resolved_by_a_plan_made_for_others(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan for lists of any length is one for short lists, and takes minutes over thousands."""
    monkeypatch.setattr(source, "CHUNK", 2)
    put_contacts(engine, [contact(f"c{number}") for number in range(60)])
    with engine.begin() as conn, counted(engine) as executed:
        source.sync(conn, policy(), NOW)
        kept = conn.execute(text("select statement from pg_prepared_statements")).scalars().all()
    assert len({statement for statement in executed if executed.count(statement) > 20}) > 10
    assert not [statement for statement in kept if "enrichment." in statement]
