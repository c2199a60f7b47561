"""What is shown of a night: its price beforehand, its summary afterwards."""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from rich.table import Table
from sqlalchemy import Connection, Engine

from enrich_pipeline.cli import terminal
from enrich_pipeline.domain.policy import MICRO
from enrich_pipeline.reports.summary import night_summary
from enrich_pipeline.settings import Settings
from enrich_pipeline.store import nights
from enrich_pipeline.waterfall import planning
from enrich_pipeline.waterfall.pricing import Range


def show_price(
    engine: Engine, settings: Settings, day: date, limit: int | None, batches: list[int]
) -> None:
    """The plan that the night would have, and what it would cost; nothing is kept or sent."""
    with terminal.working("Pricing the night"):
        price = planning.price_night(
            engine, settings.policy, settings.providers, day, limit, datetime.now(UTC), batches
        )
    out = terminal.out()
    planned = price.night
    out.print(
        f"{day}: {planned.contacts_stale:,} contacts stale (at most {planned.contacts_cap:,} a "
        f"night), {price.contacts:,} to refresh, {price.persons:,} persons"
    )
    for title, counts in (("planned", planned.fields), ("cannot be bought", planned.blocked)):
        if counts:
            told = ", ".join(f"{name} {number:,}" for name, number in counts.items())
            out.print(f"  {title}: {told}", soft_wrap=True)
    if price.providers:
        out.print(
            terminal.table(
                "At least / expected / at most",
                ("provider", "persons", "calls", "credits", "USD"),
                [
                    (
                        each.provider,
                        _range(each.persons, lambda n: f"{n:,}"),
                        _range(each.calls, lambda n: f"{n:,}"),
                        _range(each.credits_micro, lambda n: f"{n / MICRO:,.0f}"),
                        _range(each.usd_micro, _usd),
                    )
                    for each in price.providers
                ],
            )
        )
    out.print(
        f"In all ${_range(price.usd_micro, _usd)}; "
        f"the budget of a night is ${_usd(price.night_budget_usd_micro)}"
    )


def _range(figures: Range, shown: Callable[[int], str]) -> str:
    return " / ".join(shown(n) for n in (figures.least, figures.expected, figures.most))


def _usd(micro: int) -> str:
    return f"{nights.usd(micro):,.2f}"


def show_summary(
    connection: Connection, settings: Settings, day: date, left: nights.Progress
) -> None:
    """Providers, coverage before and after, and what is left open."""
    out = terminal.out()
    maxima = {
        name: min(settings.policy.providers[name].batch_size or most, most)
        for name, provider in settings.providers.items()
        for most in (provider.limits.maximum,)
    }
    found = night_summary(connection, settings.policy, day, maxima)
    asked = {name: p for name, p in found["providers"].items() if p["attempts"] or p["skipped"]}
    if asked:
        out.print(_providers(day, asked))
    out.print(_coverage(day, found["coverage"]))
    spent = sum((p["spend_usd"] for p in asked.values()), Decimal(0))
    reused = sum(p["reused"] for p in asked.values())
    out.print(
        f"{day}: {found['contacts_stale']:,} contacts stale, "
        f"{found['contacts_refreshed']:,} refreshed, {found['fields_filled']:,} fields filled, "
        f"{reused:,} reused, ${spent:,.2f} spent"
    )
    if left.planned == 0:
        out.print(f"{day}: nothing is stale, nothing was asked")
    out.print(f"pending {left.pending:,}, in doubt {left.in_doubt:,}")
    if left.waiting:
        waits = ", ".join(f"{reason} {number:,}" for reason, number in left.waiting_for.items())
        out.print(
            f"{left.waiting:,} planned fields are still open"
            + (f" (waiting: {waits})" if waits else "")
            + "; a later run continues them"
        )


def _providers(day: date, asked: Mapping[str, Mapping[str, Any]]) -> Table:
    columns = ("asked", "found", "not found", "skipped", "reused", "calls", "fewest")
    return terminal.table(
        f"Providers, {day} as a whole (person, field)",
        ("provider", *columns, "credits", "USD"),
        [
            (
                name,
                *(f"{figures[each]:,}" for each in ("attempts", "found", "not_found")),
                f"{sum(figures['skipped'].values()):,}",
                *(f"{figures[each]:,}" for each in ("reused", "requests", "fewest_requests")),
                terminal.credits_of(figures["spend_micro_credits"]),
                f"{figures['spend_usd']:,.2f}",
            )
            for name, figures in asked.items()
        ],
    )


def _coverage(day: date, coverage: Mapping[str, Mapping[str, Decimal | None]]) -> Table:
    def share(value: Decimal | None, unknown: str) -> str:
        return unknown if value is None else f"{value:.1%}"

    return terminal.table(
        f"Coverage, {day} (contacts)",
        ("field", "before", "after"),
        [
            (
                field,
                share(each["before"], "no contacts"),
                share(each["after"], "-" if each["before"] is None else "still open"),
            )
            for field, each in coverage.items()
        ],
    )
