"""The folder of Dagster's configuration, which the command line shares with `dagster dev`."""

import os
from pathlib import Path

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
