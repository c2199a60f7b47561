"""enrich dev: database, receiver, Dagster and, if wanted, the simulated providers, together."""

import os
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import click
from dotenv import dotenv_values

from enrich_pipeline.cli import processes, sandboxed, session, terminal
from enrich_pipeline.domain.errors import ConfigurationError, EnrichError
from enrich_pipeline.orchestration import dagster_home
from enrich_pipeline.providers.http import is_loopback
from enrich_pipeline.settings import DAGSTER_DATABASE_VARIABLE, Settings

_SANDBOX_PORT = 8799
_PUBLIC_URL = "ENRICH_WEBHOOK_PUBLIC_URL"
_WORKSPACE = """\
# Written by `enrich dev`.
load_from:
  - python_module:
      module_name: enrich_pipeline.definitions
      location_name: enrich_pipeline
"""


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of Dagster's UI.")
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--sandbox",
    is_flag=True,
    help="Ask simulated providers instead of the real ones, and make the database theirs: one "
    "that holds other calls is refused.",
)
def command(host: str, port: int, sandbox: bool) -> None:
    """Run everything together, with Dagster's UI, until interrupted.

    Dagster has no login: whoever reaches the UI can spend. Keep it on this machine, or behind a
    proxy that asks who is there.

    What --sandbox finds is invented and stays in the database: give it one of its own, by
    `enrich init` in another directory.

    \b
    Examples:
      enrich dev
      enrich dev --sandbox --port 3001
    """
    given = frozenset(os.environ)
    settings = session.load()
    session.start_embedded(settings)
    from enrich_pipeline.orchestration import instance, liveness

    folder = dagster_home.prepare(settings)
    environ = dict(os.environ)
    here = Path.cwd()
    if (here / "dagster.yaml").resolve() != (folder / "dagster.yaml").resolve():
        environ["DAGSTER_HOME"] = str(folder.resolve())
    sandbox_port = _sandbox_port(settings, here) if sandbox else 0
    environ |= _of_sandbox(settings, sandbox_port, here) if sandbox else {}
    _refuse_two_values(environ, given, here)
    # Dagster's own notices of superseded commands are for its developers.
    environ.setdefault("PYTHONWARNINGS", "ignore")
    with session.database(settings) as engine, instance.open_instance(folder) as opened:
        if sandbox:
            sandboxed.mark(engine)
        else:
            sandboxed.refuse_real_providers(engine, settings)
        for run_id in liveness.close_dead_runs(opened, engine):
            terminal.warn(f"run {run_id} had died; what it left open is continued by the next run")
    with processes.children() as children:
        if sandbox:
            children.start("sandbox", processes.enrich("sandbox", "--port", str(sandbox_port)))
            processes.wait_for_port(sandbox_port, "the sandbox")
        children.start("webhooks", processes.enrich("webhooks"), environ=environ)
        children.start(
            "dagster",
            [
                *(sys.executable, "-m", "dagster", "dev"),
                *("--workspace", str(_write_workspace(settings))),
                *("--host", host, "--port", str(port)),
            ],
            environ=environ,
        )
        terminal.note(f"Dagster's UI: http://{host}:{port}   Ctrl-C stops everything")
        _watch(children)


def _write_workspace(settings: Settings) -> Path:
    """By the location's name Dagster remembers whether a schedule is on; the repository, whose
    workspace.yaml says the same, need not be here."""
    path = settings.home.resolve() / "dagster" / "workspace.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    # Another `enrich dev` may be reading it.
    if not path.is_file() or path.read_text(encoding="utf-8") != _WORKSPACE:
        path.write_text(_WORKSPACE, encoding="utf-8")
    return path


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


def _of_sandbox(settings: Settings, port: int, folder: Path) -> dict[str, str]:
    """What points runs at the sandbox; it takes any key and listens where `.env` says."""
    written = dotenv_values(folder / ".env")
    environ = {
        name: written.get(name) or value
        for provider in settings.enabled
        for name, value in (
            (f"ENRICH_{provider.upper()}_BASE_URL", f"http://127.0.0.1:{port}/{provider}"),
            (f"ENRICH_{provider.upper()}_API_KEY", "sandbox"),
        )
    }
    return environ | {_PUBLIC_URL: f"http://127.0.0.1:{settings.webhook_port}"}


def _refuse_two_values(environ: Mapping[str, str], given: Collection[str], folder: Path) -> None:
    """Dagster puts `.env` above the environment, our commands below it.

    With two values for one variable, this command would check one configuration or database and
    the runs spend under another. `given` are the variables that the user set. Raises
    ConfigurationError, without the values: they may be keys and passwords.
    """
    problems = []
    for name, value in dotenv_values(folder / ".env").items():
        if not name.startswith("ENRICH_") or value is None:
            continue
        if value.strip() == environ.get(name, value).strip():
            continue
        if name == DAGSTER_DATABASE_VARIABLE and name not in given:
            other, remedy = "the database in use", "run `enrich init`, which writes it anew"
        elif name == _PUBLIC_URL and environ[name] != os.environ.get(name):
            other, remedy = "the sandbox needs", "run --sandbox in another directory"
        else:
            other, remedy = "the environment", "take it out of one of them"
        problems.append(
            f"{name}: {folder / '.env'}, which Dagster follows, says something else than {other}; "
            f"{remedy}"
        )
    if problems:
        raise ConfigurationError("\n".join(problems))


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
