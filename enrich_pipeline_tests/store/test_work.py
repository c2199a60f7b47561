"""Rules of how a stage comes upon the persons that wait for it."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest
from sqlalchemy import Connection, Engine, text

from enrich_pipeline.domain.enrichment import Field
from enrich_pipeline.store import opening, statistics, work
from enrich_pipeline.store.person_inputs import refresh_inputs

from . import rows
from .waits import until_somebody_waits

DAY = date(2026, 11, 21)
PERSONS = 8_000
ORDERS = {Field.WORK_EMAIL: ("prospeo", "lance"), Field.PHONE: ("prospeo",)}


@pytest.fixture
def night(engine: Engine) -> Iterator[Connection]:
    """A night planned a moment ago: two fields of every person, in two batches."""
    with engine.connect() as conn:
        for statement in (
            "insert into enrichment.persons (person_id) select n from generate_series(1, :n) as n",
            "insert into enrichment.plan_nights (partition_date, as_of, contacts_cap, batches) "
            "values (:day, now(), :n, 2)",
            "insert into enrichment.plan_rows "
            "(partition_date, contact_id, person_id, field, reason, rank, batch) "
            "select :day, 'c' || n, n, field, 'missing', n / 2, n % 2 "
            "from generate_series(1, :n) as n, unnest(array['work_email', 'phone']) as field",
        ):
            conn.execute(text(statement), {"n": PERSONS, "day": DAY})
        # As planning does.
        statistics.analyze(conn, PERSONS, "enrichment.plan_rows")
        yield conn


def open_batch(conn: Connection, batch: int, day: date = DAY) -> opening.Opened:
    return opening.open_enrichments(conn, day, batch, ORDERS, "run")


def pages(conn: Connection, batch: int, limit: int, day: date = DAY) -> Iterator[list[int]]:
    after = (-1, -1)
    while page := work.candidates(conn, day, batch, "prospeo", tuple(Field), after, limit):
        after = page[-1]
        yield [person for _, person in page]


def test_every_person_of_a_batch_comes_once_in_order_of_rank(night: Connection) -> None:
    open_batch(night, 0)
    open_batch(night, 1)
    seen = [person for page in pages(night, 0, 999) for person in page]
    assert seen == list(range(2, PERSONS + 1, 2))


def test_a_page_is_found_quickly_before_anything_is_known_of_new_tables(night: Connection) -> None:
    for batch in (0, 1):
        assert open_batch(night, batch).opened == PERSONS
    started = time.monotonic()
    assert len(next(pages(night, 0, 20))) == 20
    # 20 rows of an index; joined without statistics it took half a minute.
    assert time.monotonic() - started < 1


def test_what_was_opened_under_another_number_of_batches_goes_on(night: Connection) -> None:
    open_batch(night, 0)
    tomorrow = date(2026, 11, 22)
    for statement in (
        "insert into enrichment.plan_nights (partition_date, as_of, contacts_cap, batches) "
        "values (:day, now(), 10, 3)",
        "insert into enrichment.plan_rows "
        "(partition_date, contact_id, person_id, field, reason, rank, batch) "
        "values (:day, 'c2', 2, 'phone', 'old', 1, 2)",
    ):
        night.execute(text(statement), {"day": tomorrow})
    assert open_batch(night, 2, tomorrow).opened == 0
    assert list(pages(night, 2, 10, tomorrow)) == [[2]]


def test_who_works_ahead_looks_through_the_first_ones_only(
    night: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where these are held up, so are those behind; looking through all costs more with each."""
    open_batch(night, 0)
    night.execute(
        text("""
            update enrichment.enrichments set position = 2, next_provider = 'lance'
            where field = 'work_email'
        """)
    )

    def at_lance(*earlier: str) -> list[int]:
        found = work.candidates(
            night, DAY, 0, "lance", tuple(Field), (-1, -1), PERSONS, frozenset(earlier)
        )
        return [person for _, person in found]

    assert at_lance("prospeo") == []
    let_go(night, PERSONS)
    assert at_lance("prospeo") == [PERSONS]
    monkeypatch.setattr(work, "_REACH", 1_000)
    assert at_lance("prospeo") == []
    let_go(night, 2)
    assert at_lance("prospeo") == [2]
    assert len(at_lance()) == PERSONS / 2, "its own turn leaves nobody out"


def let_go(conn: Connection, person: int) -> None:
    """Nobody is asked for the person's phone number any more."""
    conn.execute(
        text("""
            update enrichment.enrichments set state = 'finished', result = 'not_found',
                next_provider = null, closed_at = now()
            where field = 'phone' and person_id = :person
        """),
        {"person": person},
    )


def test_opening_touches_nothing_of_anybody_before_it_holds_all(engine: Engine) -> None:
    """Else it and a settlement of some of the same persons come to wait for each other."""
    with engine.begin() as conn:
        for number in (1, 2):
            rows.person(conn, number)
            rows.contact(conn, f"c{number}", number, do_not_enrich=True)
        refresh_inputs(conn, [1, 2])
        for statement in (
            "insert into enrichment.plan_nights (partition_date, as_of, contacts_cap, batches) "
            "values (:day, now(), 2, 1)",
            "insert into enrichment.plan_rows "
            "(partition_date, contact_id, person_id, field, reason, rank, batch) "
            "select :day, 'c' || n, n, 'phone', 'missing', n, 0 from generate_series(1, 2) as n",
            "insert into enrichment.enrichments "
            "(person_id, field, cycle, waterfall, next_provider, partition_date, batch) "
            "select n, 'phone', 1, '{prospeo}', 'prospeo', :day, 0 from generate_series(1, 2) as n",
        ):
            conn.execute(text(statement), {"day": DAY})
    touch = text("update enrichment.enrichments set wait_reason = 'seen' where person_id = :person")

    def open_all() -> opening.Opened:
        with engine.begin() as conn:
            return open_batch(conn, 0)

    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as settling:
            work.lock_persons(settling, [2], wait=True)
            settling.execute(touch, {"person": 2})
            opened = pool.submit(open_all)
            until_somebody_waits(engine)
            settling.execute(touch, {"person": 1})
        assert opened.result().blocked == 2
