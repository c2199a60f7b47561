"""enrich webhooks: the receiver of webhook deliveries."""

import click

from enrich_pipeline.cli import session, terminal
from enrich_pipeline.webhooks import server


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), help="Default: ENRICH_WEBHOOK_PORT, 8787.")
def command(host: str, port: int | None) -> None:
    """Receive webhook deliveries until interrupted.

    Providers must reach it at ENRICH_WEBHOOK_PUBLIC_URL, by https: put a reverse proxy or tunnel
    in front. Deliveries are stored and answered; the runs read them.

    \b
    Examples:
      enrich webhooks
      enrich webhooks --host 0.0.0.0 --port 8787     inside a container
    """
    settings = session.load()
    with session.database(settings):
        pass
    listen_on = port or settings.webhook_port
    terminal.note(f"Receiving on http://{host}:{listen_on} (health: /health); Ctrl-C ends it")
    server.serve(settings.database_url, list(settings.providers), host, listen_on)
