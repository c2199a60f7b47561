"""Every figure on the page is what SQL says of the tables; the statements here are the test's."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import URL

from ...support.lab import Bench, Lab, contact, contacts
from .conftest import rendered
from .parsed import Page

FIELDS = {
    "work_email": "Work e-mail",
    "phone": "Phone",
    "personal_email": "Personal e-mail",
    "profile": "Profile",
}
WORLD = {
    "prospeo.match": 0.6,
    "prospeo.mobile": 0.5,
    "prospeo.verified_share": 0.7,
    "agntdata.record": 0.6,
    "pronto.email": 0.5,
    "pronto.phone": 0.5,
    "pronto.personal_email": 0.5,
    "lance.phones": 0.5,
    "truth.moved": 0.5,
    "answer.other_person": 0.05,
}


def usd(amount: Any) -> str:
    return "–" if amount is None else f"${Decimal(amount):,.2f}"


def share(part: Any) -> str:
    return "–" if part is None else f"{Decimal(part) * 100:.1f}%"


def ago(lab: Lab, days: int) -> str:
    return f"{lab.now - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"


@pytest.fixture
def lab(bench: Bench, database: URL) -> Iterator[Lab]:
    """A database after a night that found some and missed some, over several batches."""
    with bench.lab(database, {"refresh": {"batches": 2}}, WORLD) as lab:
        rows = [
            *contacts(range(25), personal_email_consent="true"),
            *(
                contact(number, job_title="Clerk", profile_verified_at=ago(lab, 200), segment="x")
                for number in range(25, 40)
            ),
            *contacts(range(40, 50)),
            # Nobody may ask for these, so that they keep the age that they have.
            *(
                contact(60 + place, email_verified_at=ago(lab, days), do_not_enrich="true")
                for place, days in enumerate((1, 29, 31, 60, 75, 89, 91, 120, 179, 181, 400))
            ),
            contact(55, do_not_enrich="true"),
            contact(56, do_not_enrich="true", email=""),
        ]
        lab.night(rows)
        yield lab


def test_every_figure_equals_sql_on_the_tables(lab: Lab) -> None:
    found = Page(rendered(lab))

    assert found.problems == []
    assert_sentences(lab, found)
    assert_coverage(lab, found)
    assert_waterfall(lab, found)
    assert_money(lab, found)
    assert_ages(lab, found)
    assert_not_asked(lab, found)
    assert_job_changes(lab, found)


def assert_sentences(lab: Lab, page: Page) -> None:
    ((stale, refreshed, filled, reused, spend),) = lab.sql(
        "select contacts_stale, contacts_refreshed, fields_filled, reused, spend_usd "
        "from analytics.mart_refresh_daily where date = :d",
        d=lab.today,
    )
    ((asked, got, verified),) = lab.sql(
        "select sum(attempts), sum(found), sum(verified) from analytics.mart_provider_daily "
        "where date = :d and field <> 'unassigned'",
        d=lab.today,
    )
    contacts_now = lab.one("select count(*) from analytics.dim_contacts")
    ((cap, used),) = lab.sql(
        "select cap / 1e6, (spent + overage + held + in_doubt) / 1e6 from enrichment.budgets "
        "where scope = 'night' and day = :d",
        d=lab.today,
    )
    values = lab.one(
        "select count(*) from enrichment.plan_rows where partition_date = :d", d=lab.today
    )
    told = page.text("sentences")
    assert refreshed == 50
    assert f"Of {contacts_now} contacts, {stale} had something missing" in told
    assert f"took on 50 of them, for whom a provider can be asked: {values} values" in told
    assert f"Asked {asked} times, providers found {got} values and vouch for {verified};" in told
    assert f"{filled} of the {values} are filled" in told
    assert (f", {reused} from earlier answers" in told) == bool(reused)
    assert f"It cost {usd(spend)}, ${spend / verified:,.3f} for each value" in told
    assert f"budget of {usd(cap)} is {share(Decimal(used) / cap)} used" in told


def assert_coverage(lab: Lab, page: Page) -> None:
    (shares,) = lab.sql(
        "select work_email_coverage_before, work_email_coverage_after, phone_coverage_before, "
        "phone_coverage_after, personal_email_coverage_before, personal_email_coverage_after, "
        "profile_coverage_before, profile_coverage_after "
        "from analytics.mart_refresh_daily where date = :d",
        d=lab.today,
    )
    filled = [
        Decimal(lab.one(f"select count({column}) from analytics.dim_contacts"))  # noqa: S608
        for column in ("work_email", "phone", "personal_email", "job_title")
    ]
    total = lab.one("select count(*) from analytics.dim_contacts")
    assert [row["Field"] for row in page.tables["coverage"]] == list(FIELDS.values())
    for place, row in enumerate(page.tables["coverage"]):
        before, after = shares[2 * place : 2 * place + 2]
        assert (row["Before"], row["After"]) == (share(before), share(after))
        assert row["Points"] == f"{(after - before) * 100:+.1f}"
        assert row["After"] == share(filled[place] / total)
        assert f"{row['Field']} {row['Before']} → {row['After']}" in page.pictures[0]


def assert_waterfall(lab: Lab, page: Page) -> None:
    rows = lab.sql(
        "select a.field, min(a.waterfall_position), a.provider, "
        "count(*) filter (where a.outcome <> 'reused'), "
        "count(*) filter (where a.outcome = 'found'), "
        "count(*) filter (where a.outcome in ('not_found', 'other_person')), "
        "count(*) filter (where a.outcome in "
        "  ('invalid_input', 'error', 'in_doubt', 'written_off', 'pending')), "
        "count(*) filter (where a.outcome = 'reused'), sum(a.cost_usd), "
        "(select verified from analytics.mart_provider_daily as m "
        " where (m.date, m.field, m.provider) = (:d, a.field, a.provider)) "
        "from analytics.fct_enrichment_attempts as a where a.partition_date = :d "
        "group by a.field, a.provider",
        d=lab.today,
    )
    order = list(FIELDS)
    expected = [
        {
            "Field": FIELDS[field],
            "Provider": provider,
            "Asked": f"{asked}",
            "Found": f"{got}",
            "Verified": f"{verified}",
            "Not found": f"{missed}",
            "No answer": f"{unanswered}",
            "Reused": f"{reused}",
            "Cost": usd(cost),
        }
        for field, _, provider, asked, got, missed, unanswered, reused, cost, verified in sorted(
            rows, key=lambda row: (order.index(row[0]), row[1])
        )
    ]
    assert len(expected) > 8, "the night asked hardly anybody"
    assert page.tables["waterfall"] == expected
    drawn = " ".join(page.pictures)
    for row in expected:
        told = f"{row['Provider']} asked {row['Asked']}, found {row['Found']}, {row['Cost']}"
        assert told in drawn


def assert_money(lab: Lab, page: Page) -> None:
    ((cap, posted),) = lab.sql(
        "select (select cap / 1e6 from enrichment.budgets where scope = 'night' and day = :d), "
        "sum(amount_usd) filter (where debit_account = provider || '\\:spent') "
        "- coalesce(sum(amount_usd) filter (where credit_account = provider || '\\:spent'), 0) "
        "from analytics.fct_credit_ledger",
        d=lab.today,
    )
    assert page.tables["spend"] == [
        {
            "Day": f"{lab.today}",
            "Spent": usd(posted),
            "Open": "$0.00",
            "Budget": usd(cap),
            "Used": share(posted / cap),
        }
    ]
    rows = lab.sql(
        "select provider, sum(spend_usd), sum(verified), sum(found) "
        "from analytics.mart_provider_daily group by provider "
        "order by sum(spend_usd) / nullif(sum(verified), 0) nulls last, provider"
    )
    scores = {
        provider: (f"{alone}", usd(unused))
        for provider, alone, unused in lab.sql(
            "select provider, sum(found_alone), sum(spend_usd_never_won) "
            "from analytics.mart_provider_scorecard group by provider"
        )
    }
    assert page.tables["cost"] == [
        {
            "Provider": provider,
            "The night": usd(spend),
            "Verified": f"{verified}",
            "30 days": usd(spend),
            "Found": f"{got}",
            "Verified 2": f"{verified}",
            "Each": f"${spend / verified:,.3f}" if verified else "–",
            "Found alone": scores[provider][0],
            "Unused": scores[provider][1],
        }
        for provider, spend, verified, got in rows
    ]


def assert_ages(lab: Lab, page: Page) -> None:
    filled = {
        "work_email": "work_email is not null",
        "phone": "phone is not null",
        "personal_email": "personal_email is not null",
        "profile": "job_title is not null and company_name is not null",
    }
    for place, (field, is_filled) in enumerate(filled.items()):
        days = lab.settings.policy.fields[field].stale_after_days  # type: ignore[index]
        at = f"{field}_observed_at"
        outdated = "is_work_email_outdated" if field == "work_email" else "false"

        def number(condition: str, *, days: int = days, is_filled: str = is_filled) -> str:
            return str(
                lab.one(
                    f"select count(*) from analytics.dim_contacts where {condition}",  # noqa: S608
                    now=lab.now,
                    days=timedelta(days=days),
                )
            )

        row, slim = page.tables["ages"][place], page.tables["stale"][place]
        aged = f"{is_filled} and cast(:now as timestamptz) - {at}"
        assert row == {
            "Field": FIELDS[field],
            "≤ 30": number(f"{aged} <= interval '30 days'"),
            "31–90": number(f"{aged} > interval '30 days' and :now - {at} <= interval '90 days'"),
            "91–180": number(f"{aged} > interval '90 days' and :now - {at} <= interval '180 days'"),
            "> 180": number(f"{aged} > interval '180 days'"),
            "Unknown": number(f"{is_filled} and {at} is null"),
            "Missing": number(f"not ({is_filled})"),
        }
        fresh = f"{is_filled} and {at} > cast(:now as timestamptz) - cast(:days as interval)"
        assert slim == {
            "Field": FIELDS[field],
            "Fresh": number(f"{fresh} and not {outdated}"),
            "Stale": number(f"({fresh} and not {outdated}) is not true"),
            "of it missing": row["Missing"],
        }


def assert_not_asked(lab: Lab, page: Page) -> None:
    rows = lab.sql(
        "select reason, count(*) from analytics.fct_skips where partition_date = :d "
        "group by reason order by count(*) desc, reason",
        d=lab.today,
    )
    assert rows
    assert [row["Times"] for row in page.tables["skipped"]] == [f"{n}" for _, n in rows]
    for provider, number in lab.sql(
        "select provider, count(*) from analytics.fct_skips "
        "where partition_date = :d and reason = 'not_eligible' group by provider",
        d=lab.today,
    ):
        assert any(f"{provider} {number}" in row["Provider"] for row in page.tables["skipped"])


def assert_job_changes(lab: Lab, page: Page) -> None:
    rows = lab.sql(
        "select contact_id, old_company_name, company_name, segment from analytics.fct_job_changes"
    )
    shown = page.tables["job-changes"]
    assert len(shown) == min(len(rows), 20) > 0
    assert {(r["Contact"], r["Left"], r["Joined"], r["Segment"]) for r in shown} <= {
        (i, left, joined, segment or "") for i, left, joined, segment in rows
    }
    assert f"{len(shown)} of {len(rows)}" in page.text("job-changes")
