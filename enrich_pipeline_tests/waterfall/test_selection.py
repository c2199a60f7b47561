"""A night's selection looks at as few contacts as it can, and plans what looking at all would.

The reference judges every stale field of every contact, by the statements that say so most plainly.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from enrich_pipeline.domain.enrichment import Field
from enrich_pipeline.domain.policy import Policy
from enrich_pipeline.providers import registry
from enrich_pipeline.providers.protocol import Provider
from enrich_pipeline.store import person_merges, selection
from enrich_pipeline.store.coverage import EXISTED, FIELDS_OF_CONTACT, fields_json
from enrich_pipeline.waterfall import planning
from enrich_pipeline.waterfall.decide import MAX_FAILURES
from enrich_pipeline.waterfall.planning import judged_offers, write_plan
from enrich_pipeline_tests.store import rows
from enrich_pipeline_tests.support.contacts import NOW, policy, rows_of

TODAY = NOW.date()
PERSONS, CONTACTS = 120, 200
FIELDS = tuple(Field)
IDENTITY = ["email:1", "linkedin:1"]


@pytest.fixture(scope="module")
def providers() -> Mapping[str, Provider]:
    return {name: cls(cls.options_model()) for name, cls in registry.available().items()}


@pytest.fixture(autouse=True)
def _few_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "LOOKED_BEYOND", 0)


# -------------------------------------------------------------------------------- random contacts


def some(random: Random, share: float, value: Any) -> Any:
    return value if random.random() < share else None


def moment(random: Random) -> datetime:
    return NOW - timedelta(days=random.choice([1, 30, 89, 90, 91, 180, 181, 300]))


def fill(conn: Connection, random: Random) -> None:
    """Persons, some of them merged, their contacts, and what was asked about them before."""
    merged = {n: n - 1 for n in range(2, PERSONS, 9)}
    survivors = [n for n in range(1, PERSONS + 1) if n not in merged]
    rows.insert(
        conn,
        "persons",
        [{"person_id": n, "merged_into": merged.get(n)} for n in range(1, PERSONS + 1)],
    )
    rows.insert(conn, "person_inputs", [inputs(random, n) for n in survivors])
    for n in range(CONTACTS):
        contact(conn, random, f"c{n}", random.choice(survivors))
    conn.execute(text(_CONSENT))
    rows.call(conn, 1, "prospeo", TODAY)
    for n in range(1, PERSONS + 1, 2):
        enrichment(conn, random, n, n in merged)
        charge_line(conn, random, n)


_CONSENT = """
    update enrichment.person_inputs as i set personal_email_consent = exists (
        select from enrichment.contacts as c
        where c.person_id = i.person_id and c.personal_email_consent)
"""


def inputs(random: Random, person_id: int) -> dict[str, Any]:
    return {
        "person_id": person_id,
        "first_name": some(random, 0.8, "Ada"),
        "last_name": some(random, 0.8, "Roe"),
        "email": some(random, 0.7, f"p{person_id}@acme.example"),
        "linkedin": some(random, 0.5, f"ada-{person_id}"),
        "company_domain": some(random, 0.6, "acme.example"),
        "is_blocked": random.random() < 0.1,
        "blocked_reason": some(random, 0.5, "do_not_enrich"),
        "identity": IDENTITY[: random.randrange(3)],
    }


def contact(conn: Connection, random: Random, contact_id: str, person_id: int) -> None:
    rows.contact(
        conn,
        contact_id,
        some(random, 0.95, person_id),
        weight=random.choice([None, None, 1, 1, 2.5]),
        created_at=random.choice([None, NOW - timedelta(days=9), NOW + timedelta(days=1)]),
        personal_email_consent=random.random() < 0.6,
    )
    values: dict[str, Any] = {"contact_id": contact_id, "person_id": person_id}
    for name in ("work_email", "phone", "personal_email", "job_title", "company_name"):
        values[name] = some(random, 0.8, "known")
    for name in FIELDS:
        values[f"{name}_status"] = random.choice(["verified", "unknown", None])
        values[f"{name}_observed_at"] = some(random, 0.9, moment(random))
    values["is_work_email_outdated"] = random.random() < 0.1
    columns = ", ".join(values)
    conn.execute(
        text(
            f"insert into analytics.dim_contacts ({columns}) "  # noqa: S608
            f"values ({', '.join(f':{c}' for c in values)})"
        ),
        values,
    )
    if random.random() < 0.2:
        rows.insert(
            conn, "value_locks", [{"contact_id": contact_id, "field": random.choice(FIELDS)}]
        )


def enrichment(conn: Connection, random: Random, person_id: int, is_merged: bool) -> None:
    state = random.choice(["pending", "in_doubt"] if is_merged else ["finished", "failed", "open"])
    rows.enrichment(
        conn,
        person_id,
        person_id,
        random.choice(FIELDS),
        TODAY - timedelta(days=9),
        state=state,
        result=random.choice(["found", "not_found"]) if state == "finished" else None,
        next_provider="prospeo" if state == "open" else None,
        waterfall=["prospeo", "agntdata", "pronto", "lance", "apollo"],
        position=random.choice([1, 6]),
        closed_at=moment(random),
        closed_identity=some(random, 0.5, IDENTITY),
    )


def charge_line(conn: Connection, random: Random, person_id: int) -> None:
    provider, product = random.choice(
        [("prospeo", "match"), ("prospeo", "mobile"), ("lance", "phones"), ("apollo", "match")]
    )
    rows.line(
        conn,
        person_id,
        1,
        person_id,
        provider,
        product=product,
        verdict=random.choice(["found", "not_found", "failed", "other_person"]),
        answered_at=moment(random),
        settled_at=moment(random),
        sent_identity=random.choice([IDENTITY, []]),
    )


def change(conn: Connection) -> None:
    """What happens in the middle of a day: values age, contacts move, come and go."""
    for statement in (
        "update analytics.dim_contacts set phone = null where contact_id like 'c%3'",
        "update enrichment.contacts set weight = 9, created_at = null where contact_id like 'c%4'",
        "update enrichment.contacts set person_id = 1 where contact_id like 'c%5'",
        "delete from analytics.dim_contacts where contact_id like 'c%6'",
        _CONSENT,
    ):
        conn.execute(text(statement))


# ----------------------------------------------------------------------------------- the reference


def expected(
    conn: Connection, config: Policy, providers: Mapping[str, Provider], cap: int
) -> dict[str, Any]:
    """What a plan of today adds when all is judged: rows, skips, blocked, coverage, stale."""
    ages = {field.value: config.fields[field].stale_after_days for field in config.fields}
    bought = {field: days for field, days in ages.items() if config.waterfall(Field(field))}
    of_fields = {"fields": fields_json(bought), "as_of": NOW}
    conn.execute(text(_STALE), of_fields)
    memory = selection.Memory(
        NOW, config.reuse.found_days, config.reuse.not_found_days, MAX_FAILURES
    )
    selection.judge(conn, judged_offers(config, providers), memory)
    conn.execute(text(_SELECTABLE), {"day": TODAY})
    planned = conn.execute(text(_ROWS), {"day": TODAY, "cap": cap}).all()
    skips = conn.execute(text(_SKIPS), of_fields).all()
    covered = conn.execute(text(_COVERAGE), {"fields": fields_json(ages), "as_of": NOW}).all()
    stale = conn.execute(text("select count(distinct contact_id) from plan_stale")).scalar_one()
    return {
        "rows": [tuple(row) for row in planned],
        "skips": {tuple(row) for row in skips},
        "coverage": {row.field: dict(row.counts) for row in covered},
        "stale": stale,
    }


_STALE = f"""
    create temp table plan_stale on commit drop as
    select c.contact_id, c.person_id, v.field, c.weight, v.observed_at,
        case when not v.is_filled then 'missing' when v.is_outdated then 'job_change'
             when v.observed_at is null then 'unknown_age' else 'old' end as reason,
        case when not v.is_filled then 0 when v.is_outdated then 1
             when v.observed_at is null then 2 else 3 end as urgency
    from analytics.dim_contacts as d join enrichment.contacts as c using (contact_id)
    {FIELDS_OF_CONTACT}
    where {EXISTED} and s.is_stale and c.person_id is not null
      and (v.field <> 'personal_email' or c.personal_email_consent)
      and not exists (select from enrichment.value_locks as l
                      where l.contact_id = c.contact_id and l.field = v.field)
"""  # noqa: S608  (fragments of our own)

_SELECTABLE = """
    create temp table chosen on commit drop as
    select s.* from plan_stale as s join plan_wanted as w using (person_id, field)
    where w.blocked_by is null
      and (w.is_live or exists (
          select from plan_judged as j
          where (j.person_id, j.field) = (s.person_id, s.field) and j.reason is null))
      and not exists (select from enrichment.plan_rows as r
                      where r.partition_date = :day and r.contact_id = s.contact_id)
"""

_ROWS = """
    with planned as (
        select count(distinct contact_id) as contacts, coalesce(max(rank), 0) as rank
        from enrichment.plan_rows where partition_date = :day
    ), ranked as (
        select contact_id, row_number() over (
            order by weight desc nulls last, urgency, observed_at nulls first, contact_id) as place
        from (select distinct on (contact_id) * from chosen
              order by contact_id, urgency, observed_at nulls first) as best
    )
    select c.contact_id, c.person_id, c.field, c.reason, planned.rank + r.place, p.bucket % 4
    from planned join ranked as r on r.place <= :cap - planned.contacts
    join chosen as c using (contact_id) join enrichment.persons as p using (person_id)
    order by r.place, c.field
"""

_SKIPS = f"""
    select person_id, field, '*', blocked_by from plan_wanted where blocked_by is not null
    union all
    select j.person_id, j.field, j.provider, j.reason
    from plan_judged as j join plan_wanted as w using (person_id, field)
    where not w.is_live and not exists (
        select from plan_judged as o
        where (o.person_id, o.field) = (j.person_id, j.field) and o.reason is null)
    union all
    select distinct i.person_id, 'personal_email', '*', 'no_consent'
    from analytics.dim_contacts as d join enrichment.contacts as c using (contact_id)
    join enrichment.person_inputs as i on i.person_id = c.person_id
    {FIELDS_OF_CONTACT}
    where {EXISTED} and s.is_stale and v.field = 'personal_email'
      and not i.personal_email_consent and not i.is_blocked
"""  # noqa: S608  (fragments of our own)

_COVERAGE = f"""
    select v.field, jsonb_build_object('contacts', count(*),
        'filled', count(*) filter (where v.is_filled),
        'verified', count(*) filter (where v.is_filled and v.status = 'verified'),
        'stale', count(*) filter (where s.is_stale)) as counts
    from analytics.dim_contacts as d join enrichment.contacts as c using (contact_id)
    {FIELDS_OF_CONTACT}
    where {EXISTED} group by v.field
"""  # noqa: S608  (fragments of our own)


# ---------------------------------------------------------------------------------------- the tests


def compare(
    engine: Engine, config: Policy, providers: Mapping[str, Provider], cap: int, before: int
) -> bool:
    """Plan today under `cap`, after `before` rows; return whether the plan is full."""
    with engine.begin() as conn:
        # What of merged persons can follow them has done so before anything is judged.
        person_merges.follow_merges(conn)
    with engine.connect() as conn:
        reference = expected(conn, config, providers, cap)
        conn.rollback()
    with engine.begin() as conn:
        conn.execute(text("delete from enrichment.skips"))
        summary = write_plan(conn, config, providers, TODAY, cap, NOW)
    written = rows_of(
        engine,
        "select contact_id, person_id, field, reason, rank, batch from enrichment.plan_rows"
        " where partition_date = :day order by rank, field",
        day=TODAY,
    )
    skips = set(rows_of(engine, "select person_id, field, provider, reason from enrichment.skips"))
    ((covered, stale),) = rows_of(
        engine, "select coverage_before, contacts_stale from enrichment.plan_nights"
    )
    assert written[before:] == reference["rows"]
    if before == 0:
        assert (covered, stale) == (reference["coverage"], reference["stale"])
    if summary.contacts == cap:
        assert skips <= reference["skips"]
    else:
        assert skips == reference["skips"]
    return summary.contacts == cap


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("cap", [0, 1, 9, 40, 1_000])
def test_plan_is_that_of_judging_everything(
    engine: Engine, providers: Mapping[str, Provider], seed: int, cap: int
) -> None:
    with engine.begin() as conn:
        fill(conn, Random(seed))
    is_full = compare(engine, policy(), providers, cap, before=0)
    assert is_full == (cap < 1_000)


@pytest.mark.parametrize("seed", range(3))
def test_what_a_later_run_appends_is_that_of_judging_everything(
    engine: Engine, providers: Mapping[str, Provider], seed: int
) -> None:
    config = policy(refresh={"contacts_per_night": 120})
    with engine.begin() as conn:
        fill(conn, Random(seed))
    compare(engine, config, providers, 120, before=0)
    ((before,),) = rows_of(engine, "select count(*) from enrichment.plan_rows")
    with engine.begin() as conn:
        change(conn)
    compare(engine, config, providers, 120, before=before)


@pytest.mark.parametrize("percent", [1, 40, 100])
def test_guess_from_a_sample_changes_nothing(
    engine: Engine,
    providers: Mapping[str, Provider],
    monkeypatch: pytest.MonkeyPatch,
    percent: int,
) -> None:
    monkeypatch.setattr(selection, "SAMPLE_PERCENT", percent)
    monkeypatch.setattr(selection, "SAMPLE_AT_LEAST", 0)
    with engine.begin() as conn:
        fill(conn, Random(2))
    assert compare(engine, policy(), providers, 9, before=0)


def test_field_that_nobody_sells_any_more_is_no_candidate(
    engine: Engine, providers: Mapping[str, Provider]
) -> None:
    with engine.begin() as conn:
        fill(conn, Random(1))
    few = {name: provider for name, provider in providers.items() if name == "lance"}
    compare(engine, policy(), few, 9, before=0)


def test_freshness_is_kept_whoever_writes(engine: Engine) -> None:
    def differing() -> list[tuple[Any, ...]]:
        return rows_of(
            engine,
            "(table enrichment.freshness except table enrichment.freshness_now) union all"
            " (table enrichment.freshness_now except table enrichment.freshness)",
        )

    with engine.begin() as conn:
        fill(conn, Random(1))
    assert rows_of(engine, "select count(*) from enrichment.freshness") == [(CONTACTS,)]
    assert differing() == []
    with engine.begin() as conn:
        change(conn)
        conn.execute(text("delete from enrichment.contacts where contact_id like 'c%7'"))
        conn.execute(text("update analytics.dim_contacts set profile_status = 'verified'"))
    assert differing() == []
