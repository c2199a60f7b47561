"""Rules of alerts: which state of the database is a condition, and what its message says."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
import yaml
from sqlalchemy import Engine, text

from enrich_pipeline.domain.alert import Alert, Level
from enrich_pipeline.domain.policy import Policy
from enrich_pipeline.reports.alerts import conditions, due_night
from enrich_pipeline.settings import Settings, load
from enrich_pipeline.store import breakers, ledger

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
TODAY = NOW.date()
"""A day after the first night, at noon: the deadline of 06:00 is over."""


def settings(own: Mapping[str, Any], tmp_path: Any) -> Settings:
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(dict(own)))
    return load({"ENRICH_CONFIG": "own.yaml"}, tmp_path)


@pytest.fixture
def policy(tmp_path: Any) -> Policy:
    return settings({"providers": {"prospeo": {"low_credits": 500}}}, tmp_path).policy


def holding(engine: Engine, policy: Policy, now: datetime = NOW) -> dict[str, Alert]:
    with engine.connect() as conn:
        return {alert.key: alert for alert in conditions(conn, policy, now)}


def run(engine: Engine, statement: str, **parameters: Any) -> None:
    with engine.begin() as conn:
        conn.execute(text(statement), parameters)


def test_of_a_database_in_which_nothing_happened_there_is_nothing_to_say(
    engine: Engine, policy: Policy
) -> None:
    assert holding(engine, policy) == {}


# ---- the night ----------------------------------------------------------------------------------


def planned(engine: Engine, day: date, *, as_of: datetime, rows: Mapping[str, str | None]) -> None:
    """A night whose plan has one row per field: the state of its enrichment, None: none opened."""
    run(
        engine,
        """insert into enrichment.plan_nights (partition_date, as_of, contacts_cap, batches)
           values (:day, :as_of, 10, 1)""",
        day=day,
        as_of=as_of,
    )
    for field, state in rows.items():
        run(
            engine,
            """with person as (
                   insert into enrichment.persons default values returning person_id
               ), row as (
                   insert into enrichment.plan_rows
                       (partition_date, contact_id, person_id, field, reason, rank, batch)
                   select :day, 'c1', person_id, :field, 'missing', 1, 0 from person
               )
               insert into enrichment.enrichments (person_id, field, cycle, state, waterfall,
                   next_provider, wait_reason, partition_date, batch)
               select person_id, :field, 1, split_part(:state, ':', 1), '{}',
                   'prospeo', nullif(split_part(:state, ':', 2), ''), :day, 0
               from person where :state <> ''""",
            day=day,
            field=field,
            state=state or "",
        )


def test_a_night_that_nobody_planned_is_late_after_its_deadline_and_not_before(
    engine: Engine, policy: Policy
) -> None:
    planned(engine, TODAY - timedelta(days=1), as_of=NOW - timedelta(days=1), rows={})
    alert = holding(engine, policy)[f"night_late:{TODAY}"]
    assert "No run has planned the night of 2026-11-21" in alert.message
    assert f"enrich refresh --date {TODAY}" in alert.action
    early = NOW.replace(hour=5)
    assert holding(engine, policy, early) == {}


def test_open_fields_make_a_night_late_with_the_reasons_why(engine: Engine, policy: Policy) -> None:
    rows = {"work_email": None, "phone": "pending", "profile": "open:paused"}
    planned(engine, TODAY, as_of=NOW.replace(hour=2), rows=rows)
    (alert,) = holding(engine, policy).values()
    assert alert.key == f"night_late:{TODAY}"
    assert "3 of 3 planned" in alert.happened
    assert "1 that no run has taken up" in alert.happened
    assert "1 that a provider accepted" in alert.happened
    assert "1 held back by `enrich pause`" in alert.happened


@pytest.mark.parametrize("state", ["open:budget", "open:unavailable:no_credits", "in_doubt"])
def test_what_has_an_alert_of_its_own_does_not_make_a_night_late(
    engine: Engine, policy: Policy, state: str
) -> None:
    # A wait reason may itself hold a colon: put it in as it is.
    planned(engine, TODAY, as_of=NOW.replace(hour=2), rows={"phone": state.partition(":")[0]})
    reason = state.partition(":")[2] or None
    run(engine, "update enrichment.enrichments set wait_reason = :reason", reason=reason)
    assert f"night_late:{TODAY}" not in holding(engine, policy)


def test_a_night_that_was_planned_late_has_the_same_time_from_then_on(
    engine: Engine, policy: Policy
) -> None:
    planned(engine, TODAY, as_of=NOW - timedelta(hours=3), rows={"phone": "pending"})
    assert holding(engine, policy) == {}
    later = NOW + timedelta(hours=1, minutes=1)
    assert set(holding(engine, policy, later)) == {f"night_late:{TODAY}"}


@pytest.mark.parametrize(
    ("deadline", "now", "day"),
    [
        (time(6, 0), datetime(2026, 11, 21, 6, 0, tzinfo=UTC), date(2026, 11, 21)),
        (time(6, 0), datetime(2026, 11, 21, 5, 59, tzinfo=UTC), date(2026, 11, 20)),
        # Before the hour at which nights begin: the deadline is one of the next day.
        (time(1, 30), datetime(2026, 11, 21, 12, 0, tzinfo=UTC), date(2026, 11, 20)),
    ],
)
def test_the_deadline_is_that_of_the_night_that_began_before_it(
    policy: Policy, deadline: time, now: datetime, day: date
) -> None:
    alerts = policy.alerts.model_copy(update={"deadline": deadline})
    due = due_night(policy.model_copy(update={"alerts": alerts}), now)
    assert due is not None
    assert due[0] == day


def test_without_a_deadline_no_night_is_late(engine: Engine, tmp_path: Any) -> None:
    policy = settings({"alerts": {"deadline": None}}, tmp_path).policy
    planned(engine, TODAY - timedelta(days=1), as_of=NOW - timedelta(days=1), rows={})
    assert holding(engine, policy) == {}


# ---- money --------------------------------------------------------------------------------------


def budget(engine: Engine, spent: int, scope: str = "night", key: str = "all") -> None:
    run(
        engine,
        """insert into enrichment.budgets (scope, key, day, cap, held, spent)
           values (:scope, :key, :day, 1000, 100, :spent)""",
        scope=scope,
        key=key,
        day=TODAY,
        spent=spent,
    )


@pytest.mark.parametrize(
    ("spent", "level"), [(699, None), (700, Level.WARNING), (900, Level.CRITICAL)]
)
def test_a_budget_warns_at_eighty_percent_and_is_critical_when_used_up(
    engine: Engine, policy: Policy, spent: int, level: Level | None
) -> None:
    budget(engine, spent)
    alert = holding(engine, policy).get(f"budget:night:all:{TODAY}")
    assert (alert and alert.level) == level


def test_a_budget_whose_rest_is_too_small_for_what_waits_is_used_up(
    engine: Engine, policy: Policy
) -> None:
    budget(engine, 750, "provider", "prospeo")
    key = f"budget:provider:prospeo:{TODAY}"
    assert holding(engine, policy)[key].level is Level.WARNING
    planned(engine, TODAY, as_of=NOW, rows={"phone": "open:budget"})
    alert = holding(engine, policy)[key]
    assert alert.level is Level.CRITICAL
    assert "providers.prospeo.budget_credits" in alert.action


def reading(engine: Engine, hours_ago: float, balance: int, spent: int, in_flight: int = 0) -> None:
    run(
        engine,
        """insert into enrichment.balance_readings
               (provider, balance_micro, spent_micro, in_flight_micro, taken_at)
           values ('prospeo', :balance, :spent, :in_flight, :at)""",
        balance=balance * 1_000_000,
        spent=spent * 1_000_000,
        in_flight=in_flight * 1_000_000,
        at=NOW - timedelta(hours=hours_ago),
    )


def test_credits_below_the_threshold_are_told_with_both_figures(
    engine: Engine, policy: Policy
) -> None:
    reading(engine, 2, 500, 0)
    assert holding(engine, policy) == {}
    reading(engine, 1, 499, 1)
    alert = holding(engine, policy)["credits_low:prospeo"]
    assert "499 credits are left, below 500" in alert.happened
    assert "providers.prospeo.low_credits" in alert.message


@pytest.mark.parametrize(
    ("readings", "level"),
    [
        ([(5, 1000, 0), (1, 990, 10)], None),
        ([(5, 1000, 0), (1, 985, 10, 5)], None),  # five are on their way
        ([(5, 1000, 0), (1, 984, 10, 5)], Level.CRITICAL),
        ([(5, 1000, 0, 5), (1, 1000, 5)], None),  # charged before the first reading
        ([(5, 1000, 0), (1, 1000, 5)], Level.WARNING),
        ([(5, 1000, 0), (3, 9000, 10), (1, 8990, 20)], None),  # topped up
        ([(5, 1000, 0), (3, 9000, 10), (1, 8900, 20)], Level.CRITICAL),
        ([(40, 1000, 0), (30, 900, 0), (1, 890, 10)], None),  # over for more than a day
    ],
)
def test_balances_that_moved_otherwise_than_the_ledger_are_told(
    engine: Engine, policy: Policy, readings: list[tuple[Any, ...]], level: Level | None
) -> None:
    for each in readings:
        reading(engine, *each)
    alert = holding(engine, policy).get("reconciliation:prospeo")
    assert (alert and alert.level) == level


# ---- providers ----------------------------------------------------------------------------------


def test_an_open_breaker_is_told_with_its_reason_and_a_closed_one_is_not(
    engine: Engine, policy: Policy
) -> None:
    with engine.begin() as conn:
        breakers.trip(conn, "lance", ["phones"], "no_credits", 600)
        breakers.count_failure(conn, "apollo", "timeout", threshold=5, pause_seconds=60)
    (alert,) = holding(engine, policy).values()
    assert (alert.key, alert.level) == ("breaker:lance:phones", Level.WARNING)
    assert "Top up the account" in alert.action
    with engine.begin() as conn:
        breakers.succeeded(conn, "lance", [(["phones"], datetime.now(UTC) + timedelta(seconds=1))])
    assert holding(engine, policy) == {}


def test_a_refused_key_is_critical_and_names_the_variable(engine: Engine, policy: Policy) -> None:
    with engine.begin() as conn:
        breakers.trip(conn, "pronto", ["*"], "unauthorized", 600)
    (alert,) = holding(engine, policy).values()
    assert alert.level is Level.CRITICAL
    assert "ENRICH_PRONTO_API_KEY" in alert.action


def test_a_doubt_is_told_an_hour_after_its_horizon(engine: Engine, policy: Policy) -> None:
    with engine.begin() as conn:
        ledger.open_accounts(conn, "agntdata")
    run(
        engine,
        """insert into enrichment.calls (provider, call_group, state, partition_date, batch,
               spend_date, run_id, persons, hold_micro, prices, usd_micro_per_credit, lease_until,
               in_doubt_at, write_off_at)
           values ('agntdata', '', 'in_doubt', :day, 0, :day, 'run', 1, 0, '{}', 0, :now,
               cast(:now as timestamptz) - interval '25 hours',
               cast(:now as timestamptz) - interval '1 hour')""",
        day=TODAY,
        now=NOW,
    )
    assert holding(engine, policy) == {}
    (alert,) = holding(engine, policy, NOW + timedelta(seconds=1)).values()
    assert alert.key == "doubt_overdue:agntdata"
    assert "enrich in-doubt list" in alert.action


def nights(engine: Engine, rates: list[float], answered: int = 100) -> None:
    """Nights of prospeo's work_email up to today, the oldest first."""
    for ago, rate in enumerate(reversed(rates)):
        run(
            engine,
            """insert into analytics.mart_provider_daily (date, provider, field, attempts, found,
                   not_found, verified, reused, spend_micro_credits, spend_usd)
               values (:day, 'prospeo', 'work_email', :n, :found, :missed, 0, 0, 0, 0)""",
            day=TODAY - timedelta(days=ago),
            n=answered,
            found=round(answered * rate),
            missed=answered - round(answered * rate),
        )


@pytest.mark.parametrize(
    ("rates", "answered", "is_weak"),
    [
        ([0.6] * 10 + [0.3], 100, True),
        ([0.6] * 10 + [0.46], 100, False),  # within three deviations of a hundred draws
        ([0.6] * 10 + [0.46], 1000, True),
        ([0.6] * 10 + [0.53], 1000, False),  # a small drop
        ([0.6] * 6 + [0.3], 100, False),  # too few nights to know what is usual
        ([0.6] * 10 + [0.1], 40, False),  # too few answers
        ([0.3, 0.9] * 6 + [0.3], 1000, False),  # its nights always differ as much
        ([0.0, *[0.6] * 10, 0.3], 1000, True),  # one odd night changes nothing
    ],
)
def test_a_match_rate_is_weak_when_far_below_its_own_usual_nights(
    engine: Engine, policy: Policy, rates: list[float], answered: int, is_weak: bool
) -> None:
    nights(engine, rates, answered)
    assert ("match_rate:prospeo:work_email" in holding(engine, policy)) is is_weak


def test_a_provider_that_is_not_enabled_is_no_trouble(engine: Engine, tmp_path: Any) -> None:
    policy = settings({"providers": {"lance": {"enabled": False}}}, tmp_path).policy
    with engine.begin() as conn:
        breakers.trip(conn, "lance", ["*"], "unauthorized", 600)
    assert holding(engine, policy) == {}


def test_the_most_urgent_stands_first_and_every_message_says_what_to_do(
    engine: Engine, policy: Policy
) -> None:
    budget(engine, 750)
    reading(engine, 5, 1000, 0)
    reading(engine, 1, 100, 10)
    with engine.begin() as conn:
        breakers.trip(conn, "pronto", ["*"], "unauthorized", 600)
    nights(engine, [0.6] * 10 + [0.3])
    found = list(holding(engine, policy).values())
    levels = [alert.level for alert in found]
    assert levels == sorted(levels, key=lambda level: level is not Level.CRITICAL)
    assert len(found) == 5
    for alert in found:
        for part in ("What happened: ", "What it means: ", "What to do: "):
            assert part in alert.message
