"""Publishing a partition on a real PostgreSQL: what closes, merges and happens twice."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, Row, text

from enrich_pipeline.domain.policy import Policy
from enrich_pipeline.store import marts, publish
from enrich_pipeline.store.merge import remerge
from enrich_pipeline_tests.store import rows

DAY = date(2026, 5, 1)
NOW = datetime(2026, 5, 1, 3, tzinfo=UTC)
PLANNED = datetime(2026, 5, 1, 0, tzinfo=UTC)
POLICY = rows.default_policy()


@pytest.fixture
def conn(engine: Engine) -> Iterator[Connection]:
    """Two contacts of person 1, asked for by call 1 of batch 0, in a night of their own."""
    with engine.connect() as connection:
        rows.person(connection, 1)
        rows.contact(connection, "c1", 1, full_name="Ada Roe")
        rows.contact(connection, "c2", 1, full_name="Ada Roe")
        rows.call(connection, 1, "prospeo", DAY)
        rows.line(connection, 1, 1, 1, "prospeo")
        remerge(connection, POLICY, ["c1", "c2"], PLANNED)
        before = {f: {"filled": 0, "contacts": 2} for f in POLICY.fields}
        night = {"partition_date": DAY, "as_of": NOW, "contacts_cap": 10, "batches": 4}
        rows.insert(
            connection,
            "plan_nights",
            [night | {"contacts_stale": 2, "coverage_before": before, "planned_at": PLANNED}],
        )
        connection.commit()
        yield connection


def plan(conn: Connection, contact_id: str, field: str, **columns: Any) -> None:
    row = {"partition_date": DAY, "contact_id": contact_id, "person_id": 1, "field": field}
    more = {"reason": "missing", "rank": 1, "batch": 0, "state": "waiting", "planned_at": PLANNED}
    rows.insert(conn, "plan_rows", [row | more | columns])


def answer(conn: Connection, *, result: str = "found") -> None:
    """Close the work e-mail of person 1, with one observation where it was found."""
    rows.enrichment(conn, 1, 1, "work_email", DAY, result=result)
    rows.attempt(
        conn,
        1,
        1,
        1,
        "work_email",
        "prospeo",
        DAY,
        outcome=result,
        call_id=1,
        line_id=1,
        is_verified=result == "found",
        requested_at=NOW - timedelta(hours=2),
        responded_at=NOW - timedelta(hours=1),
    )
    if result == "found":
        rows.observation(conn, 1, 1, "work_email", "ada@acme.com", "prospeo", 1, NOW, attempt_id=1)


def publish_partition(engine: Engine, batch: int = 0, later: int = 0) -> publish.PublishSummary:
    return publish.publish(engine, POLICY, DAY, batch, NOW + timedelta(hours=later))


def all_of(conn: Connection, table: str) -> list[Row[Any]]:
    conn.rollback()
    return list(conn.execute(text(f"select *, xmin from {table} order by 1, 2, 3")))  # noqa: S608


def plan_states(conn: Connection) -> dict[tuple[str, str], tuple[str, str | None]]:
    return {
        (r.contact_id, r.field): (r.state, r.result) for r in all_of(conn, "enrichment.plan_rows")
    }


def test_an_answer_reaches_every_contact_of_the_person(engine: Engine, conn: Connection) -> None:
    plan(conn, "c1", "work_email")
    answer(conn)
    conn.commit()

    summary = publish_partition(engine)

    assert (summary.contacts, summary.contacts_changed, summary.closed, summary.found) == (
        2,
    ) * 2 + (
        1,
        1,
    )
    assert [r.work_email for r in all_of(conn, "analytics.dim_contacts")] == ["ada@acme.com"] * 2
    assert plan_states(conn) == {("c1", "work_email"): ("done", "found")}


def test_publishing_a_finished_partition_again_writes_nothing(
    engine: Engine, conn: Connection
) -> None:
    plan(conn, "c1", "work_email")
    answer(conn)
    conn.commit()
    publish_partition(engine)
    tables = [
        "analytics.dim_contacts",
        "analytics.dim_contact_history",
        "analytics.mart_provider_daily",
        "analytics.mart_refresh_daily",
        "enrichment.plan_rows",
        "enrichment.plan_nights",
        "enrichment.observations",
    ]
    before = [all_of(conn, table) for table in tables]

    summary = publish_partition(engine, later=5)

    assert (summary.contacts, summary.closed) == (0, 0)
    assert [all_of(conn, table) for table in tables] == before


def test_a_row_waits_while_its_enrichment_lives(engine: Engine, conn: Connection) -> None:
    for field in ("work_email", "phone", "profile"):
        plan(conn, "c1", field)
    for number, (field, state) in enumerate(
        [("work_email", "pending"), ("phone", "in_doubt"), ("profile", "open")], start=1
    ):
        rows.enrichment(
            conn,
            number,
            1,
            field,
            DAY,
            state=state,
            result=None,
            closed_at=None,
            next_provider="prospeo" if state == "open" else None,
        )
    conn.commit()

    summary = publish_partition(engine)

    assert (summary.closed, summary.waiting) == (0, 3)
    assert {state for state, _ in plan_states(conn).values()} == {"waiting"}
    assert all_of(conn, "enrichment.plan_nights")[0].coverage_after is None
    mart = all_of(conn, "analytics.mart_refresh_daily")[0]
    assert (mart.pending, mart.in_doubt) == (1, 1)


def test_an_enrichment_that_closed_before_the_plan_closes_no_row(
    engine: Engine, conn: Connection
) -> None:
    plan(conn, "c1", "work_email", planned_at=NOW)
    answer(conn)
    conn.commit()

    publish_partition(engine)

    assert plan_states(conn) == {("c1", "work_email"): ("waiting", None)}


def test_another_nights_answer_is_left_to_the_reuse_stage(engine: Engine, conn: Connection) -> None:
    plan(conn, "c1", "work_email")
    rows.enrichment(conn, 1, 1, "work_email", DAY - timedelta(days=1), closed_at=NOW)
    conn.commit()

    publish_partition(engine)

    assert plan_states(conn) == {("c1", "work_email"): ("waiting", None)}


def test_a_failed_enrichment_closes_its_row_without_a_result(
    engine: Engine, conn: Connection
) -> None:
    plan(conn, "c1", "work_email")
    rows.enrichment(conn, 1, 1, "work_email", DAY, state="failed", result=None)
    conn.commit()

    assert publish_partition(engine).found == 0
    assert plan_states(conn) == {("c1", "work_email"): ("done", None)}


def test_a_miss_moves_the_next_refresh(engine: Engine, conn: Connection) -> None:
    plan(conn, "c1", "work_email")
    answer(conn, result="not_found")
    conn.commit()

    publish_partition(engine)

    row = all_of(conn, "analytics.dim_contacts")[0]
    assert row.last_refreshed_at == NOW - timedelta(hours=1)
    assert plan_states(conn) == {("c1", "work_email"): ("done", "not_found")}
    assert len(all_of(conn, "analytics.dim_contact_history")) == 2


def test_a_late_answer_enters_although_its_row_is_closed(engine: Engine, conn: Connection) -> None:
    plan(conn, "c1", "work_email")
    answer(conn, result="not_found")
    conn.commit()
    publish_partition(engine)
    rows.observation(conn, 9, 1, "work_email", "late@acme.com", "prospeo", 1, NOW)
    conn.commit()

    assert publish_partition(engine, batch=1).contacts == 0, "no business of another batch"
    assert publish_partition(engine, later=1).contacts_changed == 2
    assert all_of(conn, "analytics.dim_contacts")[0].work_email == "late@acme.com"


def test_answers_of_a_merged_person_close_the_survivors_rows(
    engine: Engine, conn: Connection
) -> None:
    plan(conn, "c1", "work_email")
    rows.person(conn, 2, merged_into=1)
    rows.line(conn, 2, 1, 2, "prospeo")
    rows.enrichment(conn, 2, 2, "work_email", DAY)
    rows.observation(conn, 2, 2, "work_email", "ada@acme.com", "prospeo", 2, NOW)
    conn.commit()

    publish_partition(engine)

    assert plan_states(conn) == {("c1", "work_email"): ("done", "found")}
    assert all_of(conn, "analytics.dim_contacts")[0].work_email == "ada@acme.com"


def test_coverage_after_is_written_once_when_nothing_is_open(
    engine: Engine, conn: Connection
) -> None:
    plan(conn, "c1", "work_email")
    plan(conn, "c2", "phone", batch=1)
    answer(conn)
    conn.commit()
    assert publish_partition(engine).dates_closed == 0
    rows.enrichment(conn, 2, 1, "phone", DAY, result="not_found")
    conn.commit()

    assert publish_partition(engine, batch=1).dates_closed == 1
    assert publish_partition(engine, batch=1, later=1).dates_closed == 0
    mart = all_of(conn, "analytics.mart_refresh_daily")[0]
    assert (mart.work_email_coverage_before, mart.work_email_coverage_after) == (0, 1)
    assert (mart.contacts_stale, mart.contacts_refreshed, mart.fields_filled) == (2, 2, 1)


def test_a_closed_night_says_the_coverage_of_every_segment(
    engine: Engine, conn: Connection
) -> None:
    rows.person(conn, 2)
    rows.contact(conn, "c3", 2, segment="smb", email="bob@acme.com")
    remerge(conn, POLICY, ["c3"], PLANNED)
    plan(conn, "c1", "work_email")
    answer(conn)
    conn.commit()

    publish_partition(engine)

    covered = {
        (r.segment, r.field): (r.contacts, r.filled, r.verified, r.stale)
        for r in all_of(conn, "analytics.mart_coverage")
    }
    assert covered["(none)", "work_email"] == (2, 2, 2, 0)
    assert covered["smb", "work_email"] == (1, 1, 0, 1)
    assert covered["smb", "phone"] == (1, 0, 0, 1)
    assert len(covered) == 2 * len(POLICY.fields)
    frozen = all_of(conn, "enrichment.plan_nights")[0].coverage_after
    assert frozen["work_email"] == {"filled": 3, "verified": 2, "stale": 1, "contacts": 3}


def test_dirty_dates_are_refreshed_and_unmarked(engine: Engine, conn: Connection) -> None:
    other = DAY - timedelta(days=3)
    rows.call(conn, 7, "lance", other)
    rows.enrichment(conn, 7, 1, "phone", other)
    rows.attempt(conn, 7, 7, 1, "phone", "lance", other, call_id=7)
    rows.insert(conn, "mart_dirty_partitions", [{"partition_date": other, "batch": 0}])
    conn.commit()

    assert publish_partition(engine).dates == 2
    assert all_of(conn, "analytics.mart_provider_daily")[0].date == other
    conn.rollback()
    assert conn.execute(text("select count(*) from enrichment.mart_dirty_partitions")).scalar() == 0


@pytest.mark.parametrize(("has_open_work", "published"), [(False, 2), (True, 0)])
def test_answers_that_anothers_sweep_settled_are_published_along(
    engine: Engine, conn: Connection, has_open_work: bool, published: int
) -> None:
    plan(conn, "c1", "work_email")
    answer(conn)
    rows.insert(conn, "mart_dirty_partitions", [{"partition_date": DAY, "batch": 0}])
    if has_open_work:
        open_now = {"state": "open", "result": None, "closed_at": None, "next_provider": "lance"}
        rows.enrichment(conn, 2, 1, "phone", DAY, **open_now)
    conn.commit()

    assert publish_partition(engine, batch=3).contacts_changed == published


def test_persons_are_taken_in_chunks(
    engine: Engine, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "CHUNK", 3)
    plan(conn, "c1", "work_email")
    answer(conn)
    for person_id in (3, 5, 6, 7):
        rows.person(conn, person_id)
        rows.enrichment(conn, person_id, person_id, "phone", DAY, result="not_found")
    for number, person_id in ((3, 3), (4, 3), (5, 5), (6, 6), (7, 7)):
        rows.contact(conn, f"c{number}", person_id)
        plan(conn, f"c{number}", "phone", person_id=person_id)
    conn.commit()
    chunks: list[list[str]] = []

    def noted(conn: Connection, policy: Policy, contact_ids: list[str], now: datetime) -> int:
        chunks.append(contact_ids)
        return remerge(conn, policy, contact_ids, now)

    monkeypatch.setattr(publish, "remerge", noted)

    summary = publish_partition(engine)

    assert (summary.contacts, summary.closed, summary.waiting) == (7, 6, 0)
    assert len(all_of(conn, "analytics.dim_contacts")) == 7
    # c1 and c2 are one person, and so are c3 and c4.
    assert chunks == [["c1", "c2"], ["c3", "c4", "c5", "c6"], ["c7"]]


def test_a_date_that_is_being_posted_to_is_not_unmarked_early(
    engine: Engine, conn: Connection
) -> None:
    """The mark and what it stands for belong to one transaction: taking it waits for that."""
    mark = text("insert into enrichment.mart_dirty_partitions values (:d, 1)")
    with engine.begin() as poster:
        poster.execute(mark, {"d": DAY})
        with engine.begin() as taker:
            assert marts.take_dirty(taker, DAY, 0) == []
    with engine.begin() as taker:
        assert marts.take_dirty(taker, DAY, 0) == [(DAY, 1)]
