"""enrich prune: what was kept long enough."""

from datetime import UTC, datetime

import click

from enrich_pipeline.cli import session, terminal
from enrich_pipeline.store import retention


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say how much would go.")
def command(dry_run: bool) -> None:
    """Remove raw replies, requests, deliveries, skips and files older than `retention` says.

    The daily job `retention` does the same; the settings are retention.raw_replies_days and others.
    Never removed: the ledger, observations, and what a call needs that is open or in doubt.

    \b
    Examples:
      enrich prune --dry-run
      enrich prune
    """
    settings = session.load()
    now = datetime.now(UTC)
    policy = settings.policy.retention
    with session.database(settings) as engine:
        if dry_run:
            counts = retention.due(engine, settings.home, policy, now)
        else:
            with terminal.working("Removing") as show:
                counts = retention.prune(
                    engine,
                    settings.home,
                    policy,
                    now,
                    lambda kind, removed: show(f"Removing {kind}", removed, None),
                )
    out = terminal.out()
    for kind in retention.KINDS:
        out.print(f"{kind} {counts[kind]:,}")
    out.print("Nothing was removed: this was a dry run." if dry_run else "Removed.")
