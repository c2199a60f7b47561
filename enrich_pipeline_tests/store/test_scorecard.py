"""The scorecard of the providers: what each was good for, and that it adds up to the other mart."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, Row, event, text

from enrich_pipeline.store import marts, scorecard
from enrich_pipeline.store.merge import remerge
from enrich_pipeline_tests.bench import warehouse
from enrich_pipeline_tests.store import rows

DAY = date(2026, 5, 1)
NOW = datetime(2026, 5, 1, 2, tzinfo=UTC)
POLICY = rows.default_policy()
CENT = 10_000


@pytest.fixture
def conn(engine: Engine) -> Iterator[Connection]:
    """Three persons with a contact each, in two segments and none."""
    with engine.connect() as connection:
        for number, segment in enumerate(("smb", "enterprise", None), start=1):
            rows.person(connection, number)
            rows.contact(connection, f"c{number}", number, segment=segment)
        yield connection


class Night:
    """Asks providers for persons, one call and charge line each."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._number = 0

    def ask(
        self,
        provider: str,
        person: int,
        field: str = "work_email",
        value: str | None = None,
        *,
        attribute: str | None = None,
        status: str = "verified",
        outcome: str | None = None,
        rejected: str | None = None,
        cents: int = 1,
        day: date = DAY,
        at: datetime = NOW,
    ) -> int:
        """One attempt, found where it brings a value; returns its number, its observation's too."""
        self._number += 1
        n = self._number
        rows.call(self._conn, n, provider, day)
        rows.line(self._conn, n, n, person, provider)
        rows.enrichment(self._conn, n, person, field, day, cycle=n)
        rows.attempt(
            self._conn, n, n, person, field, provider, day, call_id=n, line_id=n,
            outcome=outcome or ("found" if value else "not_found"),
            is_verified=value is not None and status == "verified",
            cost_micro=cents * 1_000_000, cost_usd_micro=cents * CENT,
        )  # fmt: skip
        if value:
            rows.observation(
                self._conn, n, person, attribute or field, value, provider, n, at, status=status,
                call_id=n, rejected_reason=rejected,
            )  # fmt: skip
        return n

    def merge(self) -> None:
        remerge(self._conn, POLICY, ["c1", "c2", "c3"], NOW)

    def scores(self, day: date = DAY) -> dict[tuple[str, str, str], Row[Any]]:
        marts.refresh(self._conn, [day])
        # With what tells whether any of its rows was written.
        query = text("""
            select m.*, written.rows
            from analytics.mart_provider_scorecard as m
            cross join (
                select array_agg(cast(p.xmin as text) order by p) as rows
                from enrichment.scorecard_parts as p
            ) as written
            where m.date = :day
        """)
        found = self._conn.execute(query, {"day": day})
        return {(r.provider, r.field, r.segment): r for r in found}


def test_what_a_provider_was_good_for(conn: Connection) -> None:
    night = Night(conn)
    night.ask("prospeo", 1, value="a@acme.com", status="catch_all", cents=2)
    night.ask("agntdata", 1, value="ada@acme.com", cents=3)
    night.ask("prospeo", 2, cents=1)
    night.ask("prospeo", 3, "phone", "+491", cents=4)
    night.merge()

    scores = night.scores()

    figures = {
        key: (r.asked, r.found, r.verified, r.won, r.found_alone, r.spend_usd_never_won)
        for key, r in scores.items()
    }
    assert figures == {
        ("prospeo", "work_email", "smb"): (1, 1, 0, 0, 0, Decimal("0.02")),
        ("agntdata", "work_email", "smb"): (1, 1, 1, 1, 0, Decimal(0)),
        ("prospeo", "work_email", "enterprise"): (1, 0, 0, 0, 0, Decimal("0.01")),
        ("prospeo", "phone", "(none)"): (1, 1, 1, 1, 1, Decimal(0)),
    }
    best = scores["agntdata", "work_email", "smb"]
    assert (best.spend_micro_credits, best.spend_usd) == (3_000_000, Decimal("0.03"))
    assert best.usd_per_verified == Decimal("0.03")
    assert scores["prospeo", "work_email", "smb"].usd_per_verified is None


def test_over_segments_it_adds_up_to_the_daily_mart(conn: Connection) -> None:
    night = Night(conn)
    for person in (1, 2, 3):
        night.ask("prospeo", person, value=f"{person}@acme.com", cents=person)
    night.ask("prospeo", 1, outcome="reused", cents=0)
    night.merge()
    night.scores()

    sums = """
        select asked = attempts, s.found = d.found, s.verified = d.verified, s.usd = d.spend_usd
        from (select provider, field, sum(asked) as asked, sum(found) as found,
                sum(verified) as verified, sum(spend_usd) as usd
              from analytics.mart_provider_scorecard group by provider, field) as s
        join analytics.mart_provider_daily as d using (provider, field)
    """
    assert conn.execute(text(sums)).all() == [(True, True, True, True)]


def test_a_value_that_once_won_has_won(conn: Connection) -> None:
    night = Night(conn)
    night.ask("prospeo", 1, value="a@acme.com", at=NOW - timedelta(days=9))
    night.merge()
    night.ask("agntdata", 1, value="b@acme.com", day=DAY + timedelta(days=1))
    night.merge()

    row = night.scores()["prospeo", "work_email", "smb"]

    assert (row.won, row.spend_usd_never_won) == (1, 0)
    query = "select is_winner, won_at from enrichment.observations order by observation_id"
    assert conn.execute(text(query)).all() == [(False, NOW), (True, NOW)]


def test_a_product_pays_off_in_whatever_field_it_won(conn: Connection) -> None:
    night = Night(conn)
    night.ask("prospeo", 1, value="https://www.linkedin.com/in/a", attribute="linkedin_url")
    night.merge()

    row = night.scores()["prospeo", "work_email", "smb"]

    assert (row.won, row.spend_usd_never_won) == (0, 0)


def test_an_answer_about_another_person_takes_nothing_from_who_found_the_right_one(
    conn: Connection,
) -> None:
    night = Night(conn)
    night.ask("prospeo", 1, value="x@x.com", outcome="other_person", rejected="other_person")
    night.ask("agntdata", 1, value="bad@acme.com", status="invalid", outcome="not_found")
    night.ask("lance", 1, value="ada@acme.com")
    night.merge()

    scores = night.scores()

    assert scores["lance", "work_email", "smb"].found_alone == 1
    assert scores["prospeo", "work_email", "smb"].found_alone == 0
    assert scores["prospeo", "work_email", "smb"].spend_usd_never_won == Decimal("0.01")


def test_who_found_it_in_a_later_night_does_not_change_what_this_night_knew(
    conn: Connection,
) -> None:
    night = Night(conn)
    later = DAY + timedelta(days=1)
    night.ask("prospeo", 1, value="ada@acme.com")
    night.ask("lance", 1, value="ada@acme.com", day=later)
    night.merge()

    assert night.scores()["prospeo", "work_email", "smb"].found_alone == 1
    assert night.scores(later)["lance", "work_email", "smb"].found_alone == 0


def test_persons_that_were_merged_away_are_scored_as_their_survivor(conn: Connection) -> None:
    night = Night(conn)
    rows.person(conn, 4, merged_into=2)
    attempt = night.ask("lance", 2, "phone", "+491")
    conn.execute(
        text("update enrichment.attempts set person_id = 4 where attempt_id = :id"),
        {"id": attempt},
    )
    night.merge()

    assert night.scores()["lance", "phone", "enterprise"].won == 1


def test_refreshing_twice_rewrites_no_row_and_what_is_gone_leaves(conn: Connection) -> None:
    night = Night(conn)
    attempt = night.ask("prospeo", 1, value="ada@acme.com")
    night.merge()
    assert night.scores() == night.scores()

    conn.execute(text("delete from enrichment.attempts where attempt_id = :id"), {"id": attempt})
    assert night.scores() == {}


def test_a_loser_that_wins_later_has_its_night_refreshed(conn: Connection) -> None:
    night = Night(conn)
    night.ask("prospeo", 1, value="a@acme.com", at=NOW - timedelta(days=9))
    night.ask("agntdata", 1, value="b@acme.com", day=DAY + timedelta(days=1))
    night.merge()
    later = DAY + timedelta(days=1)
    assert marts.take_dirty(conn, later, 0) == [(later, 0)]
    night.merge()
    assert marts.take_dirty(conn, later, 0) == []
    conn.execute(
        text("""
            update enrichment.observations set value = null, erased_at = now(), is_winner = false
            where observation_id = 2
        """)
    )

    night.merge()

    assert marts.take_dirty(conn, later, 0) == [(DAY, 0)]
    assert night.scores()["prospeo", "work_email", "smb"].won == 1


def test_a_batch_that_is_published_leaves_the_parts_of_the_others_alone(conn: Connection) -> None:
    night = Night(conn)
    night.ask("prospeo", 1, value="a@acme.com")
    night.ask("prospeo", 2, value="b@acme.com")
    conn.execute(text("update enrichment.attempts set batch = 1 where person_id = 2"))
    night.merge()

    scorecard.refresh(conn, [(DAY, 1)])
    parts = text("select batch, segment, asked from enrichment.scorecard_parts order by batch")
    assert [tuple(r) for r in conn.execute(parts)] == [(1, "enterprise", 1)]
    scorecard.refresh(conn, [(DAY, 0)])
    assert [tuple(r) for r in conn.execute(parts)] == [(0, "smb", 1), (1, "enterprise", 1)]
    conn.execute(text("update enrichment.contacts set segment = 'smb'"))
    assert night.scores()["prospeo", "work_email", "smb"].asked == 2


def test_of_observations_only_those_of_the_persons_asked_are_read(engine: Engine) -> None:
    warehouse.fill(engine, contacts=600, observations=6_000)
    plans: list[str] = []

    def explain(_: Any, cursor: Any, statement: str, parameters: Any, *__: Any) -> None:
        if "table scored_values" in statement:
            cursor.execute(f"explain {statement}", parameters)
            plans.append("\n".join(line for (line,) in cursor.fetchall()))

    with engine.begin() as connection:
        event.listen(connection, "before_cursor_execute", explain)
        # Every person is of one of these nights: here the planner would rather read all.
        marts.refresh(connection, [warehouse.TODAY - timedelta(days=n) for n in range(90)])
    (plan,) = plans
    assert "Index Cond: (person_id = p.person_id)" in plan
    assert "Seq Scan on observations" not in plan
