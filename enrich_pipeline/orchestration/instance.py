"""The Dagster instance that the command line shares with `dagster dev`."""

import os
from pathlib import Path

import dagster as dg

from enrich_pipeline.settings import DAGSTER_DATABASE_VARIABLE, Settings
from enrich_pipeline.store import connection

_FILE = "dagster.yaml"
_FALLBACK = f"""\
# Written by enrich for folders without a dagster.yaml of their own.
telemetry: {{enabled: false}}
nux: {{enabled: false}}
storage:
  postgres:
    postgres_url: {{env: {DAGSTER_DATABASE_VARIABLE}}}
"""
_KEPT_SECONDS = 5
"""Not for a whole run: an event that met a connection which died with its server fails a step."""
_AT_ONCE = 10
"""As many threads may write events."""


def prepare(settings: Settings) -> Path:
    """Set what Dagster's processes read and give the folder of its configuration.

    That is DAGSTER_HOME, else the working directory, else a folder of our own. Child processes
    inherit the variables.
    """
    os.environ.setdefault(DAGSTER_DATABASE_VARIABLE, connection.dagster_url(settings.database_url))
    os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")
    given = os.environ.get("DAGSTER_HOME")
    for folder in (Path(given) if given else Path.cwd(), Path.cwd()):
        if (folder / _FILE).is_file():
            return folder
    folder = settings.home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _FILE).write_text(_FALLBACK)
    return folder


def open_instance(folder: Path) -> dg.DagsterInstance:
    """The instance of a folder that `prepare` gave; its tables are made on first use."""
    return dg.DagsterInstance.from_config(str(folder))


def keep_connections(instance: dg.DagsterInstance) -> None:
    """Let the storage of a process that executes a run use a connection for more than one event.

    On its own it makes one for each, 150 in a run that has nothing to do. Dagster's webserver keeps
    them likewise.
    """
    instance.optimize_for_webserver(
        statement_timeout=0, pool_recycle=_KEPT_SECONDS, max_overflow=_AT_ONCE
    )
