"""enrich dev: database, receiver, Dagster and, if wanted, the simulated providers, together."""

import os
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import click
from dotenv import dotenv_values

from enrich_pipeline.cli import processes, session, terminal
from enrich_pipeline.domain.errors import ConfigurationError, EnrichError
from enrich_pipeline.orchestration import dagster_home
from enrich_pipeline.providers.http import is_loopback
from enrich_pipeline.settings import Settings

_SANDBOX_PORT = 8799


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of Dagster's UI.")
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--sandbox", is_flag=True, help="Ask simulated providers instead of the real ones.")
def command(host: str, port: int, sandbox: bool) -> None:
    """Run everything together, with Dagster's UI, until interrupted.

    Dagster has no login: whoever reaches the UI can spend. Keep it on this machine, or behind a
    proxy that asks who is there.

    \b
    Examples:
      enrich dev
      enrich dev --sandbox --port 3001
    """
    settings = session.load()
    session.start_embedded(settings)
    from enrich_pipeline.orchestration import instance, liveness

    folder = dagster_home.prepare(settings)
    with session.database(settings) as engine, instance.open_instance(folder) as opened:
        for run_id in liveness.close_dead_runs(opened, engine):
            terminal.warn(f"run {run_id} had died; what it left open is continued by the next run")
    environ = dict(os.environ)
    if (Path.cwd() / "dagster.yaml").resolve() != (folder / "dagster.yaml").resolve():
        environ["DAGSTER_HOME"] = str(folder.resolve())
    sandbox_port = _sandbox_port(settings, Path.cwd()) if sandbox else 0
    environ |= _of_sandbox(settings, sandbox_port) if sandbox else {}
    # Dagster's own notices of superseded commands are for its developers.
    environ.setdefault("PYTHONWARNINGS", "ignore")
    with processes.children() as children:
        if sandbox:
            children.start("sandbox", processes.enrich("sandbox", "--port", str(sandbox_port)))
            processes.wait_for_port(sandbox_port, "the sandbox")
        children.start("webhooks", processes.enrich("webhooks"), environ=environ)
        children.start(
            "dagster",
            [
                *(sys.executable, "-m", "dagster", "dev"),
                *("--module-name", "enrich_pipeline.definitions"),
                *("--host", host, "--port", str(port)),
            ],
            environ=environ,
        )
        terminal.note(f"Dagster's UI: http://{host}:{port}   Ctrl-C stops everything")
        _watch(children)


def _sandbox_port(settings: Settings, folder: Path) -> int:
    """Where the sandbox must listen: Dagster puts `.env` above the environment that we give it.

    Raises ConfigurationError where `.env` names a real provider: it would be asked, and paid.
    """
    written = dotenv_values(folder / ".env")
    ports: set[int] = set()
    for name in (f"ENRICH_{provider.upper()}_BASE_URL" for provider in settings.enabled):
        address = urlsplit(written.get(name) or "")
        if address.hostname and not is_loopback(address.hostname):
            raise ConfigurationError(
                f"--sandbox: .env sets {name} to a real address, which Dagster would use; "
                "take it out, or run this in another directory"
            )
        if address.port is not None:
            ports.add(address.port)
    if len(ports) > 1:
        raise ConfigurationError("--sandbox: the base URLs in .env name more than one port")
    return ports.pop() if ports else processes.free_port(_SANDBOX_PORT)


def _of_sandbox(settings: Settings, port: int) -> dict[str, str]:
    environ = {
        name: value
        for provider in settings.enabled
        for name, value in (
            (f"ENRICH_{provider.upper()}_BASE_URL", f"http://127.0.0.1:{port}/{provider}"),
            (f"ENRICH_{provider.upper()}_API_KEY", "sandbox"),
        )
    }
    return environ | {"ENRICH_WEBHOOK_PUBLIC_URL": f"http://127.0.0.1:{settings.webhook_port}"}


def _watch(children: processes.Children) -> None:
    """Until interrupted, or until one of them ends: then none is of use any more."""
    try:
        while (ended := children.first_ended()) is None:
            time.sleep(0.5)
    except KeyboardInterrupt:
        terminal.note("Stopping")
        return
    name, code = ended
    raise EnrichError(f"{name} ended with exit code {code}; everything is stopped")
