"""The Dagster instance that the command line shares with `dagster dev`."""

from pathlib import Path

import dagster as dg

_KEPT_SECONDS = 5
"""Not for a whole run: an event that met a connection which died with its server fails a step."""
_AT_ONCE = 10
"""As many threads may write events."""


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
