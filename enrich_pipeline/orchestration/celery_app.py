"""The Celery application of the executor `celery`: what runs submit to and workers work for.

Start a worker where the code, the environment and PostgreSQL are at hand:

    celery -A enrich_pipeline.orchestration.celery_app worker --queues dagster --concurrency 1

A step drains what it finds in the database, so giving it to a second worker is harmless; a step
that nobody does any more holds up its run. Therefore a worker confirms a step when it is done,
and what a dead worker had taken is given to another after `LOST_AFTER_SECONDS`.
"""

import time
from collections.abc import Mapping
from typing import Any

from celery import Celery, bootsteps
from celery.worker.consumer import Consumer
from dagster_celery.config import DEFAULT_CONFIG
from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_task

from enrich_pipeline import settings

LOST_AFTER_SECONDS = 60
"""A worker says of what it has taken that it still has it; silent for so long, it is gone.

Redis knows nothing of who is connected. Without that every step would need to be shorter than
this, and the hour that is Celery's default would be both too short for some and too long to wait.
"""
_SAY_EVERY_SECONDS = 10


def arguments(broker_url: str) -> Mapping[str, Any]:
    """The executor's configuration: broker, and the same Redis for the results."""
    return {
        "broker": broker_url,
        "backend": broker_url,
        "config_source": {
            "broker_connection_retry_on_startup": True,
            "broker_transport_options": {
                **DEFAULT_CONFIG["broker_transport_options"],
                "visibility_timeout": LOST_AFTER_SECONDS,
                "unacked_restore_interval": _SAY_EVERY_SECONDS,
                "unacked_restore_throttle": 1,
            },
        },
    }


class StillHere(bootsteps.StartStopStep):  # type: ignore[misc]
    """Says every few seconds which messages this worker still has."""

    requires = ("celery.worker.consumer.tasks:Tasks",)
    _timer: Any = None

    def start(self, parent: Consumer) -> None:
        self._timer = parent.timer.call_repeatedly(_SAY_EVERY_SECONDS, _say, (parent,))

    def stop(self, parent: Consumer) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _say(consumer: Consumer) -> None:
    channel = consumer.task_consumer.channel
    if taken := list(channel.qos._delivered):
        with channel.conn_or_acquire() as redis:
            redis.zadd(channel.unacked_index_key, dict.fromkeys(taken, time.time()), xx=True)


def _application() -> Celery:
    given = dict(arguments(settings.load().require_celery_broker()))
    config = {**DEFAULT_CONFIG, "worker_prefetch_multiplier": 1, **given.pop("config_source")}
    app = make_app({**given, "config_source": config})
    app.steps["consumer"].add(StillHere)
    create_task(app, acks_late=True, reject_on_worker_lost=True)
    return app


def __getattr__(name: str) -> Celery:
    """Celery's command asks for `app`; whoever only submits must not need it."""
    if name != "app":
        raise AttributeError(name)
    app = globals()["app"] = _application()
    return app
