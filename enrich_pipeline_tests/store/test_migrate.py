"""Rules of bringing a database to this version's schema."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import URL, Engine, text

from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.store import connection, migrate


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
    first = migrate.current(empty)
    migrate.upgrade(empty)
    assert migrate.current(empty) == first
    assert {"enrichment", "dagster"} <= _schemas(empty)


def test_upgraders_at_the_same_moment_take_turns(empty: Engine) -> None:
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(migrate.upgrade, empty) for _ in range(4)]:
            done.result()
    assert {"enrichment", "dagster"} <= _schemas(empty)


def test_an_unmigrated_database_asks_for_init(empty: Engine) -> None:
    with pytest.raises(ConfigurationError, match="not migrated: run `enrich init`"):
        migrate.check(empty)


def test_a_migrated_database_passes(engine: Engine) -> None:
    migrate.check(engine)


def test_a_database_of_a_later_version_is_refused_and_untouched(engine: Engine) -> None:
    with engine.begin() as session:
        session.execute(text("delete from enrichment.alembic_version"))
        session.execute(text("insert into enrichment.alembic_version values ('9999')"))
    for refused in (migrate.check, migrate.upgrade):
        with pytest.raises(ConfigurationError, match="newer than this .* 9999 unknown"):
            refused(engine)
    assert migrate.current(engine) == "9999"
