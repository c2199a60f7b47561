"""enrich invariants: does the ledger add up, was nothing paid twice, did the budgets hold?"""

import json

import click

from enrich_pipeline.cli import session, terminal
from enrich_pipeline.store import invariants

DONE, FAILED = 0, 1
PAID_TWICE = "nothing is paid twice inside its reuse window"
BUDGETS = "no budget is exceeded"
_SHOWN = 20


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout: rule -> details.")
def command(as_json: bool) -> int:
    """Check the books against themselves; ids and amounts only. Exit code 1 if something is wrong.

    All of the books, which takes longer every month; what moved in the last two days is checked
    the same way at the end of every run in Dagster. Whether the books agree with the providers is
    `enrich reconcile`.

    \b
    Examples:
      enrich invariants
      enrich invariants --json | jq 'to_entries[] | select(.value != [])'
    """
    settings = session.load()
    found: dict[str, list[str]] = {rule: [] for rule in invariants.INVARIANTS}
    with session.database(settings) as engine, engine.connect() as connection:
        for rule, detail in invariants.violations(connection):
            found[rule].append(detail)
        found[PAID_TWICE] = invariants.paid_twice(connection, settings.policy.reuse.found_days)
        found[BUDGETS] = invariants.budgets_exceeded(connection)
    if as_json:
        click.echo(json.dumps(found))
    else:
        _show(found)
    return FAILED if any(found.values()) else DONE


def _show(found: dict[str, list[str]]) -> None:
    out = terminal.out()
    for rule, details in found.items():
        if not details:
            continue
        out.print(f"Broken: {rule} ({len(details):,})", style="bold red", soft_wrap=True)
        for detail in details[:_SHOWN]:
            out.print(f"  {detail}", soft_wrap=True)
        if len(details) > _SHOWN:
            out.print(f"  and {len(details) - _SHOWN:,} more; all of them with --json")
    holding = sum(not details for details in found.values())
    out.print(f"{holding} of {len(found)} rules hold.")
