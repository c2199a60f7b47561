"""Rules of bringing a database to this version's schema, and of telling whether it is there."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Engine, text

from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.store import connection, migrate, revision


@pytest.fixture
def empty(empty_database: URL) -> Iterator[Engine]:
    engine = connection.create_engine(empty_database)
    yield engine
    engine.dispose()


def _schemas(engine: Engine) -> set[str]:
    with engine.connect() as session:
        return set(session.execute(text("select nspname from pg_namespace")).scalars())


def test_upgrade_makes_the_schemas_and_is_repeatable(empty: Engine) -> None:
    migrate.upgrade(empty)
    first = revision.current(empty)
    migrate.upgrade(empty)
    assert revision.current(empty) == first
    assert {"enrichment", "dagster"} <= _schemas(empty)


def test_every_revision_is_known_in_the_order_in_which_they_are_applied() -> None:
    newest_first = ScriptDirectory(str(revision.MIGRATIONS)).walk_revisions()
    assert revision.known() == [each.revision for each in newest_first][::-1]


def test_upgraders_at_the_same_moment_take_turns(empty: Engine) -> None:
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(migrate.upgrade, empty) for _ in range(4)]:
            done.result()
    assert {"enrichment", "dagster"} <= _schemas(empty)


def test_an_unmigrated_database_asks_for_init(empty: Engine) -> None:
    with pytest.raises(ConfigurationError, match="not migrated: run `enrich init`"):
        revision.check(empty)


def test_a_migrated_database_passes(engine: Engine) -> None:
    revision.check(engine)


def test_a_database_of_a_later_version_is_refused_and_untouched(engine: Engine) -> None:
    with engine.begin() as session:
        session.execute(text("delete from enrichment.alembic_version"))
        session.execute(text("insert into enrichment.alembic_version values ('9999')"))
    for refused in (revision.check, migrate.upgrade):
        with pytest.raises(ConfigurationError, match="newer than this .* 9999 unknown"):
            refused(engine)
    assert revision.current(engine) == "9999"
