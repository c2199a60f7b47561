"""What nearly every command begins with: settings read, database up and ready."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine

from enrich_pipeline import settings as configuration
from enrich_pipeline.cli import log, terminal
from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.settings import Settings
from enrich_pipeline.store import embedded, ready


def load() -> Settings:
    """Settings of this environment; warnings are said, the log file is open."""
    settings = configuration.load()
    for line in settings.warnings:
        terminal.warn(line)
    log.start(settings.home)
    return settings


@contextmanager
def database(settings: Settings) -> Iterator[Engine]:
    """An engine on the migrated database; the embedded server is started if it is down.

    Raises ConfigurationError with one line where `enrich init` was never run or nothing answers.
    """
    start_embedded(settings)
    engine = ready.open_engine(settings.database_url, settings.is_embedded)
    try:
        yield engine
    finally:
        engine.dispose()


def start_embedded(settings: Settings) -> None:
    """Start the embedded server that `enrich init` made, if that is the database in use."""
    if not settings.is_embedded or embedded.is_running(settings.home):
        return
    if not (settings.home / "pg").exists():
        raise ConfigurationError(
            f"there is no database in {settings.home} yet: run `enrich init` "
            "(or set ENRICH_DATABASE_URL)"
        )
    with terminal.working("Starting the embedded database"):
        embedded.start(settings.home)
