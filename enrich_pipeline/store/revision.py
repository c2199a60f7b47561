"""Which revision of its tables a database is at, and whether that is the one of this version.

Every command and every run asks; only who migrates imports what does that.
"""

from pathlib import Path
from typing import Final

import sqlalchemy
from sqlalchemy import Connection, Engine, text

from enrich_pipeline.domain.errors import ConfigurationError

SCHEMA: Final = "enrichment"
TABLE: Final = "alembic_version"
MIGRATIONS: Final = Path(__file__).parent / "migrations"


def known() -> list[str]:
    """The revisions of this version of the package, oldest first: how their files' names begin."""
    return sorted(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("*.sql"))


def current(engine: Engine) -> str | None:
    """Return the revision that the database is at, or None if it was never migrated."""
    with engine.connect() as connection:
        return read(connection)


def read(connection: Connection) -> str | None:
    """`current`, as this transaction sees it."""
    if not sqlalchemy.inspect(connection).has_table(TABLE, schema=SCHEMA):
        return None
    query = text(f"select version_num from {SCHEMA}.{TABLE}")  # noqa: S608
    revision: str | None = connection.execute(query).scalar()
    return revision


def check(engine: Engine) -> None:
    """Raise ConfigurationError unless the database is at exactly the revision of this version."""
    revision = current(engine)
    refuse_newer(revision)
    if revision != known()[-1]:
        raise ConfigurationError("the database is not migrated: run `enrich init`")


def refuse_newer(revision: str | None) -> None:
    """Raise ConfigurationError for a revision that this version of the package does not know."""
    if revision is not None and revision not in known():
        raise ConfigurationError(
            "the database is newer than this version of enrich_pipeline: "
            f"revision {revision} unknown; install the version that migrated it"
        )
