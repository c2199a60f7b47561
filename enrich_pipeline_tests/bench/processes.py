"""Runs side by side, each a process of its own, as those of a night's batches are."""

from collections.abc import Callable
from typing import Any

from enrich_pipeline.waterfall.engine import Partition

from ..support.lab import PROCESSES, Lab


def drain_at_once(lab: Lab, batches: int, drain: Callable[..., None], *more: Any) -> None:
    """Has a process do `drain(database, environment, folder, partition, *more)` for each batch."""
    database = lab.database.render_as_string(hide_password=False)
    workers = [
        PROCESSES.Process(
            target=drain,
            args=(database, dict(lab.environment), lab.folder, Partition(lab.today, batch), *more),
        )
        for batch in range(batches)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
