"""Bringing the database's schema to this version of the package, and telling whether it is there.

The migrations themselves are the files in `migrations/versions`: plain SQL, applied in order.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.store import locks
from enrich_pipeline.store.connection import DAGSTER_SCHEMA

SCHEMA = "enrichment"
VERSION_TABLE = "alembic_version"


def upgrade(engine: Engine) -> None:
    """Create the schemas that are missing and apply the missing migrations, all or none.

    Processes that call this at the same time take turns; the later ones find nothing to do.

    Raises ConfigurationError when the database is newer than this version of the package.
    """
    configuration = _configuration()
    with engine.begin() as connection:
        locks.hold(connection, locks.MIGRATE)
        connection.execute(text(f"create schema if not exists {SCHEMA}"))
        connection.execute(text(f"create schema if not exists {DAGSTER_SCHEMA}"))
        before = _revision(connection)
        _refuse_newer(before)
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "head")
        if _revision(connection) != before:
            # What follows from the tables: a new one can neither stay unmasked nor without rights.
            connection.execute(text(f"select {SCHEMA}.mask_analytics()"))
            connection.execute(text(f"select {SCHEMA}.set_up_roles()"))


def current(engine: Engine) -> str | None:
    """Return the revision that the database is at, or None if it was never migrated."""
    with engine.connect() as connection:
        return _revision(connection)


def check(engine: Engine) -> None:
    """Raise ConfigurationError unless the database is at exactly the revision of this version."""
    revision = current(engine)
    _refuse_newer(revision)
    if revision is None or revision != _scripts().get_current_head():
        raise ConfigurationError("the database is not migrated: run `enrich init`")


def _configuration() -> Config:
    configuration = Config()
    # A percent sign in a path would be read as a reference to another setting.
    location = str(Path(__file__).parent / "migrations").replace("%", "%%")
    configuration.set_main_option("script_location", location)
    return configuration


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_configuration())


def _revision(connection: Connection) -> str | None:
    options = {"version_table": VERSION_TABLE, "version_table_schema": SCHEMA}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


def _refuse_newer(revision: str | None) -> None:
    known = {script.revision for script in _scripts().walk_revisions()}
    if revision is not None and revision not in known:
        raise ConfigurationError(
            "the database is newer than this version of enrich_pipeline: "
            f"revision {revision} unknown; install the version that migrated it"
        )
