"""enrich reconcile: the ledger against what the providers say."""

import json
from dataclasses import asdict

import click

from enrich_pipeline.cli import session, terminal
from enrich_pipeline.waterfall.reconcile import Reconciliation, reconcile

DONE, FAILED = 0, 1


@click.command()
@click.option("--json", "as_json", is_flag=True, help="A JSON list on stdout, one object each.")
def command(as_json: bool) -> int:
    """Compare the ledger with the balances that the providers report; free of charge.

    Every difference is explained by what is held, in doubt or written off, or it is listed and the
    exit code is 1. Credits that others use from the same account show as unexplained, and so does a
    provider without a key of whom something was bought.

    \b
    Examples:
      enrich reconcile
      enrich reconcile --json | jq '.[] | select(.is_explained | not)'
    """
    settings = session.load()
    providers = {name: settings.providers[name] for name in settings.enabled}
    with session.database(settings) as engine, terminal.working("Asking for balances"):
        rows = reconcile(engine, settings.policy, providers, settings.access)
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows]))
    else:
        _show(rows)
    return DONE if all(row.is_explained for row in rows) else FAILED


def _show(rows: list[Reconciliation]) -> None:
    def amount(micro: int | None) -> str:
        return "?" if micro is None else terminal.credits_of(micro)

    terminal.out().print(
        terminal.table(
            "Ledger against providers, since the first reading (credits of the provider)",
            (
                *("provider", "charged", "posted", "held", "in doubt", "written off"),
                *("difference", "explanation"),
            ),
            [
                (
                    row.provider,
                    amount(row.charged_micro),
                    amount(row.posted_micro),
                    amount(row.held_micro),
                    amount(row.in_doubt_micro),
                    amount(row.written_off_micro),
                    amount(row.difference_micro),
                    row.explanation if row.is_explained else f"UNEXPLAINED: {row.explanation}",
                )
                for row in rows
            ],
        )
    )
    total = sum(abs(row.difference_micro) for row in rows if row.difference_micro is not None)
    terminal.out().print(f"{total:,} micro-credits of difference over {len(rows)} providers")
