"""Opens a database that is ready for work: it answers, is new enough and migrated."""

from sqlalchemy import URL, Engine

from enrich_pipeline.store import connection, revision


def open_engine(url: URL, is_embedded: bool, pool_size: int = 5) -> Engine:
    """An engine on the database of `url`; the caller disposes of it.

    Raises ConfigurationError with one line when it does not answer or is not at this version.
    """
    engine = connection.create_engine(url, pool_size=pool_size)
    try:
        connection.require_reachable(engine, is_embedded=is_embedded)
        revision.check(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine
