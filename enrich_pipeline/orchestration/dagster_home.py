"""The folder of Dagster's configuration, which the command line shares with `dagster dev`."""

import os
from pathlib import Path

import yaml

from enrich_pipeline.settings import DAGSTER_DATABASE_VARIABLE, Settings
from enrich_pipeline.store import connection

_FILE = "dagster.yaml"
SHIPPED = Path(__file__).with_name(_FILE)
"""What the repository has at its top, to the letter, for those who installed a wheel."""

_BELOW_THE_WORKING_DIRECTORY = ("local_artifact_storage", "compute_logs")


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
    written, wanted = folder / _FILE, _fallback()
    # Others may be reading it.
    if not written.is_file() or written.read_text(encoding="utf-8") != wanted:
        written.write_text(wanted, encoding="utf-8")
    return folder


def _fallback() -> str:
    """The shipped configuration, but for the folders that it names: without them they are here."""
    shipped = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    ours = {
        name: each for name, each in shipped.items() if name not in _BELOW_THE_WORKING_DIRECTORY
    }
    return (
        "# Written by enrich for folders without a dagster.yaml of their own.\n"
        + yaml.safe_dump(ours, sort_keys=False)
    )
