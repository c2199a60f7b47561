"""enrich init: everything that a first run needs, and nothing twice."""

import os
from pathlib import Path

import click

from enrich_pipeline.cli import dotenv, session, terminal
from enrich_pipeline.orchestration import dagster_home
from enrich_pipeline.settings import DAGSTER_DATABASE_VARIABLE, Settings
from enrich_pipeline.store import connection, embedded, migrate

_REMEMBERED = ("ENRICH_HOME", "ENRICH_DATABASE_URL", "ENRICH_CONFIG")
"""Set in the environment, they are written to .env: `dagster dev` runs without that environment."""


@click.command()
def command() -> None:
    """Bring the database up, migrate it and write .env. Repeatable.

    Without ENRICH_DATABASE_URL the embedded PostgreSQL is used; its data are in ENRICH_HOME
    (default .enrich). Lines of your own in .env are kept.

    \b
    Examples:
      enrich init
      ENRICH_DATABASE_URL=postgresql://me@db.example.com/crm enrich init
    """
    settings = session.load()
    if settings.is_embedded:
        with terminal.working("Starting the embedded database"):
            embedded.start(settings.home)
    engine = connection.create_engine(settings.database_url)
    try:
        connection.require_reachable(engine, is_embedded=settings.is_embedded)
        with terminal.working("Migrating the database"):
            migrate.upgrade(engine)
    finally:
        engine.dispose()
    written = _write_environment(settings)
    with terminal.working("Making Dagster's tables"):
        _make_dagster_tables(settings)
    _say_what_is_next(settings, written)


def _write_environment(settings: Settings) -> Path:
    values = {name: os.environ[name] for name in _REMEMBERED if os.environ.get(name, "").strip()}
    values[DAGSTER_DATABASE_VARIABLE] = connection.dagster_url(settings.database_url)
    keys = [f"ENRICH_{name.upper()}_API_KEY" for name in settings.enabled]
    path = Path.cwd() / ".env"
    dotenv.update(path, values, suggested=[*keys, "ENRICH_WEBHOOK_PUBLIC_URL"])
    return path


def _make_dagster_tables(settings: Settings) -> None:
    from enrich_pipeline.orchestration import instance

    with instance.open_instance(dagster_home.prepare(settings)) as opened:
        opened.get_runs_count()


def _say_what_is_next(settings: Settings, written: Path) -> None:
    out = terminal.out()
    shown = "embedded" if settings.is_embedded else connection.redacted(settings.database_url)
    out.print(f"Database ready ({shown}), {written.name} written.")
    missing = [name for name in settings.enabled if not settings.access[name].api_key]
    out.print("Next:")
    if missing:
        out.print(f"  put the API keys of {', '.join(missing)} into {written.name}")
    if settings.needs_webhooks() and settings.webhook_public_url is None:
        out.print(
            "  set ENRICH_WEBHOOK_PUBLIC_URL to where this machine is reached, "
            f"for {', '.join(settings.needs_webhooks())}"
        )
    out.print("  enrich load-contacts crm.csv      your contacts")
    out.print("  enrich refresh --dry-run          what tonight would cost")
    out.print("  enrich dev                        everything, with Dagster's UI")
