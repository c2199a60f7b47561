"""enrich status: what is known, what it cost, what is still open."""

import json
from datetime import UTC, datetime
from typing import Any

import click

from enrich_pipeline.cli import session, terminal
from enrich_pipeline.reports import status

_FOR_PROGRAMS = ("as_of", "contacts", "persons", "coverage", "pending", "in_doubt", "spend")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def command(as_json: bool) -> None:
    """Coverage, freshness, spend, pending and in doubt, as of now.

    \b
    Examples:
      enrich status
      enrich status --json | jq .coverage.work_email
    """
    settings = session.load()
    with session.database(settings) as engine, engine.connect() as connection:
        found = status.status(connection, settings.policy, datetime.now(UTC))
    if as_json:
        # Programs rely on just these keys; what an operator acts on is for the eye.
        click.echo(json.dumps({name: found[name] for name in _FOR_PROGRAMS}))
        return
    _show(found)


def _show(found: dict[str, Any]) -> None:
    out = terminal.out()
    total = found["contacts"]
    out.print(
        f"{total:,} contacts of {found['persons']:,} persons; "
        f"{found['pending']:,} pending, {found['in_doubt']:,} in doubt (person, field)"
    )
    if found["paused"]:
        why = f": {found['paused']['reason']}" if found["paused"]["reason"] else ""
        terminal.warn(f"nothing is sent: paused since {found['paused']['since']}{why}")
    out.print(
        terminal.table(
            "Coverage (contacts)",
            ("field", "filled", "share", "verified", "stale"),
            [
                (
                    field,
                    f"{row['filled']:,}",
                    f"{row['filled'] / total:.1%}" if total else "",
                    f"{row['verified']:,}",
                    f"{row['stale']:,}",
                )
                for field, row in found["coverage"].items()
            ],
        )
    )
    out.print(
        terminal.table(
            "Spend since the beginning (credits of the provider)",
            ("provider", "posted", "held", "in doubt", "posted USD"),
            [
                (
                    provider,
                    terminal.credits_of(row["posted_micro_credits"]),
                    terminal.credits_of(row["held_micro_credits"]),
                    terminal.credits_of(row["in_doubt_micro_credits"]),
                    row["posted_usd"],
                )
                for provider, row in found["spend"].items()
            ],
        )
    )
    if found["breakers"]:
        out.print(
            terminal.table(
                "Circuit breakers (product *: the whole provider)",
                ("provider", "product", "state", "failures", "why", "asked again"),
                [
                    (
                        *(each["provider"], each["product"], each["state"], each["failures"]),
                        *(each["reason"], each["retry_at"] and each["retry_at"][:19]),
                    )
                    for each in found["breakers"]
                ],
            )
        )
