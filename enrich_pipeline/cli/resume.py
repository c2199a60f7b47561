"""enrich resume: ends `enrich pause`."""

import click

from enrich_pipeline.cli import session, terminal
from enrich_pipeline.store import switch


@click.command()
def command() -> None:
    """End a pause. What waited is continued by the next run of its night.

    \b
    Examples:
      enrich resume && enrich refresh
    """
    settings = session.load()
    with session.database(settings) as engine, engine.begin() as connection:
        ended = switch.resume(connection)
    if ended is None:
        terminal.out().print("Sending was not paused.")
    else:
        terminal.out().print(
            f"Sending goes on; it was paused since {ended.since:%Y-%m-%d %H:%M:%S} UTC."
        )
