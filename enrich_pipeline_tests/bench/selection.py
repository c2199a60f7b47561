"""How long it takes to select a night's contacts out of those that the source holds.

Fills a database of its own (10,000,000 contacts: some ten minutes and 20 GB in the folder for
temporary files, removed in the end) and plans two nights on it, of at most 100,000 contacts each:

- steady: of three in a hundred contacts a value is missing, old or of unknown age, a fifth of the
  persons has not consented to a personal e-mail, a third of the missing is known to be found
  nowhere;
- first: nothing is known of anybody.

Either may take 20 seconds, the reading of the source aside. With --statements it shows where they
went.
"""

import argparse
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, event, text

from enrich_pipeline.providers import registry
from enrich_pipeline.store import connection, embedded, migrate
from enrich_pipeline.waterfall.planning import NightSummary, write_plan

from ..campaigns.figures import Figures
from ..store.rows import default_policy
from .warehouse import NOW, TODAY, without_indexes
from .warehouse import run as execute

LIMIT_SECONDS: Final = 20
SHARE: Final = 100
"""One of so many contacts is what a night may take."""

# Of a thousand contacts, without an order that goes along with that of their rows.
_KIND = "n % 1000 * 919 % 1000"

_PEOPLE: Final[Mapping[str, str]] = {
    "persons": """
        insert into enrichment.persons (person_id, merged_into)
        select n, case when n % 33 = 0 then n - 1 end from generate_series(1, :contacts) as n""",
    "contacts": """
        insert into enrichment.contacts (contact_id, person_id, first_name, last_name, full_name,
            email, linkedin_slug, company_name, company_domain, country_code, segment,
            personal_email_consent, created_at, name_at_company, source_key, source_hash)
        select 'c' || n, n - (n % 33 = 0)::integer, 'Ada', 'Roe ' || n, 'Ada Roe ' || n,
            'p' || n || '@company' || n / 20 || '.example', 'ada-roe-' || n, 'Company ' || n / 20,
            'company' || n / 20 || '.example', 'DE', 'smb', n % 5 > 0,
            cast(:today as date) - 400, '', 'c' || n, md5(n::text)
        from generate_series(1, :contacts) as n""",
    "person_inputs": """
        insert into enrichment.person_inputs (person_id, first_name, last_name, full_name, email,
            linkedin, company_name, company_domain, country, personal_email_consent, is_blocked,
            blocked_reason, identity)
        select n, 'Ada', 'Roe ' || n, 'Ada Roe ' || n,
            'p' || n || '@company' || n / 20 || '.example', 'ada-roe-' || n, 'Company ' || n / 20,
            'company' || n / 20 || '.example', 'DE', n % 5 > 0, n % 101 = 1,
            case when n % 101 = 1 then 'do_not_enrich' end,
            array['email:' || left(md5(n::text), 24), 'linkedin:' || left(md5(n::text), 24)]
        from generate_series(1, :contacts) as n where n % 33 <> 0""",
}

_STEADY: Final[Mapping[str, str]] = {
    "enrichments": f"""
        insert into enrichment.enrichments (person_id, field, cycle, state, result, waterfall,
            position, partition_date, batch, opened_at, closed_at)
        select n, field, 1, 'finished', result, array['prospeo', 'lance', 'pronto', 'apollo'], 5,
            closed_at, 0, closed_at, closed_at
        from generate_series(1, :contacts) as n
        cross join lateral (select {_KIND} as kind) as k
        cross join unnest(array['work_email', 'phone', 'profile']) as field
        cross join lateral (
            select case when field = 'phone' and kind < 10 then 'not_found' else 'found' end,
                cast(:today as date) - case when field = 'phone' and n % 3 = 0 then 30 else 100 end
        ) as said (result, closed_at)
        where kind < 100 and n % 33 <> 0""",  # noqa: S608  (fragments of our own)
    "charge_lines": f"""
        insert into enrichment.charge_lines (call_id, item_key, person_id, provider, product,
            fields, state, hold_micro, hold_usd_micro, verdict, sent_identity, answered_at,
            settled_at)
        select n / 50, n, n, 'prospeo', 'match', array['work_email', 'profile'], 'posted', 0, 0,
            'found', array['email:' || left(md5(n::text), 24)], cast(:today as date) - 100,
            cast(:today as date) - 100
        from generate_series(1, :contacts) as n
        where {_KIND} < 100 and n % 33 <> 0""",  # noqa: S608  (fragments of our own)
    "dim_contacts": f"""
        insert into analytics.dim_contacts (contact_id, person_id, first_name, last_name, full_name,
            work_email, work_email_status, work_email_source, work_email_observed_at, phone,
            phone_status, phone_source, phone_observed_at, personal_email, personal_email_status,
            personal_email_source, personal_email_observed_at, job_title, company_name,
            company_domain, linkedin_url, location, country_code, segment, profile_status,
            profile_source, profile_observed_at, last_refreshed_at, next_refresh_at)
        select 'c' || n, n - (n % 33 = 0)::integer, 'Ada', 'Roe ' || n, 'Ada Roe ' || n,
            'p' || n || '@company' || n / 20 || '.example', 'verified', 'prospeo',
            case when kind not between 10 and 19 then at end,
            case when kind >= 10 then '+49' || 1000000000 + n end,
            case when kind >= 10 then 'verified' end, case when kind >= 10 then 'lance' end,
            case when kind >= 10 then at end,
            case when n % 5 > 0 then 'p' || n || '@mail.example' end,
            case when n % 5 > 0 then 'verified' end, case when n % 5 > 0 then 'pronto' end,
            case when n % 5 > 0 then at end,
            'Head of ' || n % 97, 'Company ' || n / 20, 'company' || n / 20 || '.example',
            'https://www.linkedin.com/in/ada-roe-' || n, 'City ' || n % 300, 'DE', 'smb', 'unknown',
            'prospeo', at - case when kind between 20 and 29 then 100 else 0 end * interval '1 day',
            at, at + interval '90 days'
        from generate_series(1, :contacts) as n
        cross join lateral (select {_KIND}) as k (kind)
        cross join lateral (select cast(:today as date) - n % 60 - interval '1 hour') as a (at)""",  # noqa: S608
}  # fmt: skip

_FIRST: Final[Mapping[str, str]] = {
    "nothing known": """
        truncate enrichment.enrichments, enrichment.charge_lines, enrichment.plan_nights,
            enrichment.plan_rows, enrichment.skips, enrichment.freshness, analytics.dim_contacts
            cascade""",
    "dim_contacts": """
        insert into analytics.dim_contacts (contact_id, person_id, first_name, last_name, full_name,
            company_name, company_domain, linkedin_url, country_code, segment, profile_status,
            profile_source, next_refresh_at)
        select 'c' || n, n - (n % 33 = 0)::integer, 'Ada', 'Roe ' || n, 'Ada Roe ' || n,
            'Company ' || n / 20, 'company' || n / 20 || '.example',
            'https://www.linkedin.com/in/ada-roe-' || n, 'DE', 'smb', 'unverified', 'crm', :now
        from generate_series(1, :contacts) as n""",
}


_KEPT: Final[Mapping[str, str]] = {
    "freshness": "insert into enrichment.freshness select * from enrichment.freshness_now"
}
"""What triggers do, who sleep while tables are filled."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--contacts", type=int, default=10_000_000)
    parser.add_argument("--statements", action="store_true", help="the seconds of every statement")


def run(arguments: argparse.Namespace) -> Figures:
    home = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        engine = connection.create_engine(embedded.start(home))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            # Only the filling gets faster: nothing here has to survive a power cut.
            for setting in ("fsync = off", "max_wal_size = '4GB'"):
                conn.execute(text(f"alter system set {setting}"))
            conn.execute(text("select pg_reload_conf()"))
        migrate.upgrade(engine)
        try:
            return measure(engine, arguments.contacts, arguments.statements)
        finally:
            engine.dispose()
    finally:
        embedded.stop(home)
        shutil.rmtree(home, ignore_errors=True)


def measure(engine: Engine, contacts: int, statements: bool = False) -> Figures:
    """Fill an empty, migrated database with so many contacts and plan both nights on it."""
    figures = Figures()
    fill(engine, contacts, {**_PEOPLE, **_STEADY, **_KEPT})
    _time_night(engine, figures, "steady", contacts // SHARE, statements)
    fill(engine, contacts, {**_FIRST, **_KEPT})
    _time_night(engine, figures, "first", contacts // SHARE, statements)
    return figures


def fill(engine: Engine, contacts: int, tables: Mapping[str, str]) -> None:
    with without_indexes(engine):
        for name, statement in tables.items():
            with engine.begin() as conn:
                # Rows that follow from one another need no lookups of foreign keys.
                conn.execute(text("set local session_replication_role = replica"))
                execute(conn, name, statement, {"contacts": contacts, "today": TODAY, "now": NOW})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        execute(conn, "vacuum", "vacuum (analyze)", {})


def _time_night(
    engine: Engine, figures: Figures, name: str, cap: int, statements: bool
) -> NightSummary:
    policy = default_policy()
    policy = policy.model_copy(
        update={"refresh": policy.refresh.model_copy(update={"contacts_per_night": cap})}
    )
    providers = {each: cls(cls.options_model()) for each, cls in registry.available().items()}
    started = time.perf_counter()
    with _timed(engine) as spent, engine.begin() as conn:
        night = write_plan(conn, policy, providers, TODAY, None, NOW)
    seconds = time.perf_counter() - started
    figures.note(f"{name} night: seconds", round(seconds, 1))
    figures.note(f"{name} night: contacts stale", night.contacts_stale)
    figures.note(f"{name} night: contacts planned", night.contacts)
    figures.note(f"{name} night: cannot be bought", sum(night.blocked.values()))
    if night.contacts != cap:
        figures.blame(f"{name} night", [f"planned {night.contacts} contacts, not {cap}"])
    if seconds > LIMIT_SECONDS:
        figures.blame(f"{name} night", [f"took {seconds:.1f} s, the target is {LIMIT_SECONDS} s"])
    if statements:
        _show(name, spent)
    return night


@contextmanager
def _timed(engine: Engine) -> Iterator[Counter[str]]:
    """Count the seconds of every statement that goes through `engine` inside the block."""
    spent: Counter[str] = Counter()
    started = 0.0

    def before(*_: Any) -> None:
        nonlocal started
        started = time.perf_counter()

    def after(conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        spent[" ".join(statement.split())[:80]] += time.perf_counter() - started  # type: ignore[assignment]

    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)
    try:
        yield spent
    finally:
        event.remove(engine, "before_cursor_execute", before)
        event.remove(engine, "after_cursor_execute", after)


def _show(name: str, spent: Mapping[str, float]) -> None:
    table = Table(title=f"The {name} night, statement by statement", title_justify="left")
    table.add_column("statement")
    table.add_column("seconds", justify="right")
    for statement, seconds in spent.items():
        table.add_row(statement, f"{seconds:.2f}")
    Console(width=max(110, Console().width)).print(table)
