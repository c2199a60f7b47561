"""A worker's step that lasts several times as long as what makes a silent worker lost.

A program: started by Celery it is the worker's application, started by Python it submits one step
and ends when that is done.
"""

import os
import sys
import time
from pathlib import Path

from enrich_pipeline.orchestration import celery_app

SECONDS = 16.0
_NAME = "slow_step"

celery_app.LOST_AFTER_SECONDS = 4
celery_app._SAY_EVERY_SECONDS = 1
app = celery_app._application()


@app.task(name=_NAME, acks_late=True, reject_on_worker_lost=True)  # type: ignore[untyped-decorator]
def slow_step(path: str) -> None:
    """Leaves a line in a file each time it is begun."""
    with Path(path).open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(SECONDS)


if __name__ == "__main__":
    app.send_task(_NAME, (sys.argv[1],), queue="dagster").get(timeout=10 * SECONDS)
