"""Asking providers for their balance now and then, free of charge, for whoever compares them."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from sqlalchemy import Engine

from enrich_pipeline.settings import Settings
from enrich_pipeline.waterfall.reconcile import reconcile, without_reading

EVERY = timedelta(hours=1)


def read_due(engine: Engine, settings: Settings, now: datetime) -> None:
    """Read the balance of every enabled provider that has a key and no reading of the last hour.

    One that does not answer is asked again the next time.
    """
    with_key = [name for name in settings.enabled if settings.access[name].api_key]
    with engine.connect() as conn:
        due = without_reading(conn, with_key, now - EVERY)
    if not due:
        return

    def ask(name: str) -> None:
        reconcile(engine, settings.policy, {name: settings.providers[name]}, settings.access)

    with ThreadPoolExecutor(len(due), thread_name_prefix="balance") as pool:
        list(pool.map(ask, due))
