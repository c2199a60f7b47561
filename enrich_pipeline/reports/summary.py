"""A night in figures, as `enrich refresh` and `enrich demo` print it when it is over."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import Connection

from enrich_pipeline.domain.policy import Policy
from enrich_pipeline.store import nights, plan, requests, selection

_FIGURES: Final[Mapping[str, Any]] = {
    "attempts": 0,
    "found": 0,
    "not_found": 0,
    "verified": 0,
    "reused": 0,
    "spend_micro_credits": 0,
    "spend_usd": Decimal(0),
}
"""Columns of the provider mart that are summed over fields, and what they are without rows."""


def night_summary(
    conn: Connection, policy: Policy, day: date, maxima: Mapping[str, int]
) -> dict[str, Any]:
    """Return what the night of `day` planned, asked, found and spent.

    `providers` holds every enabled provider: counts of (person, field), `skipped` by reason,
    `spend_micro_credits` of its own unit, `spend_usd`, and `requests` sent beside the `fewest`
    possible with `maxima` persons per call. `coverage` are shares of all contacts, None while not
    known. `blocked` counts (person, field) that no provider may be asked for, by reason. `pending`,
    `in_doubt` and `waiting` are what a later run will continue.
    """
    mart = nights.refresh_day(conn, day) or {}
    skipped = nights.skips(conn, day)
    sent = requests.requests(conn, day, maxima)
    batches = range(policy.refresh.batches)
    left = nights.progress(conn, day, batches)
    asked = nights.provider_day(conn, day)
    enabled = [name for name, terms in policy.providers.items() if terms.enabled]
    providers: dict[str, dict[str, Any]] = {
        name: {
            figure: sum((row[figure] for row in asked if row["provider"] == name), zero)
            for figure, zero in _FIGURES.items()
        }
        for name in dict.fromkeys([*enabled, *(row["provider"] for row in asked)])
    }
    for name, figures in providers.items():
        counted = sent.get(name, requests.Requests(0, 0))
        figures |= {
            "skipped": skipped.get(name, {}),
            "requests": counted.sent,
            "fewest_requests": counted.fewest,
        }
    return {
        "date": day.isoformat(),
        "contacts_stale": mart.get("contacts_stale", 0),
        "contacts_selected": plan.planned(conn, day)["contacts"],
        "contacts_refreshed": mart.get("contacts_refreshed", 0),
        "fields_filled": mart.get("fields_filled", 0),
        "coverage": {
            field.value: {
                when: mart.get(f"{field}_coverage_{when}") for when in ("before", "after")
            }
            for field in policy.fields
        },
        "providers": providers,
        "blocked": skipped.get(selection.ANY_PROVIDER, {}),
        "pending": left.pending,
        "in_doubt": left.in_doubt,
        "waiting": left.waiting,
    }
