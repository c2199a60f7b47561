"""enrich demo: a whole night on simulated providers, with the commands that a user would type."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from enrich_pipeline.cli import processes, sandboxed, terminal
from enrich_pipeline.domain.errors import EnrichError
from enrich_pipeline.providers import registry
from enrich_pipeline.sandbox import samples
from enrich_pipeline.store import connection, embedded

_MARK = "demo.yaml"
_CONFIGURATION = """\
# The configuration of the demo, laid over the defaults: only what differs.
refresh:
  batches: 4
budget:
  night_usd: 5000
providers:
  pronto:
    await_seconds: 15
    poll_seconds: 1
    options: {account_consents_to_personal_email: true}
  lance:
    await_seconds: 15
    poll_seconds: 1
  apollo:
    await_seconds: 15
    poll_seconds: 2
"""
_USERS = ("ENRICH_", "DAGSTER_")
"""How variables begin that hold the user's own settings."""
_NIGHTS = 10
"""Runs after which results that are still out are reported rather than waited for."""


@click.command()
@click.option("--contacts", default=400, show_default=True, type=click.IntRange(1, 100_000))
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".enrich/demo"),
    show_default=True,
    help="Where the demo lives; what an earlier demo left there is removed.",
)
def command(contacts: int, directory: Path) -> None:
    """Play a whole night on simulated providers: nothing it charges is real.

    Sample contacts as messy as a CRM export are loaded and refreshed until no result is pending;
    then the same night once more, which asks nothing; then the books are compared with the
    providers' own.

    \b
    Examples:
      enrich demo
      enrich demo --contacts 2000
    """
    folder = directory.resolve()
    _make_room(folder)
    started = time.monotonic()
    sandbox_port, webhook_port = processes.free_port(), processes.free_port()
    environ = _environment(sandbox_port, webhook_port)
    (folder / _MARK).write_text(_CONFIGURATION)
    _write_environment(folder, environ)
    samples.write_sample(
        folder / "contacts.csv", folder / "persons.csv", contacts, as_of=datetime.now(UTC)
    )
    with processes.children() as children:
        children.start(
            "sandbox",
            processes.enrich("sandbox", "--port", str(sandbox_port)),
            cwd=folder,
            environ=_clean_environment(),
            log=folder / "sandbox.log",
        )
        processes.wait_for_port(sandbox_port, "the sandbox")
        demo = _Demo(folder)
        demo.play("A database of its own", "init")
        _mark(folder)
        demo.play(f"{contacts:,} messy contacts in", "load-contacts", "contacts.csv")
        demo.play("What the night would cost", "refresh", "--dry-run")
        demo.play_until_nothing_is_pending("The night")
        demo.play("The same night again: nothing is bought twice", "refresh")
        demo.play("What is known now, and what it cost", "status")
        demo.play("The night as a page", "report")
        demo.play("Our books against the providers' own", "reconcile")
    _say_what_to_look_at(folder, sandbox_port, time.monotonic() - started)


class _Demo:
    """Types commands in the demo's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._out = terminal.out()

    def play(self, title: str, *arguments: str) -> int:
        """Run one command and show it. Raises EnrichError when it fails."""
        self._out.rule(title, align="left")
        self._out.print(f"$ enrich {' '.join(arguments)}", style="bold")
        return self._run(*arguments)

    def play_until_nothing_is_pending(self, title: str) -> None:
        """Refresh until the exit code says that nothing is open."""
        code = self.play(title, "refresh")
        for _ in range(_NIGHTS):
            if code == 0:
                return
            code = self.play("Results were still on their way: continued", "refresh")
        raise EnrichError(f"results are still pending after {_NIGHTS} runs")

    def _run(self, *arguments: str) -> int:
        done = subprocess.run(  # noqa: S603
            processes.enrich(*arguments),
            cwd=self._folder,
            env=_clean_environment(),
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode not in (0, 3):
            raise EnrichError(
                f"`enrich {' '.join(arguments)}` ended with exit code {done.returncode}; "
                f"everything it left is in {self._folder}"
            )
        return done.returncode


def _mark(folder: Path) -> None:
    """As `enrich dev --sandbox` would: it is what shows the runs afterwards."""
    engine = connection.create_engine(embedded.url(folder / ".enrich"))
    try:
        sandboxed.mark(engine)
    finally:
        engine.dispose()


def _make_room(folder: Path) -> None:
    """Remove an earlier demo, and only that."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / _MARK).exists():
            raise EnrichError(f"{folder} is not empty and not an earlier demo: name another folder")
        embedded.stop(folder / ".enrich")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)


def _environment(sandbox_port: int, webhook_port: int) -> dict[str, str]:
    environ = {
        "ENRICH_CONFIG": _MARK,
        "ENRICH_WEBHOOK_PUBLIC_URL": f"http://127.0.0.1:{webhook_port}",
        "ENRICH_WEBHOOK_PORT": str(webhook_port),
    }
    for provider in registry.available():
        name = f"ENRICH_{provider.upper()}"
        environ[f"{name}_BASE_URL"] = f"http://127.0.0.1:{sandbox_port}/{provider}"
        environ[f"{name}_API_KEY"] = "demo"
    return environ


def _write_environment(folder: Path, environ: dict[str, str]) -> None:
    lines = [f"{name}='{value}'\n" for name, value in environ.items()]
    (folder / ".env").write_text("".join(lines))


def _clean_environment() -> dict[str, str]:
    """Without the user's own settings: their keys and database have no part in a demo."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_USERS)}
    return kept | {"DAGSTER_DISABLE_TELEMETRY": "1"}


def _say_what_to_look_at(folder: Path, sandbox_port: int, seconds: float) -> None:
    out = terminal.out()
    out.rule("What to look at next", align="left")
    address = embedded.url(folder / ".enrich").set(drivername="postgresql")
    out.print(f"Played in {seconds:.0f} seconds in {folder}", soft_wrap=True)
    out.print("  the night as a page, for your browser")
    for page in sorted((folder / ".enrich" / "reports").glob("*.html")):
        out.print(f"    {page}", soft_wrap=True)
    out.print("  the tables: analytics.dim_contacts, fct_field_observations, fct_credit_ledger")
    out.print(f"    psql '{address.render_as_string()}'", soft_wrap=True)
    out.print("  the runs, op by op, in Dagster's UI")
    enrich = _enrich()
    out.print(f"    cd {shlex.quote(str(folder))} && {enrich} dev --sandbox", soft_wrap=True)
    rejects = folder / "contacts.csv.rejects.csv"
    if rejects.exists():
        out.print("  the rows that were not loaded, with the reason")
        out.print(f"    {rejects}", soft_wrap=True)
    out.print("  your own contacts, still at no cost, in a database that stays apart from yours")
    out.print(f"    {own_contacts(folder.with_name('trial'), enrich)}", soft_wrap=True)


def own_contacts(trial: Path, enrich: str) -> str:
    """The line for a shell that loads crm.csv of this directory and shows it to the sandbox.

    In a folder of its own, without the user's settings: what the sandbox invents would count as
    fresh in another database.
    """
    line = " && ".join(
        (
            f"mkdir -p {shlex.quote(str(trial))}",
            f"cd {shlex.quote(str(trial))}",
            f"{enrich} init",
            f"{enrich} load-contacts {shlex.quote(str(Path.cwd() / 'crm.csv'))}",
            f"{enrich} dev --sandbox",
        )
    )
    own = [name for name in sorted(os.environ) if name.startswith(_USERS)]
    return f"(unset {' '.join(own)} && {line})" if own else line


def _enrich() -> str:
    """How this command is started from any directory."""
    if shutil.which("enrich"):
        return "enrich"
    started = Path(sys.argv[0]).resolve()
    if os.access(started, os.X_OK):
        return shlex.quote(str(started))
    return f"{shlex.quote(sys.executable)} -m enrich_pipeline.cli"
