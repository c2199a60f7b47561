"""Which conditions need a person now, in words: what happened, what it means, what to do.

Only what the database knows; failed runs are Dagster's to tell (`orchestration/alerts.py`).
"""

from datetime import UTC, date, datetime, timedelta

from sqlalchemy import Connection

from enrich_pipeline.domain.alert import Alert, Level
from enrich_pipeline.domain.policy import MICRO, Policy, micro
from enrich_pipeline.reports.status import usd
from enrich_pipeline.store import breakers, troubles

REFUSALS = ("unauthorized",)
"""Reasons of a breaker that no pause mends: the key is wrong, or the account is closed."""


def conditions(conn: Connection, policy: Policy, now: datetime) -> list[Alert]:
    """All that holds at `now`, the most urgent first. Reads; a condition that is over is absent."""
    enabled = [name for name, terms in policy.providers.items() if terms.enabled]
    found = [
        *_late_night(conn, policy, now),
        *_budgets(conn, now.astimezone(UTC).date()),
        *_breakers(conn, enabled),
        *_low_credits(conn, policy, enabled, now),
        *_doubts(conn, now),
        *_reconciliation(conn, enabled, now),
        *_match_rates(conn, enabled, now.astimezone(UTC).date()),
    ]
    return sorted(found, key=lambda alert: alert.level != Level.CRITICAL)


def due_night(policy: Policy, now: datetime) -> tuple[date, datetime, timedelta] | None:
    """The newest night whose deadline is over: its date, its deadline, the time it had."""
    clock, allowed = policy.alerts.deadline, policy.night_hours
    if clock is None or allowed is None:
        return None
    moment = now.astimezone(UTC)
    deadline = datetime.combine(moment.date(), clock, UTC)
    if deadline > moment:
        deadline -= timedelta(days=1)
    day = (deadline - allowed).date()
    return None if day < policy.refresh.start_date else (day, deadline, allowed)


def _late_night(conn: Connection, policy: Policy, now: datetime) -> list[Alert]:
    night = due_night(policy, now)
    if night is None:
        return []
    day, deadline, allowed = night
    late = troubles.lateness(conn, day, deadline, allowed, now)
    if late is None:
        return []
    if late.open_fields is None:
        happened = f"No run has planned the night of {day}, and {deadline:%H:%M} UTC is over."
        means = "Nothing was refreshed that night: the schedule is off, or nothing carries it out."
        action = (
            "See that nightly_refresh_schedule and the Dagster daemon run, then "
            f"`enrich refresh --date {day}`. Without nights by design: alerts.deadline: null."
        )
    else:
        why = ", ".join(
            f"{number:,} {what}"
            for number, what in (
                (late.never_asked, "that no run has taken up"),
                (late.pending, "that a provider accepted and has not answered"),
                (late.paused, "held back by `enrich pause`"),
            )
            if number
        )
        happened = (
            f"{late.open_fields:,} of {late.planned_fields:,} planned (contact, field) of the "
            f"night of {day} are still open after {deadline:%H:%M} UTC"
            + (f": {why}." if why else ".")
        )
        means = "The tables show what is known so far; the rest of the night is still missing."
        action = (
            "Look at the night's runs in Dagster; `enrich status` says whether sending is paused. "
            f"`enrich refresh --date {day}` continues it and buys nothing twice."
        )
    return [
        Alert(
            f"night_late:{day}",
            Level.WARNING,
            f"the night of {day} is not finished",
            happened,
            means,
            action,
        )
    ]


def _budgets(conn: Connection, today: date) -> list[Alert]:
    alerts = []
    for each in troubles.budgets(conn, today):
        is_night = each.scope == "night"
        whose = "the night's budget" if is_night else f"{each.key}'s budget"
        setting = "budget.night_usd" if is_night else f"providers.{each.key}.budget_credits"
        used = each.spent + each.reserved
        happened = (
            f"{_budget(is_night, used)} of {_budget(is_night, each.cap)} of {each.day} (UTC) are "
            f"used: {_budget(is_night, each.spent)} spent, {_budget(is_night, each.reserved)} held "
            "or in doubt."
        )
        if each.is_used_up:
            level, title = Level.CRITICAL, f"{whose} is used up"
            means = "What is left is too little for the next call; the rest waits for tomorrow."
            action = f"Nothing, or raise {setting} and run `enrich refresh` again."
        else:
            level, title = Level.WARNING, f"{whose} is used to {used * 100 // each.cap} percent"
            means = "Should it be used up, the rest of the night waits for tomorrow's budget."
            action = (
                f"Look at `enrich status` for who spends it; raise {setting} if that is right, or "
                "`enrich pause` if it is not."
            )
        key = f"budget:{each.scope}:{each.key}:{each.day}"
        alerts.append(Alert(key, level, title, happened, means, action))
    return alerts


def _budget(is_usd: bool, amount_micro: int) -> str:
    return f"${usd(amount_micro)}" if is_usd else f"{_credits(amount_micro)} credits"


def _credits(amount_micro: int) -> str:
    whole = f"{amount_micro / MICRO:,.2f}"
    return whole.removesuffix(".00")


def _breakers(conn: Connection, enabled: list[str]) -> list[Alert]:
    alerts = []
    for each in breakers.breaker_states(conn):
        if each.opened_at is None or each.provider not in enabled:
            continue
        name = each.provider
        what = name if each.product == breakers.ALL_PRODUCTS else f"{name} ({each.product})"
        since = f"since {each.opened_at:%Y-%m-%d %H:%M} UTC"
        key = f"breaker:{name}:{each.product}"
        if each.reason in REFUSALS:
            alerts.append(
                Alert(
                    key,
                    Level.CRITICAL,
                    f"{name} refuses the key",
                    f"{name} answers {since} that the key is not valid.",
                    "Nothing is bought there; persons whose next provider it is wait.",
                    f"Put a valid key into ENRICH_{name.upper()}_API_KEY and restart what reads "
                    "it; the next run tries again by itself.",
                )
            )
            continue
        if each.reason == "no_credits":
            cause, action = "has no credits left", f"Top up the account at {name}."
        elif each.reason == "cost_above_hold":
            cause = "charged more than was held for a call"
            action = (
                f"Compare providers.{name}.tariffs with your contract, then `enrich reconcile`."
            )
        else:
            cause = f"is left alone after {each.failures} failures ({each.reason})"
            action = f"Look at the status page of {name}; `enrich status` shows the breaker."
        alerts.append(
            Alert(
                key,
                Level.WARNING,
                f"{what} is not asked: it {cause}",
                f"{what} {cause}, {since}.",
                "Nothing is bought there until its pause is over and one call has gone through.",
                f"{action} The next run tries again by itself.",
            )
        )
    return alerts


def _low_credits(
    conn: Connection, policy: Policy, enabled: list[str], now: datetime
) -> list[Alert]:
    thresholds = {
        name: micro(below)
        for name in enabled
        if (below := policy.providers[name].low_credits) is not None
    }
    return [
        Alert(
            f"credits_low:{each.provider}",
            Level.WARNING,
            f"credits at {each.provider} run low",
            f"{each.provider} said at {each.taken_at:%Y-%m-%d %H:%M} UTC that "
            f"{_credits(each.balance_micro)} credits are left, below "
            f"{_credits(thresholds[each.provider])} (providers.{each.provider}.low_credits).",
            "Once they are used up, its part of the waterfall waits.",
            f"Top up the account at {each.provider}, or lower the setting.",
        )
        for each in troubles.low_balances(conn, thresholds, now)
    ]


def _doubts(conn: Connection, now: datetime) -> list[Alert]:
    return [
        Alert(
            f"doubt_overdue:{each.provider}",
            Level.WARNING,
            f"calls to {each.provider} are in doubt for too long",
            f"{each.calls:,} calls for {each.persons:,} persons, {_credits(each.amount_micro)} "
            f"credits, the oldest in doubt since {each.oldest:%Y-%m-%d %H:%M} UTC, are past the "
            f"time after which they are written off (providers.{each.provider}.in_doubt_hours).",
            "No run has swept since: their credits stay reserved and their persons wait.",
            "See that the Dagster daemon runs, or `enrich refresh`, which sweeps; with evidence "
            "from the provider settle them: `enrich in-doubt list`.",
        )
        for each in troubles.overdue_doubts(conn, now)
    ]


def _reconciliation(conn: Connection, enabled: list[str], now: datetime) -> list[Alert]:
    alerts = []
    for each in troubles.mismatches(conn, enabled, now):
        amount = _credits(abs(each.unexplained_micro))
        compared = (
            f"Since {each.since:%Y-%m-%d %H:%M} UTC the balance at {each.provider} fell by "
            f"{_credits(each.charged_micro)} credits, the ledger posted "
            f"{_credits(each.posted_micro)}; {amount} credits are explained by nothing."
        )
        if each.unexplained_micro > 0:
            means = "Somebody else spends on this account, or we were charged without a record."
            action = (
                "`enrich reconcile`, then the usage page of the provider. `enrich pause` stops "
                "all sending until it is understood."
            )
            level, title = Level.CRITICAL, f"{each.provider} charged more than the ledger knows"
        else:
            means = "A refund or a small top-up, or prices in the settings are too high."
            action = f"`enrich reconcile`, then compare providers.{each.provider}.tariffs."
            level, title = Level.WARNING, f"{each.provider} charged less than the ledger posted"
        alerts.append(
            Alert(f"reconciliation:{each.provider}", level, title, compared, means, action)
        )
    return alerts


def _match_rates(conn: Connection, enabled: list[str], today: date) -> list[Alert]:
    return [
        Alert(
            f"match_rate:{each.provider}:{each.field}",
            Level.WARNING,
            f"{each.provider} finds far less {each.field} than usual",
            f"In the night of {each.date} it found {each.found:,} of {each.answered:,} "
            f"({each.found / each.answered:.0%}); usual is {each.usual_rate:.0%}, the median of "
            f"{each.usual_nights} nights of the {troubles.USUAL_DAYS} days before.",
            "The provider has a problem, an input of ours lost quality, or it was asked for "
            "another kind of contacts.",
            "Compare segments in analytics.fct_enrichment_attempts; ask the provider; for the "
            f"time being take it out of fields.{each.field}.waterfall.",
        )
        for each in troubles.weak_matches(conn, enabled, today)
    ]
