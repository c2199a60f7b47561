"""enrich pause: nothing new is sent, whatever runs or is started, until `enrich resume`."""

import click

from enrich_pipeline.cli import session, terminal
from enrich_pipeline.store import switch

DONE, FAILED = 0, 1
_WAIT_SECONDS = 15.0


@click.command()
@click.option("--reason", default="", help="Shown by `enrich status` while it lasts. No names.")
def command(reason: str) -> int:
    """Stop all sending: every process, every run, those that start later too.

    What was sent settles: replies, polls and webhooks go on. Fields that would be bought wait, with
    the reason "paused", and are continued by the first run after `enrich resume`. When the command
    returns, no call is sent any more that was not on its way.

    \b
    Examples:
      enrich pause
      enrich pause --reason "usage page of a provider looks wrong"
    """
    settings = session.load()
    with session.database(settings) as engine:
        with engine.begin() as connection:
            now = switch.pause(connection, reason.strip())
        with engine.begin() as connection:
            is_still = switch.outlast_senders(connection, _WAIT_SECONDS)
    terminal.out().print(f"Paused since {now.since:%Y-%m-%d %H:%M:%S} UTC: nothing new is sent.")
    if not is_still:
        terminal.error(
            "a process that does not answer is about to send one call per thread; end it"
        )
        return FAILED
    return DONE
