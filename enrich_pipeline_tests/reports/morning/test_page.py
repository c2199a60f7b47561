"""The page itself: it needs no network, is sound, escapes, keeps persons out, says what is open."""

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import httpx
import pytest
from sqlalchemy import URL, Connection, Engine, text

from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.reports.morning import page
from enrich_pipeline.store import switch

from ...store import rows
from ...support.lab import Bench, Lab, contacts
from .conftest import rendered
from .parsed import Page

NOW = datetime(2026, 5, 1, 3, tzinfo=UTC)
DAY = NOW.date()
POLICY = rows.default_policy()
HOSTILE = "<script>alert(1)</script>\"><img src=x onerror='alert(2)'>"


def plan_night(conn: Connection, day: date = DAY) -> None:
    rows.insert(
        conn,
        "plan_nights",
        [
            {
                "partition_date": day,
                "as_of": NOW,
                "planned_at": NOW,
                "contacts_cap": 10,
                "batches": 1,
                "contacts_stale": 0,
                "coverage_before": {},
            }
        ],
    )


def job_change(conn: Connection, number: int, old: str, new: str, segment: str) -> None:
    """A contact's two versions and what its move is, as a merge leaves them."""
    contact_id = f"c{number}{segment}"
    versions = [(old, NOW - timedelta(days=9), NOW, False), (new, NOW, None, True)]
    for company, begin, end, is_job_change in versions:
        version = conn.execute(
            text("""
                insert into analytics.dim_contact_history
                    (contact_id, company_name, segment, profile_source, is_work_email_outdated,
                     is_suppressed, changed_fields, is_job_change, valid_from, valid_to)
                values (:id, :company, :segment, 'prospeo', false, false, '{}', :moved, :begin,
                     :end)
                returning contact_version_id
            """),
            {
                "id": contact_id,
                "company": company,
                "segment": segment,
                "moved": is_job_change,
                "begin": begin,
                "end": end,
            },
        ).scalar_one()
    conn.execute(
        text("""
            insert into analytics.fct_contact_changes (contact_version_id, field, contact_id, kind,
                old_value, new_value, changed_at, partition_date)
            values (:version, 'company_name', :id, 'job_change', :old, :new, :now, :day)
        """),
        {"version": version, "id": contact_id, "old": old, "new": new, "now": NOW, "day": DAY},
    )


@pytest.fixture
def night(engine: Engine) -> Engine:
    """A night that found nobody stale."""
    with engine.begin() as conn:
        plan_night(conn)
    return engine


def shown(engine: Engine) -> str:
    return page.render(page.read(engine, POLICY, DAY, NOW))


def test_without_any_night_the_error_names_the_command(engine: Engine) -> None:
    with pytest.raises(ConfigurationError, match="run `enrich refresh`"):
        page.read(engine, POLICY, None, NOW)


def test_of_a_date_without_a_night_the_error_names_the_date(night: Engine) -> None:
    with pytest.raises(ConfigurationError, match=r"2026-04-30.*enrich refresh --date 2026-04-30"):
        page.read(night, POLICY, DAY - timedelta(days=1), NOW)


def test_a_night_with_nothing_to_do_is_told_as_such(night: Engine) -> None:
    found = Page(shown(night))

    assert found.problems == []
    assert "nothing was planned" in found.text("sentences")
    assert "No provider was asked" in found.text("sentences")
    assert "It cost $0.00." in found.text("sentences")
    assert found.text("tasks") == "Nothing needs a person."


def test_the_page_needs_no_network(night: Engine) -> None:
    content = shown(night)
    found = Page(content)

    for word in ("http:", "https:", "//", "@import", "url(", "javascript:"):
        assert word not in content, word
    assert not {tag for tag, _ in found.tags} & {"script", "link", "img", "iframe", "object"}
    assert not [a for _, a in found.tags if {"src", "href", "xlink:href", "srcset"} & set(a)]
    policies = [a for _, a in found.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert [p["content"] for p in policies] == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_the_page_can_be_read_without_seeing_it(lab: Lab) -> None:
    found = Page(rendered(lab))
    tags = [tag for tag, _ in found.tags]

    assert found.problems == []
    assert [(t, a.get("lang")) for t, a in found.tags if t == "html"] == [("html", "en")]
    assert all(tags.count(each) == 1 for each in ("title", "header", "main", "footer", "h1"))
    steps = zip(found.headings, found.headings[1:], strict=False)
    assert all(after - before <= 1 for before, after in steps)
    assert all(a.get("scope") in ("row", "col") for tag, a in found.tags if tag == "th")
    assert tags.count("caption") == tags.count("table")
    assert all(a.get("role") == "img" for tag, a in found.tags if tag == "svg")
    assert found.pictures
    assert all(found.pictures)
    ids = {a["id"] for _, a in found.tags if a.get("id")}
    assert {a["aria-labelledby"] for _, a in found.tags if a.get("aria-labelledby")} <= ids


def test_names_from_the_data_are_text_and_never_markup(night: Engine) -> None:
    with night.begin() as conn:
        job_change(conn, 1, HOSTILE, f"{{{{ 7 * 7 }}}} {HOSTILE}", segment=HOSTILE)
        rows.insert(conn, "skips", [_skip(1, HOSTILE), _skip(2, "*", reason=HOSTILE)])
        conn.execute(
            text("""
                insert into analytics.mart_provider_daily values
                    (:day, :provider, 'work_email', 5, 3, 2, 1, 0, 100, 0.5, 0.1)
            """),
            {"day": DAY, "provider": HOSTILE},
        )
    found = Page(shown(night))

    assert found.problems == []
    assert not {tag for tag, _ in found.tags} & {"script", "img"}
    assert not [a for _, a in found.tags if any(name.startswith("on") for name in a)]
    (change,) = found.tables["job-changes"]
    assert (change["Left"], change["Joined"]) == (HOSTILE, f"{{{{ 7 * 7 }}}} {HOSTILE}")
    assert HOSTILE in found.tables["cost"][0]["Provider"]
    assert any(HOSTILE in picture for picture in found.pictures)


def _skip(person: int, provider: str, reason: str = "not_eligible") -> dict[str, object]:
    return {
        "partition_date": DAY,
        "person_id": person,
        "field": "phone",
        "provider": provider,
        "reason": reason,
        "recorded_at": NOW,
    }


def test_a_pause_is_the_first_thing_a_person_reads(night: Engine) -> None:
    with night.begin() as conn:
        switch.pause(conn, "asked for by Zoe Quill")
    found = Page(shown(night))

    assert "Sending is paused since" in found.text("tasks")
    assert "enrich resume" in found.text("tasks")
    assert "Quill" not in shown(night)


def test_of_an_older_night_the_page_says_of_when_its_tasks_are(night: Engine) -> None:
    said = "As of 2026-05-01 03:00 UTC"
    assert said.lower() not in Page(shown(night)).text("tasks").lower()
    with night.begin() as conn:
        plan_night(conn, DAY + timedelta(days=1))
    assert said.lower() in Page(shown(night)).text("tasks").lower()
    with night.begin() as conn:
        switch.pause(conn, "invoice")
    told = Page(shown(night)).text("tasks")
    assert said in told
    assert "other nights have followed this one" in told


def test_on_a_phone_every_cell_of_a_wide_table_stands_under_the_name_of_its_column(
    lab: Lab,
) -> None:
    content = rendered(lab)
    found = Page(content)
    wide = {a["id"]: a for tag, a in found.tags if tag == "table" and a["class"] == "wide"}
    assert {"waterfall", "cost", "pending", "in-doubt"} <= set(wide)
    for name, attributes in wide.items():
        columns = [column.removesuffix(" 2") for column in found.tables[str(name)][0]]
        labels = re.findall(r"--c(\d+): '([^']*)'", str(attributes["style"]))
        assert labels == [(str(n), column) for n, column in enumerate(columns, start=1)]
        for number in range(2, len(columns) + 1):
            rule = f".wide td:nth-child({number})::before {{ content: var(--c{number}); }}"
            assert rule in content


def test_however_many_moved_the_page_stays_small(night: Engine) -> None:
    with night.begin() as conn:
        for number in range(60):
            job_change(conn, number, "Old Mill", "New Mill", segment="")
    content = shown(night)

    assert "20 of 60" in Page(content).text("job-changes")
    assert len(content) < 100_000


@pytest.fixture
def lab(bench: Bench, database: URL) -> Iterator[Lab]:
    """A night in which answers were lost, delayed, refused, and deliveries came from strangers."""
    waits = {"await_seconds": 0.2, "deadline_minutes": 60}
    own = {"providers": {"pronto": waits, "apollo": waits}}
    with bench.lab(database, own, {"prospeo.match": 0.5}) as lab:
        lab.sandbox.faults(
            {"provider": "agntdata", "kind": "charge_then_drop"},
            {"provider": "lance", "kind": "insufficient", "times": None},
            {"provider": "pronto", "kind": "late_webhook", "seconds": 60, "times": None},
            {"provider": "apollo", "kind": "late_webhook", "seconds": 60, "times": None},
        )
        lab.night(contacts(range(30), personal_email_consent="true"))
        stranger = f"{lab.settings.webhook_public_url}/webhooks/pronto/{'ab' * 32}"
        httpx.post(stranger, json={"status": "done"}, trust_env=False)
        yield lab


def test_what_is_open_is_told_with_the_reason_and_what_to_do(lab: Lab) -> None:
    found = Page(rendered(lab))

    pending = lab.sql(
        "select a.provider, count(*) from analytics.fct_enrichment_attempts as a "
        "where a.outcome = 'pending' group by a.provider order by a.provider"
    )
    counted: dict[str, int] = {}
    for row in found.tables["pending"]:
        counted[row["Provider"]] = counted.get(row["Provider"], 0) + int(row["Values"])
    assert sorted(counted.items()) == pending
    assert pending

    ((calls, held),) = lab.sql(
        "select count(distinct call_id), sum(case entry_type when 'doubt' then amount_usd "
        "else -amount_usd end) from analytics.fct_credit_ledger "
        "where entry_type in ('doubt', 'doubt_post', 'doubt_release', 'write_off')"
    )
    (doubt,) = found.tables["in-doubt"]
    assert doubt["Provider"] == "agntdata"
    assert (doubt["Calls"], doubt["At most"]) == (f"{calls}", f"${held:,.2f}")
    assert f"whether {calls} call over ${held:,.2f} was charged" in found.text("tasks")
    assert "enrich in-doubt list" in found.text("tasks")

    ((waiting,),) = lab.sql(
        "select count(*) from enrichment.enrichments where state = 'open' "
        "and next_provider = 'lance'"
    )
    lance = [row for row in found.tables["waiting"] if row["Next"] == "lance"]
    assert [row["Values"] for row in lance] == [f"{waiting}"]
    assert "out of credits → buy credits there" in lance[0]["Why"]
    assert "lance" in found.text("tasks")

    ((strangers,),) = lab.sql("select count(*) from enrichment.inbox where state = 'quarantined'")
    assert [row["Deliveries"] for row in found.tables["quarantined"]] == [f"{strangers}"]
    assert strangers == 1


def test_while_the_night_is_open_there_is_no_coverage_after_it(lab: Lab) -> None:
    found = Page(rendered(lab))

    ((still_open,),) = lab.sql(
        "select count(*) from enrichment.plan_rows where partition_date = :d and state = 'waiting'",
        d=lab.today,
    )
    assert {row["After"] for row in found.tables["coverage"]} == {"still open"}
    assert f"{still_open} are still open" in found.text("sentences")


def test_no_value_of_a_person_is_on_the_page(lab: Lab) -> None:
    content = rendered(lab).lower()

    said = {
        value
        for (value,) in lab.sql(
            "select distinct value from analytics.fct_field_observations where field in "
            "('work_email', 'personal_email', 'phone', 'linkedin_url', 'job_title')"
        )
    }
    for column in ("full_name", "last_name", "email", "linkedin_slug", "lance_person_id"):
        said |= {v for (v,) in lab.sql(f"select distinct {column} from enrichment.contacts")}  # noqa: S608
    values = {value for value in said if value}
    assert len(values) > 100
    assert [value for value in values if value.lower() in content] == []
