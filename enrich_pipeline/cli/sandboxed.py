"""Keeping what simulated providers invented apart from what real ones were paid for.

An invented value counts as fresh like any other and an invented charge stays in the ledger: once
somebody was asked, a database is a sandbox's for good or never. Which it is stands in the database
itself, because a folder or an address may come to name another one.
"""

from urllib.parse import urlsplit

from sqlalchemy import Connection, Engine, TextClause, text
from sqlalchemy.exc import ProgrammingError

from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.providers.http import is_loopback
from enrich_pipeline.settings import Settings

# The one table of names and values. Restricted logins cannot write there.
_MARK = text("""
    insert into enrichment.secrets (name, value) values ('sandbox', convert_to('sandbox', 'UTF8'))
    on conflict do nothing
""")
_IS_MARKED = text("select exists (select from enrichment.secrets where name = 'sandbox')")
_UNMARK = text("delete from enrichment.secrets where name = 'sandbox'")
_HAS_CALLS = text("select exists (select from enrichment.ledger_entries)")

_ANOTHER = "use another database: run `enrich init` in another directory"


def mark(engine: Engine) -> None:
    """Make the database a sandbox's. Raises ConfigurationError where others were asked before."""
    try:
        with engine.begin() as conn:
            if _is(conn, _IS_MARKED):
                return
            if _is(conn, _HAS_CALLS):
                raise ConfigurationError(
                    "this database holds calls that were not made by --sandbox, and invented "
                    f"answers must not stand beside theirs; {_ANOTHER}"
                )
            conn.execute(_MARK)
    except ProgrammingError:
        raise ConfigurationError(
            "the login of this database may not make it a sandbox's, which keeps its invented "
            f"answers from being taken for real ones; {_ANOTHER}"
        ) from None


def refuse_real_providers(engine: Engine, settings: Settings) -> None:
    """Raise ConfigurationError where real providers would be paid on top of invented answers."""
    if all(_is_simulated(settings.access[name].base_url) for name in settings.enabled):
        return
    with engine.begin() as conn:
        if not _is(conn, _IS_MARKED):
            return
        if _is(conn, _HAS_CALLS):
            raise ConfigurationError(
                "this database is a sandbox's: what it knows is invented, and would not be bought "
                f"from real providers; start `enrich dev --sandbox`, or {_ANOTHER}"
            )
        # Nothing was asked: nothing in it is invented.
        conn.execute(_UNMARK)


def _is_simulated(base_url: str) -> bool:
    return is_loopback(urlsplit(base_url).hostname or "")


def _is(conn: Connection, question: TextClause) -> bool:
    return bool(conn.execute(question).scalar_one())
