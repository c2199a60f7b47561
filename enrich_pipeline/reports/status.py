"""`enrich status --json`: where everything stands now, in the shape that programs rely on."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection

from enrich_pipeline.domain.policy import MICRO, Policy
from enrich_pipeline.store import breakers, coverage, switch, totals


def status(conn: Connection, policy: Policy, now: datetime) -> dict[str, Any]:
    """Return coverage, freshness, open work and spend as plain JSON values.

    `coverage` counts contacts per field: `filled`, of these `verified`, and `stale` as of `now`,
    where missing is stale too; a profile is filled when job title and company are. `pending` and
    `in_doubt` count (person, field). `spend` is since the beginning, for every configured provider;
    `posted_usd` is a decimal string. `paused` is null while calls may be sent. `breakers` are those
    that ever counted a failure, in order; closed ones too.
    """
    ages = {field.value: bought.stale_after_days for field, bought in policy.fields.items()}
    counted = totals.totals(conn)
    spend = totals.spend(conn)
    covered = coverage.coverage(conn, ages, now)
    pause = switch.paused(conn)
    return {
        "as_of": now.isoformat(),
        "contacts": counted.contacts,
        "persons": counted.persons,
        "coverage": {
            field: {name: row[name] for name in ("filled", "verified", "stale")}
            for field, row in covered.items()
        },
        "pending": counted.pending,
        "in_doubt": counted.in_doubt,
        "spend": {
            provider: _spend(spend.get(provider, totals.Spend()))
            for provider in dict.fromkeys([*policy.providers, *sorted(spend)])
        },
        "paused": pause and {"since": pause.since.isoformat(), "reason": pause.reason},
        "breakers": [_breaker(each) for each in breakers.breaker_states(conn)],
    }


def _spend(spend: totals.Spend) -> dict[str, int | str]:
    return {
        "posted_micro_credits": spend.posted_micro,
        "held_micro_credits": spend.held_micro,
        "in_doubt_micro_credits": spend.in_doubt_micro,
        "posted_usd": usd(spend.posted_usd_micro),
    }


def _breaker(state: breakers.BreakerState) -> dict[str, Any]:
    return {
        "provider": state.provider,
        "product": state.product,
        "state": state.state,
        "failures": state.failures,
        "reason": state.reason,
        "opened_at": state.opened_at and state.opened_at.isoformat(),
        "retry_at": state.retry_at and state.retry_at.isoformat(),
    }


def usd(micro: int) -> str:
    """Return micro-USD as exact dollars: cents always, further decimals where they are not 0."""
    whole, _, decimals = f"{Decimal(micro) / MICRO:.6f}".partition(".")
    return f"{whole}.{decimals[:2]}{decimals[2:].rstrip('0')}"
