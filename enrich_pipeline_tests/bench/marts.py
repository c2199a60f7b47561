"""Queries of a BI tool, and the publishing of what changed, on a warehouse of any size.

Fills a database of its own (1,000,000 contacts with 10,000,000 observations: some ten minutes and
15 GB in the folder for temporary files, removed in the end), then times each query five times as
`bi_reader`: its median has to stay under 300 ms. With --plans it prints how PostgreSQL ran them.
Then it publishes nights of 1,000 and 10,000 changed contacts: ten times as many may take at most
fifteen times as long, and a night without news at most a second. Then it erases somebody, which may
take a second, files and vacuum aside.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

from sqlalchemy import URL, Engine, text

from enrich_pipeline.store import connection, embedded, erasure, migrate, publish

from ..campaigns.figures import Figures
from ..store.rows import default_policy
from . import warehouse
from .warehouse import NOW, TODAY

LIMIT_MS = 300
REPEATS = 5
SMALL, LARGE = 1_000, 10_000
"""Changed contacts of the two nights that are published."""

QUERIES: Mapping[str, str] = {
    "one contact": "select * from analytics.dim_contacts where contact_id = :contact",
    "contacts of a company": """
        select contact_id, full_name, job_title, work_email, phone from analytics.dim_contacts
        where company_domain = :company""",
    "contacts of a person": "select * from analytics.dim_contacts where person_id = :person",
    "next refreshes due": """
        select contact_id, full_name, next_refresh_at from analytics.dim_contacts
        where next_refresh_at <= :now order by next_refresh_at limit 500""",
    "number of refreshes due": """
        select count(*) from analytics.dim_contacts where next_refresh_at <= :now""",
    "coverage of a night, by segment": """
        select segment, field, filled::numeric / contacts, verified::numeric / contacts
        from analytics.mart_coverage where date = :day""",
    "coverage by segment over 90 nights": """
        select date, segment, field, filled::numeric / contacts
        from analytics.mart_coverage where date > :quarter order by date""",
    "one contact as of then": """
        select * from analytics.contacts_as_of(:then) where contact_id = :contact""",
    "a company as of then": """
        select count(*), count(work_email), count(phone) from analytics.contacts_as_of(:then)
        where company_domain = :company""",
    "history of a contact": """
        select * from analytics.dim_contact_history where contact_id = :contact
        order by valid_from""",
    "changes of a contact": """
        select * from analytics.fct_contact_changes where contact_id = :contact
        order by changed_at""",
    "changes of last night": """
        select field, kind, count(*) from analytics.fct_contact_changes
        where partition_date = :day group by field, kind""",
    "job changes of the week": """
        select * from analytics.fct_job_changes where changed_at >= :week
        order by changed_at desc""",
    "providers over 90 days": """
        select date, provider, sum(attempts), sum(found), sum(spend_usd)
        from analytics.mart_provider_daily where date > :quarter group by date, provider""",
    "scorecard by segment": """
        select segment, provider, field, sum(found), sum(won), sum(found_alone), sum(spend_usd),
            sum(spend_usd) / nullif(sum(verified), 0)
        from analytics.mart_provider_scorecard where date > :quarter
        group by segment, provider, field""",
    "coverage over 90 nights": """
        select * from analytics.mart_refresh_daily where date > :quarter order by date""",
    "observations of a person": """
        select * from analytics.fct_field_observations where person_id = :person""",
    "observations of last night": """
        select provider, field, rejected_reason, count(*) from analytics.fct_field_observations
        where recorded_at >= :day and recorded_at < :now group by 1, 2, 3""",
    "attempts of a person": """
        select * from analytics.fct_enrichment_attempts where person_id = :person""",
    "attempts of a day by outcome": """
        select provider, field, outcome, count(*), sum(cost_usd)
        from analytics.fct_enrichment_attempts where partition_date = :day group by 1, 2, 3""",
    "ledger of a day": """
        select provider, entry_type, sum(amount_usd) from analytics.fct_credit_ledger
        where partition_date = :day group by 1, 2""",
    "ledger entries of a day": """
        select * from analytics.fct_credit_ledger
        where occurred_at >= :day and occurred_at < :now order by entry_id""",
    "skips of a day by reason": """
        select field, provider, reason, count(*) from analytics.fct_skips
        where partition_date = :day group by 1, 2, 3""",
    "skips of a person": "select * from analytics.fct_skips where person_id = :person",
    "rejected answers of the week": """
        select * from analytics.fct_rejected_answers where answered_at >= :week""",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--contacts", type=int, default=1_000_000)
    parser.add_argument("--observations", type=int, default=10_000_000)
    parser.add_argument("--plans", action="store_true", help="print the plan of every query")


def run(arguments: argparse.Namespace) -> Figures:
    with _database() as url:
        engine = connection.create_engine(url)
        try:
            return measure(engine, arguments.contacts, arguments.observations, arguments.plans)
        finally:
            engine.dispose()


def measure(engine: Engine, contacts: int, observations: int, plans: bool = False) -> Figures:
    """Fill an empty, migrated database and measure on it."""
    figures = Figures()
    warehouse.fill(engine, contacts, observations)
    with engine.connect() as conn:
        for table in ("dim_contacts", "dim_contact_history", "fct_contact_changes"):
            count = f"select count(*) from analytics.{table}"  # noqa: S608
            figures.note(table, int(conn.execute(text(count)).scalar_one()))
        count = "select count(*) from enrichment.observations"
        figures.note("observations", int(conn.execute(text(count)).scalar_one()))
    _time_queries(engine, figures, plans)
    warehouse.constrain(engine)
    _time_publishing(engine, figures, min(LARGE, contacts // 20))
    _time_erasing(engine, figures)
    return figures


def _time_queries(engine: Engine, figures: Figures, plans: bool) -> None:
    parameters = {
        "contact": "c133",
        "person": 131,
        "company": "company6.example",
        "now": NOW,
        "then": NOW - timedelta(days=120),
        "day": TODAY,
        "week": TODAY - timedelta(days=7),
        "quarter": TODAY - timedelta(days=90),
    }
    with engine.connect() as conn:
        conn.execute(text("set role bi_reader"))
        # Its sessions are not opened by us: they have what PostgreSQL comes with.
        conn.execute(text("set random_page_cost = 4"))
        for name, query in QUERIES.items():
            used = {k: v for k, v in parameters.items() if f":{k}" in query}
            rows, times = 0, []
            for _ in range(REPEATS):
                started = time.perf_counter()
                rows = len(conn.execute(text(query), used).all())
                times.append((time.perf_counter() - started) * 1000)
            median = statistics.median(times)
            figures.note(f"{name}, ms", round(median, 1))
            if not rows:
                figures.blame(name, ["found nothing: the query measures nothing"])
            if median > LIMIT_MS:
                figures.blame(name, [f"took {median:.0f} ms, the target is {LIMIT_MS}"])
            if plans:
                plan = conn.execute(text(f"explain (analyze, buffers) {query}"), used).scalars()
                print(f"\n{name}: {rows} rows, {median:.1f} ms\n" + "\n".join(plan), flush=True)


def _time_erasing(engine: Engine, figures: Figures) -> None:
    """Person 131 by an address, person 130 by a number, as a command is given them."""
    for kind, value in (("email", "p131@company6.example"), ("phone", "+491000000130")):
        started = time.perf_counter()
        with engine.begin() as conn:
            persons = erasure.find(conn, [(kind, value)])
            receipt = erasure.erase(conn, persons, [(kind, value)], NOW).receipt
        seconds = time.perf_counter() - started
        figures.note(f"erasing by {kind}, s", round(seconds, 2))
        if (receipt.persons, receipt.rows["enrichment.observations"] >= 9) != (1, True):
            figures.blame("erasing", [f"{receipt.persons} persons: the time measures nothing"])
        if seconds > 1:
            figures.blame("erasing", [f"by {kind} took {seconds:.1f} s, the target is 1 s"])


# ------------------------------------------------------------------------------- publishing


def _time_publishing(engine: Engine, figures: Figures, large: int) -> None:
    small = max(1, large // 10)
    seconds = {}
    for number, contacts in enumerate((small, large), start=1):
        day = TODAY + timedelta(days=number)
        _buy(engine, contacts, day)
        seconds[contacts] = _publish(
            engine, figures, day, f"publishing {contacts} changed contacts"
        )
    again = _publish(engine, figures, TODAY + timedelta(days=2), "publishing no news")
    if seconds[large] > 15 * seconds[small]:
        figures.blame(
            "publishing", [f"{large} contacts take more than 15 times as long as {small}"]
        )
    if again > 1:
        figures.blame("publishing", [f"a night without news took {again:.1f} s, the target is 1 s"])


def _publish(engine: Engine, figures: Figures, day: date, what: str) -> float:
    started = time.perf_counter()
    summary = publish.publish(engine, default_policy(), day, 0, NOW + (day - TODAY))
    seconds = time.perf_counter() - started
    figures.note(f"{what}, s", round(seconds, 2))
    figures.note(f"{what}: new versions", summary.contacts_changed)
    return seconds


def _buy(engine: Engine, contacts: int, day: date) -> None:
    """Leave behind what a night leaves that bought a new work e-mail for so many contacts.

    One field of the night stays open: to close a night is to count the coverage of all contacts.
    """
    parameters = {"day": day, "contacts": contacts, "call": 10**9 + day.toordinal()}
    with engine.begin() as conn:
        for statement in _NIGHT_BOUGHT:
            used = {k: v for k, v in parameters.items() if f":{k}" in statement}
            conn.execute(text(statement), used)


_NIGHT_BOUGHT = (
    """
    create temp table asked on commit drop as
    select person_id as n, cast(:call as bigint) * 100000 + row_number() over () as id
    from enrichment.persons as p
    where merged_into is null and not exists (
        select from enrichment.enrichments as e
        where e.person_id = p.person_id and e.state = 'open')
    order by person_id % 97, person_id
    limit :contacts + 1
    """,
    """
    insert into enrichment.plan_nights (partition_date, as_of, contacts_cap, batches)
    values (:day, :day, 1000000, 4)
    """,
    """
    insert into enrichment.calls (call_id, provider, call_group, state, partition_date, batch,
        spend_date, run_id, persons, hold_micro, prices, usd_micro_per_credit, lease_until)
    overriding system value
    values (:call, 'prospeo', '', 'settled', :day, 0, :day, 'run', 50, 0, '{}', 10000, :day)
    """,
    """
    insert into enrichment.charge_lines (line_id, call_id, item_key, person_id, provider, product,
        fields, state, hold_micro, hold_usd_micro, cost_micro, cost_usd_micro, verdict, answered_at)
    overriding system value
    select id, :call, id, n, 'prospeo', 'match', '{}', 'posted', 1000000, 10000, 1000000, 10000,
        'found', :day
    from asked
    """,
    """
    insert into enrichment.enrichments (enrichment_id, person_id, field, cycle, state, result,
        waterfall, next_provider, partition_date, batch, opened_at, closed_at)
    overriding system value
    select id, n, 'work_email', 9 + cast(:day as date) - date '2026-06-01',
        case when row_number() over () = 1 then 'open' else 'finished' end,
        case when row_number() over () > 1 then 'found' end, '{prospeo}',
        case when row_number() over () = 1 then 'prospeo' end, :day, 0, :day,
        cast(:day as date) + interval '2 hours'
    from asked
    """,
    """
    insert into enrichment.attempts (attempt_id, enrichment_id, person_id, field, provider, try,
        position, call_id, line_id, outcome, is_verified, requested_at, responded_at, cost_micro,
        cost_usd_micro, partition_date, batch, run_id)
    overriding system value
    select id, id, n, 'work_email', 'prospeo', 1, 1, :call, id, 'found', true, :day, :day, 1000000,
        10000, :day, 0, 'run'
    from asked
    """,
    """
    insert into enrichment.observations (person_id, attribute, value, status, provider, call_id,
        line_id, attempt_id, observed_at)
    select n, 'work_email', 'new' || id || '@company.example', 'verified', 'prospeo', :call, id, id,
        cast(:day as date) + interval '1 hour'
    from asked
    """,
    """
    insert into enrichment.plan_rows (partition_date, contact_id, person_id, field, reason, rank,
        batch, planned_at)
    select :day, c.contact_id, a.n, 'work_email', 'old', 1, 0, :day
    from asked as a join enrichment.contacts as c on c.person_id = a.n
    """,
    "insert into enrichment.mart_dirty_partitions (partition_date, batch) values (:day, 0)",
)


@contextmanager
def _database() -> Iterator[URL]:
    """A migrated database on a server of its own, in the folder for temporary files."""
    home = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        url = embedded.start(home)
        engine = connection.create_engine(url)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            # Only the filling gets faster: nothing here has to survive a power cut.
            for setting in ("fsync = off", "max_wal_size = '16GB'"):
                conn.execute(text(f"alter system set {setting}"))
            conn.execute(text("select pg_reload_conf()"))
        migrate.upgrade(engine)
        engine.dispose()
        yield url
    finally:
        embedded.stop(home)
        shutil.rmtree(home, ignore_errors=True)
