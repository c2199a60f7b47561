"""What a night's progress counts: rows of its batches, and whatever they wait for."""

from datetime import date, timedelta

from sqlalchemy import Connection, Engine

from enrich_pipeline.store import nights

from . import rows

DAY = date(2026, 11, 21)
LIVE = {"result": None, "closed_at": None, "next_provider": None}


def planned(conn: Connection, person_id: int, **columns: object) -> None:
    row = {
        "partition_date": DAY,
        "contact_id": f"c{person_id}",
        "person_id": person_id,
        "field": "phone",
        "reason": "missing",
        "rank": person_id,
        "batch": 0,
        **columns,
    }
    rows.insert(conn, "plan_rows", [row])


def test_each_search_that_rows_wait_for_counts_once_whoever_they_were_planned_for(
    engine: Engine,
) -> None:
    with engine.begin() as conn:
        for person in (1, 3, 4, 5):
            rows.person(conn, person)
        rows.person(conn, 2, merged_into=1)
        for night in (DAY, DAY - timedelta(days=1)):
            plan = {"partition_date": night, "as_of": night, "contacts_cap": 9, "batches": 2}
            rows.insert(conn, "plan_nights", [plan])
        planned(conn, 2)
        planned(conn, 1)
        planned(conn, 3)
        planned(conn, 4, batch=1)
        planned(conn, 5, partition_date=DAY - timedelta(days=1))
        planned(conn, 5, state="done", closed_at=DAY)
        for number, state in ((1, "pending"), (3, "in_doubt"), (4, "pending"), (5, "pending")):
            rows.enrichment(conn, number, number, "phone", DAY, state=state, **LIVE)
    with engine.connect() as conn:
        tonight = nights.progress(conn, DAY, [0])
        both = nights.progress(conn, DAY, [0, 1])
    assert (tonight.planned, tonight.waiting, tonight.closed) == (4, 3, 1)
    assert (tonight.pending, tonight.in_doubt) == (1, 1)
    assert (both.planned, both.pending, both.in_doubt) == (5, 2, 1)
