"""The night's plan: what is stale as of its date, what can be bought, what comes first."""

import threading
import time
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from enrich_pipeline.domain.enrichment import Field
from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.domain.policy import Policy
from enrich_pipeline.intake.source import sync_source
from enrich_pipeline.providers import registry
from enrich_pipeline.providers.protocol import Provider
from enrich_pipeline.store import locks, plan
from enrich_pipeline.waterfall.planning import NightSummary, plan_night, price_night
from enrich_pipeline_tests.store import rows
from enrich_pipeline_tests.support.contacts import NOW, policy, put_contacts, rows_of
from enrich_pipeline_tests.support.statements import counted

TODAY = NOW.date()
SLUG = "ada-lovelace-1a2b3c"
FRESH = NOW - timedelta(days=5)
OLD = NOW - timedelta(days=400)


@pytest.fixture(scope="module")
def providers() -> Mapping[str, Provider]:
    return {name: cls(cls.options_model()) for name, cls in registry.available().items()}


def contact(contact_id: str, **values: Any) -> dict[str, Any]:
    """A contact whom every provider but Lance could look up."""
    return {
        "contact_id": contact_id,
        "first_name": "Ada",
        "last_name": "Lovelace",
        "linkedin_url": f"https://www.linkedin.com/in/ada-{contact_id}-1a2b3c",
        "company_name": "Acme",
        "company_domain": "acme.org",
    } | values


def complete(contact_id: str, verified_at: datetime = FRESH, **values: Any) -> dict[str, Any]:
    """A contact without a gap: everything but personal e-mail, verified at one moment."""
    return contact(
        contact_id,
        email=f"ada{contact_id}@acme.org",
        phone="+493090182012",
        job_title="Countess",
        email_verified_at=verified_at,
        phone_verified_at=verified_at,
        profile_verified_at=verified_at,
        **values,
    )


def only(field: str, *waterfall: str, **sections: Any) -> Policy:
    """A configuration that buys one field, from these providers."""
    defaults = policy()
    fields = {
        name.value: {"waterfall": list(waterfall) if name == field else []}
        for name in defaults.fields
    }
    return policy(fields=fields, **sections)


def planned(engine: Engine, day: date = TODAY) -> list[tuple[Any, ...]]:
    return rows_of(
        engine,
        "select contact_id, field, reason from enrichment.plan_rows"
        " where partition_date = :day order by rank, field",
        day=day,
    )


def contacts_in_order(engine: Engine, day: date = TODAY) -> list[str]:
    found = rows_of(
        engine,
        "select contact_id from enrichment.plan_rows where partition_date = :day"
        " group by contact_id order by min(rank)",
        day=day,
    )
    return [row[0] for row in found]


def skipped(engine: Engine, field: str) -> dict[str, str]:
    return dict(
        rows_of(
            engine,
            "select provider, reason from enrichment.skips where field = :field",
            field=field,
        )
    )


def person_of(engine: Engine, contact_id: str = "1") -> int:
    ((person_id,),) = rows_of(
        engine, "select person_id from enrichment.contacts where contact_id = :c", c=contact_id
    )
    return int(person_id)


def remember(engine: Engine, product: str, line_id: int = 1, **columns: Any) -> None:
    """A settled charge line of the person of contact 1 at Prospeo."""
    with engine.begin() as conn:
        provider = columns.get("provider", "prospeo")
        rows.call(conn, line_id, provider, TODAY)
        rows.insert(
            conn,
            "charge_lines",
            [
                {
                    "line_id": line_id,
                    "call_id": line_id,
                    "item_key": "a",
                    "person_id": person_of(engine),
                    "provider": provider,
                    "product": product,
                    "options": "",
                    "fields": [],
                    "state": "posted",
                    "hold_micro": 0,
                    "hold_usd_micro": 0,
                    "cost_micro": 0,
                    "cost_usd_micro": 0,
                    "answered_at": NOW - timedelta(days=1),
                    "settled_at": NOW - timedelta(days=1),
                    "sent_identity": [],
                }
                | columns
            ],
        )


def identity_of(engine: Engine) -> list[str]:
    ((identity,),) = rows_of(
        engine,
        "select identity from enrichment.person_inputs where person_id = :p",
        p=person_of(engine),
    )
    return list(identity)


@pytest.fixture
def night(engine: Engine, providers: Mapping[str, Provider]) -> Any:
    """Plans a night with the real providers: `night(config, day=..., limit=..., now=...)`."""

    def plan_with(
        config: Policy | None = None,
        day: date = TODAY,
        limit: int | None = None,
        now: datetime = NOW,
    ) -> NightSummary:
        return plan_night(engine, config or policy(), providers, day, limit, now)

    return plan_with


def test_missing_unknown_and_old_values_are_stale_and_fresh_ones_are_not(
    engine: Engine, night: Any
) -> None:
    put_contacts(
        engine,
        [
            complete("1"),
            complete("2") | {"email": None, "email_verified_at": None},
            complete("3") | {"phone_verified_at": None},
            complete("4") | {"profile_verified_at": NOW - timedelta(days=91)},
        ],
    )
    summary = night()
    assert planned(engine) == [
        ("2", "work_email", "missing"),
        ("3", "phone", "unknown_age"),
        ("4", "profile", "old"),
    ]
    assert (summary.contacts_stale, summary.contacts, summary.added) == (3, 3, 3)


def test_value_is_stale_from_exactly_its_age_on(engine: Engine, night: Any) -> None:
    age = timedelta(days=90)
    put_contacts(
        engine,
        [
            complete("1") | {"email_verified_at": NOW - age},
            complete("2") | {"email_verified_at": NOW - age + timedelta(seconds=1)},
        ],
    )
    night()
    assert planned(engine) == [("1", "work_email", "old")]


def test_mail_at_a_former_employer_is_stale_at_once(engine: Engine, night: Any) -> None:
    put_contacts(engine, [complete("1")])
    sync_source(engine, policy(), NOW)
    with engine.begin() as conn:
        conn.execute(text("update analytics.dim_contacts set is_work_email_outdated = true"))
    night()
    assert planned(engine) == [("1", "work_email", "job_change")]


def test_past_date_judges_by_its_own_end(engine: Engine, night: Any) -> None:
    day = TODAY - timedelta(days=30)
    end = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    put_contacts(
        engine,
        [
            complete("1", end - timedelta(days=90)),
            complete("2", end - timedelta(days=89), created_at=end),
            contact("3", created_at=end + timedelta(seconds=1)),
        ],
    )
    summary = night(only("work_email", "prospeo"), day=day)
    assert summary.as_of == end
    assert planned(engine, day) == [("1", "work_email", "old")]


def test_order_is_missing_then_unknown_age_then_the_oldest(engine: Engine, night: Any) -> None:
    put_contacts(
        engine,
        [
            complete("a", OLD),
            complete("b", OLD - timedelta(days=1)),
            complete("c") | {"email_verified_at": None},
            complete("d") | {"phone": None},
            complete("e") | {"phone": None},
        ],
    )
    night()
    assert contacts_in_order(engine) == ["d", "e", "c", "b", "a"]


def test_weight_comes_before_everything_else(engine: Engine, night: Any) -> None:
    put_contacts(engine, [contact("1"), complete("2", OLD)])
    with engine.begin() as conn:
        conn.execute(text("create schema sales"))
        conn.execute(
            text("""
                create view sales.contacts as
                select c.*, case contact_id when '2' then 5.5 end as revenue from crm.contacts as c
            """)
        )
    config = policy(source={"relation": "sales.contacts"}, refresh={"weight_column": "revenue"})
    night(config)
    assert contacts_in_order(engine) == ["2", "1"]


def test_cap_counts_contacts_over_all_batches(engine: Engine, night: Any) -> None:
    put_contacts(engine, [contact(str(n)) for n in range(30)])
    summary = night(limit=7)
    assert (summary.contacts_cap, summary.contacts, summary.contacts_stale) == (7, 7, 30)
    assert len({contact_id for contact_id, _, _ in planned(engine)}) == 7
    assert contacts_in_order(engine) == sorted(map(str, range(30)))[:7]
    batches = rows_of(
        engine,
        "select count(*) from enrichment.plan_rows r join enrichment.persons p using (person_id)"
        " where r.batch <> p.bucket % 4",
    )
    assert batches == [(0,)]


def test_limit_never_exceeds_the_configured_contacts_per_night(engine: Engine, night: Any) -> None:
    put_contacts(engine, [contact(str(n)) for n in range(5)])
    assert night(policy(refresh={"contacts_per_night": 2}), limit=4).contacts == 2
    assert night(policy(refresh={"contacts_per_night": 0}), TODAY - timedelta(days=1)).contacts == 0


def test_later_run_of_today_appends_what_became_eligible_under_the_same_cap(
    engine: Engine, night: Any
) -> None:
    put_contacts(engine, [contact("1"), contact("2")])
    first = night(limit=3)
    before = planned(engine)
    assert night(limit=3).added == 0
    put_contacts(engine, [contact("0"), contact("3")])
    second = night(limit=3)
    assert (first.contacts, second.added, second.contacts) == (2, 1, 3)
    assert contacts_in_order(engine) == ["1", "2", "0"]
    assert planned(engine)[: len(before)] == before


def test_run_that_waited_for_the_plan_takes_it_without_reading_the_source_again(
    engine: Engine, night: Any
) -> None:
    put_contacts(engine, [contact("1")])
    night()
    summaries: list[NightSummary] = []
    with counted(engine) as statements:
        with engine.begin() as first:
            locks.hold(first, locks.PLAN, TODAY.toordinal())
            second = threading.Thread(target=lambda: summaries.append(night()))
            second.start()
            while not any("pg_advisory" in s for s in statements[1:]):
                time.sleep(0.01)
            plan.touch(first, TODAY, added=0)
        second.join()
    assert [(s.contacts, s.added) for s in summaries] == [(1, 0)]
    assert not any("sync_stage" in s for s in statements)


def test_a_limit_below_the_cap_of_a_planned_night_is_refused_and_adds_nothing(
    engine: Engine, night: Any, providers: Mapping[str, Provider]
) -> None:
    put_contacts(engine, [contact("1")])
    night(limit=3)
    put_contacts(engine, [contact("2")])
    refused = r"at most 3 contacts; limit 2 does not make it smaller: leave limit out"
    with pytest.raises(ConfigurationError, match=refused):
        night(limit=2)
    with pytest.raises(ConfigurationError, match=refused):
        price_night(engine, policy(), providers, TODAY, 2, NOW)
    assert contacts_in_order(engine) == ["1"]
    assert night(limit=4).contacts_cap == 3


def test_plan_of_a_past_date_is_never_selected_again(engine: Engine, night: Any) -> None:
    day = TODAY - timedelta(days=2)
    put_contacts(engine, [contact("1")])
    assert night(day=day).added == 1
    put_contacts(engine, [contact("2", created_at=OLD)])
    again = night(day=day)
    assert (again.added, again.contacts) == (0, 1)


def test_future_and_too_early_dates_are_refused_before_anything_is_read(night: Any) -> None:
    with pytest.raises(ConfigurationError, match="2026-09-21 is in the future"):
        night(day=TODAY + timedelta(days=1))
    with pytest.raises(ConfigurationError, match=r"before refresh\.start_date"):
        night(day=date(2025, 12, 31))


def test_coverage_before_is_kept_from_the_first_run(engine: Engine, night: Any) -> None:
    put_contacts(engine, [complete("1"), complete("2", OLD), contact("3")])
    night()
    put_contacts(engine, [complete("4")])
    night()
    ((coverage, stale),) = rows_of(
        engine, "select coverage_before, contacts_stale from enrichment.plan_nights"
    )
    assert coverage["work_email"] == {"filled": 2, "verified": 2, "stale": 2, "contacts": 3}
    assert coverage["profile"]["filled"] == 2
    assert stale == 2


def test_nobody_to_refresh_is_an_empty_plan(engine: Engine, night: Any) -> None:
    assert night().contacts == 0
    put_contacts(engine, [complete("1"), contact("2", do_not_enrich=True)])
    summary = night()
    assert (summary.contacts, summary.blocked) == (0, {"do_not_enrich": 3, "no_consent": 1})
    assert skipped(engine, "phone") == {"*": "do_not_enrich"}


def test_personal_email_is_planned_only_where_its_contact_consents(
    engine: Engine, night: Any
) -> None:
    put_contacts(
        engine,
        [
            contact("1", linkedin_url=f"linkedin.com/in/{SLUG}", personal_email_consent=True),
            contact("2", linkedin_url=f"linkedin.com/in/{SLUG}"),
            contact("3"),
        ],
    )
    night(only("personal_email", "pronto", "agntdata"))
    assert planned(engine) == [("1", "personal_email", "missing")]
    assert rows_of(engine, "select provider, reason from enrichment.skips") == [("*", "no_consent")]


def test_field_that_no_provider_can_look_up_is_skipped_with_every_reason(
    engine: Engine, night: Any
) -> None:
    put_contacts(engine, [{"contact_id": "1", "full_name": "Cher", "company_name": "Acme"}])
    summary = night(only("phone", "prospeo", "lance", "pronto"))
    assert planned(engine) == []
    assert summary.blocked == {"not_eligible": 1}
    assert skipped(engine, "phone") == dict.fromkeys(("prospeo", "lance", "pronto"), "not_eligible")


def test_field_without_a_waterfall_is_never_planned(engine: Engine, night: Any) -> None:
    put_contacts(engine, [contact("1")])
    night(only("phone", "prospeo"))
    assert {field for _, field, _ in planned(engine)} == {"phone"}


def test_disabled_provider_makes_nothing_selectable(engine: Engine, night: Any) -> None:
    put_contacts(engine, [contact("1")])
    config = only("phone", "prospeo", providers={"prospeo": {"enabled": False}})
    assert night(config).contacts == 0


def test_locked_field_is_left_alone(engine: Engine, night: Any) -> None:
    put_contacts(engine, [contact("1")])
    with engine.begin() as conn:
        conn.execute(text("insert into enrichment.value_locks values ('1', 'phone', 'ours')"))
    night()
    assert "phone" not in {field for _, field, _ in planned(engine)}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"verdict": "found"}, "answered"),
        ({"verdict": "found", "answered_at": NOW - timedelta(days=91)}, None),
        ({"verdict": "not_found"}, "known_miss"),
        ({"verdict": "not_found", "answered_at": NOW - timedelta(days=61)}, None),
        ({"verdict": "other_person"}, "other_person"),
        ({"verdict": "filtered"}, "filtered"),
        ({"state": "written_off", "verdict": None}, "written_off"),
        (
            {"state": "written_off", "verdict": None, "settled_at": NOW - timedelta(days=61)},
            None,
        ),
        ({"state": "in_doubt", "verdict": None, "settled_at": None}, "asked_already"),
        ({"state": "released", "verdict": None}, None),
        ({"state": "released", "verdict": "failed"}, None),
        ({"state": "released", "verdict": "failed", "answered_at": NOW}, "failed_tonight"),
        ({"verdict": "found", "options": "other"}, None),
        ({"verdict": "found", "provider": "apollo"}, None),
    ],
)
def test_what_a_provider_said_before_decides_whether_it_can_be_asked(
    engine: Engine, night: Any, line: dict[str, Any], reason: str | None
) -> None:
    put_contacts(engine, [contact("1")])
    sync_source(engine, policy(), NOW)
    remember(engine, "match", **({"sent_identity": identity_of(engine)} | line))
    night(only("work_email", "prospeo"))
    assert skipped(engine, "work_email").get("prospeo") == reason
    assert bool(planned(engine)) == (reason is None)


def test_third_reported_failure_is_the_last(engine: Engine, night: Any) -> None:
    put_contacts(engine, [contact("1")])
    sync_source(engine, policy(), NOW)
    for line_id in (1, 2, 3):
        remember(engine, "match", line_id, state="released", verdict="failed")
    night(only("work_email", "prospeo"))
    assert skipped(engine, "work_email") == {"prospeo": "failed_before"}


def test_miss_holds_only_while_nothing_new_identifies_the_person(
    engine: Engine, night: Any
) -> None:
    put_contacts(engine, [contact("1")])
    sync_source(engine, policy(), NOW)
    remember(engine, "match", verdict="not_found", sent_identity=identity_of(engine))
    yesterday = TODAY - timedelta(days=1)
    night(only("work_email", "prospeo"), yesterday)
    assert planned(engine, yesterday) == []
    put_contacts(engine, [contact("1", email="ada@acme.org")])
    night(only("work_email", "prospeo"))
    assert planned(engine) == [("1", "work_email", "unknown_age")]


def test_one_provider_left_to_ask_is_enough(engine: Engine, night: Any) -> None:
    put_contacts(engine, [contact("1")])
    sync_source(engine, policy(), NOW)
    remember(engine, "match", verdict="not_found", sent_identity=identity_of(engine))
    night(only("work_email", "prospeo", "agntdata"))
    assert planned(engine) == [("1", "work_email", "missing")]
    assert skipped(engine, "work_email") == {}


def test_product_that_would_pay_another_one_twice_is_not_selectable(
    engine: Engine, night: Any
) -> None:
    put_contacts(engine, [contact("1")])
    sync_source(engine, policy(), NOW)
    remember(engine, "match", verdict="found", provider="apollo")
    night(only("phone", "apollo"))
    assert skipped(engine, "phone") == {"apollo": "would_pay_match_twice"}
    assert planned(engine) == []


@pytest.mark.parametrize("state", ["open", "pending", "in_doubt"])
def test_field_under_way_is_planned_again_whatever_is_known(
    engine: Engine, night: Any, state: str
) -> None:
    put_contacts(engine, [contact("1")])
    sync_source(engine, policy(), NOW)
    remember(engine, "match", verdict="not_found", sent_identity=identity_of(engine))
    finish(engine, state)
    night(only("work_email", "prospeo"))
    assert planned(engine) == [("1", "work_email", "missing")]


def finish(engine: Engine, state: str, position: int = 1, **columns: Any) -> None:
    with engine.begin() as conn:
        rows.insert(
            conn,
            "enrichments",
            [
                {
                    "enrichment_id": 1,
                    "person_id": person_of(engine),
                    "field": "work_email",
                    "cycle": 1,
                    "state": state,
                    "result": "found" if state == "finished" else None,
                    "waterfall": ["prospeo", "agntdata"],
                    "position": position,
                    "next_provider": "prospeo" if state == "open" else None,
                    "partition_date": TODAY,
                    "batch": 0,
                    "rank": 0,
                    "opened_at": NOW,
                    "closed_at": NOW - timedelta(days=1) if state == "finished" else None,
                }
                | columns
            ],
        )


def test_what_a_merged_person_waits_for_is_not_sought_for_the_survivor(
    engine: Engine, night: Any
) -> None:
    put_contacts(engine, [contact("0", email="ada@acme.org")])
    sync_source(engine, policy(), NOW)
    put_contacts(engine, [contact("1", company_domain=None)])
    sync_source(engine, policy(), NOW)
    remember(engine, "mobile", state="held", settled_at=None, answered_at=None)
    finish(engine, "pending", field="phone")
    same = {"linkedin_url": contact("1")["linkedin_url"], "email": "ada@acme.org"}
    put_contacts(engine, [contact("2", **same)])
    night(only("phone", "prospeo", "apollo"))
    assert rows_of(engine, "select count(distinct person_id) from enrichment.contacts") == [(1,)]
    assert planned(engine) == []
    assert skipped(engine, "phone") == {"*": "asked_already"}


def test_accepted_answer_is_not_sought_again_before_it_is_too_old(
    engine: Engine, night: Any
) -> None:
    put_contacts(engine, [contact("1")])
    sync_source(engine, policy(), NOW)
    finish(engine, "finished", closed_identity=identity_of(engine))
    night(only("work_email", "prospeo"))
    assert planned(engine) == []
    assert skipped(engine, "work_email") == {"*": "answered"}


def test_field_that_ran_out_of_providers_is_not_sought_again_at_once(
    engine: Engine, night: Any
) -> None:
    put_contacts(engine, [contact("1")])
    sync_source(engine, policy(), NOW)
    finish(engine, "finished", position=3, closed_identity=identity_of(engine))
    night(only("work_email", "prospeo"))
    assert planned(engine) == []
    assert skipped(engine, "work_email") == {"*": "known_miss"}


@pytest.mark.parametrize(
    "columns",
    [
        {"position": 3, "closed_at": NOW - timedelta(days=61)},
        {"position": 2, "waterfall": ["agntdata"]},
        {"closed_identity": []},
        {"closed_at": NOW - timedelta(days=91)},
    ],
    ids=["ran out long ago", "a provider is new", "something new is known", "too old"],
)
def test_finished_field_opens_again_when_asking_can_help(
    engine: Engine, night: Any, columns: dict[str, Any]
) -> None:
    put_contacts(engine, [contact("1")])
    sync_source(engine, policy(), NOW)
    finish(engine, "finished", **({"closed_identity": identity_of(engine)} | columns))
    night(only("work_email", "prospeo"))
    assert planned(engine) == [("1", "work_email", "missing")]


def test_night_that_planned_nothing_begins_anew_when_contacts_come(
    engine: Engine, night: Any
) -> None:
    assert night().contacts_stale == 0
    statement = "update enrichment.plan_nights set coverage_after = '{}', closed_at = now()"
    with engine.begin() as conn:
        conn.execute(text(statement))
    put_contacts(engine, [contact("1")])
    assert night().contacts_stale == 1
    head = "select coverage_before -> 'phone' ->> 'contacts', coverage_after, closed_at"
    assert rows_of(engine, f"{head} from enrichment.plan_nights") == [("1", None, None)]


def test_processes_that_plan_one_date_at_once_write_one_plan(
    engine: Engine, providers: Mapping[str, Provider]
) -> None:
    put_contacts(engine, [contact(str(n)) for n in range(40)])
    found: list[NightSummary] = []

    def run() -> None:
        found.append(plan_night(engine, policy(), providers, TODAY, 25, NOW))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [summary.contacts for summary in found] == [25] * 4
    assert sorted(summary.added for summary in found) == [0, 0, 0, 25]


def test_statements_of_a_plan_do_not_depend_on_the_number_of_contacts(
    engine: Engine, night: Any
) -> None:
    put_contacts(engine, [contact("0")])
    sync_source(engine, policy(), NOW)
    with counted(engine) as few:
        night(day=TODAY - timedelta(days=1))
    put_contacts(engine, [contact(str(n)) for n in range(1, 600)])
    sync_source(engine, policy(), NOW)
    with counted(engine) as many:
        night()
    assert len(many) == len(few)


def test_price_asks_nobody_and_keeps_nothing(
    engine: Engine, providers: Mapping[str, Provider]
) -> None:
    put_contacts(engine, [contact("1")])
    price = price_night(engine, policy(), providers, TODAY, None, NOW)
    assert (price.contacts, price.persons) == (1, 1)
    for table in ("contacts", "persons", "plan_nights", "plan_rows", "skips", "calls"):
        assert rows_of(engine, f"select count(*) from enrichment.{table}") == [(0,)]  # noqa: S608


def test_price_of_one_product_is_between_nothing_and_its_hold(
    engine: Engine, providers: Mapping[str, Provider]
) -> None:
    put_contacts(engine, [contact(str(n)) for n in range(120)])
    config = only("work_email", "prospeo", refresh={"batches": 1})
    price = price_night(engine, config, providers, TODAY, None, NOW)
    (prospeo,) = price.providers
    assert (prospeo.persons.least, prospeo.persons.expected, prospeo.persons.most) == (120,) * 3
    assert (prospeo.calls.least, prospeo.calls.most) == (3, 3)
    credits = prospeo.credits_micro
    assert (credits.least, credits.expected, credits.most) == (0, 60_000_000, 120_000_000)
    assert price.usd_micro.most == 1_200_000
    assert price.night_budget_usd_micro == 1_000_000_000


def test_price_expects_later_providers_to_see_only_what_earlier_ones_miss(
    engine: Engine, providers: Mapping[str, Provider]
) -> None:
    put_contacts(engine, [contact(str(n)) for n in range(100)])
    config = only("work_email", "prospeo", "agntdata", refresh={"batches": 1})
    price = price_night(engine, config, providers, TODAY, None, NOW)
    agntdata = next(p for p in price.providers if p.provider == "agntdata")
    assert (agntdata.persons.least, agntdata.persons.expected, agntdata.persons.most) == (
        0,
        50,
        100,
    )
    assert (agntdata.calls.least, agntdata.calls.expected, agntdata.calls.most) == (0, 1, 1)


def test_price_counts_what_a_mobile_brings_and_who_may_become_eligible(
    engine: Engine, providers: Mapping[str, Provider]
) -> None:
    without_company = contact("1", linkedin_url=None, company_name=None, company_domain=None)
    put_contacts(engine, [without_company, contact("2")])
    price = price_night(engine, only("phone", "prospeo", "lance"), providers, TODAY, None, NOW)
    assert [p.provider for p in price.providers] == ["prospeo"]
    assert price.contacts == 1
    assert price.providers[0].credits_micro.most == 10_000_000


def test_price_of_some_fields_is_of_those_who_lack_them_and_leaves_the_plan_whole(
    engine: Engine, providers: Mapping[str, Provider]
) -> None:
    put_contacts(engine, [contact("1"), complete("2") | {"phone": None}, complete("3")])
    fields = [Field.WORK_EMAIL]
    price = price_night(engine, policy(), providers, TODAY, None, NOW, fields=fields)
    assert (price.contacts, price.persons, price.night.contacts) == (1, 1, 2)
    whole = price_night(engine, policy(), providers, TODAY, None, NOW)
    assert (whole.contacts, whole.night) == (2, price.night)
    assert price.usd_micro.most < whole.usd_micro.most


def test_price_of_a_planned_night_is_that_of_what_still_waits(
    engine: Engine, night: Any, providers: Mapping[str, Provider]
) -> None:
    day = TODAY - timedelta(days=1)
    put_contacts(engine, [contact(str(n)) for n in range(8)])
    config = only("work_email", "prospeo")
    night(config, day)
    with engine.begin() as conn:
        conn.execute(text("update enrichment.plan_rows set state = 'done' where contact_id < '3'"))
    price = price_night(engine, config, providers, day, None, NOW)
    assert price.contacts == 5
    assert price.providers[0].persons.most == 5
    batches = {batch for (batch,) in rows_of(engine, "select batch from enrichment.plan_rows")}
    parts = [price_night(engine, config, providers, day, None, NOW, [b]) for b in batches]
    assert sum(part.contacts for part in parts) == 5


def test_price_uses_the_rates_of_the_last_days(
    engine: Engine, night: Any, providers: Mapping[str, Provider]
) -> None:
    put_contacts(engine, [contact(str(n)) for n in range(100)])
    config = only("work_email", "prospeo", refresh={"batches": 1})
    sync_source(engine, config, NOW)
    finish(engine, "finished", closed_at=OLD)
    with engine.begin() as conn:
        conn.execute(
            text("""
                insert into enrichment.attempts (enrichment_id, person_id, field, provider, try,
                    position, outcome, responded_at, partition_date, batch, run_id)
                select 1, :person_id, 'work_email', 'prospeo', n, 1,
                       case when n % 10 = 0 then 'not_found' else 'found' end, :at, :day, 0, 'r'
                from generate_series(1, 40) as n
            """),
            {"person_id": person_of(engine), "at": FRESH, "day": TODAY},
        )
    price = price_night(engine, config, providers, TODAY, None, NOW)
    assert price.providers[0].credits_micro.expected == 90_000_000
