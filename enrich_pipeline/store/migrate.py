"""Bringing the database's schema to this version of the package.

The migrations themselves are the files in `migrations/versions`: plain SQL, applied in order.
"""

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, text

from enrich_pipeline.store import locks, revision
from enrich_pipeline.store.connection import DAGSTER_SCHEMA
from enrich_pipeline.store.revision import SCHEMA


def upgrade(engine: Engine) -> None:
    """Create the schemas that are missing and apply the missing migrations, all or none.

    Processes that call this at the same time take turns; the later ones find nothing to do.

    Raises ConfigurationError when the database is newer than this version of the package.
    """
    configuration = Config()
    # A percent sign in a path would be read as a reference to another setting.
    location = str(revision.MIGRATIONS).replace("%", "%%")
    configuration.set_main_option("script_location", location)
    with engine.begin() as connection:
        locks.hold(connection, locks.MIGRATE)
        connection.execute(text(f"create schema if not exists {SCHEMA}"))
        connection.execute(text(f"create schema if not exists {DAGSTER_SCHEMA}"))
        before = revision.read(connection)
        revision.refuse_newer(before)
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "head")
        if revision.read(connection) != before:
            # What follows from the tables: a new one can neither stay unmasked nor without rights.
            connection.execute(text(f"select {SCHEMA}.mask_analytics()"))
            connection.execute(text(f"select {SCHEMA}.set_up_roles()"))
