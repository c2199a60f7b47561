"""The history of contacts: what was known when, what changed, and which observation changed it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, Row, text
from sqlalchemy.exc import IntegrityError

from enrich_pipeline.domain.enrichment import FIELD_OF, Attribute
from enrich_pipeline.store.merge import remerge
from enrich_pipeline_tests.store import replay, rows

START = datetime(2026, 5, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
POLICY = rows.default_policy()
PROVIDERS = ("prospeo", "agntdata", "pronto")
COLUMNS = sorted(replay.state(replay.NOTHING_KNOWN, []).columns)


@pytest.fixture
def conn(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        rows.person(connection, 1)
        yield connection


# ------------------------------------------------------------------------------- what may happen


@dataclass(frozen=True, slots=True)
class Reply:
    """A call of the night of its day: values of one line."""

    provider: str
    values: dict[str, tuple[str, str]]
    age_days: int


@dataclass(frozen=True, slots=True)
class Edit:
    """The CRM's row of one contact has changed."""

    contact_id: str
    columns: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Erase:
    """The n-th observation of all is erased."""

    number: int


@dataclass(frozen=True, slots=True)
class Leave:
    """A contact leaves the source, or comes back."""

    contact_id: str


# Small pools, so that equal values, ties and shared employers are common.
DOMAINS = st.sampled_from(["acme.com", "globex.com"])
COMPANIES = st.sampled_from(["Acme", "Acme, Inc.", "Acme Labs", "Globex"])
TITLES = st.sampled_from(["CTO", "VP Sales"])
EMAILS = st.sampled_from(["a@acme.com", "b@acme.com", "a@globex.com"])
STATUSES = st.sampled_from(
    ["verified", "verified", "catch_all", "unverified", "unknown", "invalid"]
)
VALUES = {
    "work_email": EMAILS,
    "phone": st.sampled_from(["+491", "+492"]),
    "personal_email": st.just("a@home.example"),
    "job_title": TITLES,
    "company_name": COMPANIES,
    "company_domain": DOMAINS,
    "location": st.sampled_from(["Oslo", "Lima"]),
    "linkedin_url": st.just("https://www.linkedin.com/in/a"),
}
TIMES = st.none() | st.sampled_from([START - timedelta(days=days) for days in (0, 3, 300)])
CONTACTS = ("c1", "c2")
CONTACT_IDS = st.sampled_from(CONTACTS)
REPLIES = st.builds(
    Reply,
    st.sampled_from(PROVIDERS),
    st.fixed_dictionaries({}, optional={a: st.tuples(v, STATUSES) for a, v in VALUES.items()}),
    st.sampled_from([0, 0, 1, 200]),
)
CRM_ROW = {
    "full_name": st.none() | st.sampled_from(["Ada Roe", "Ada Poe"]),
    "email": st.none() | EMAILS,
    "email_verified_at": TIMES,
    "phone": st.none() | st.just("+490"),
    "phone_verified_at": TIMES,
    "personal_email_consent": st.booleans(),
    "job_title": st.none() | TITLES,
    "company_name": st.none() | COMPANIES,
    "company_domain": st.none() | DOMAINS,
    "profile_verified_at": TIMES,
    "segment": st.none() | st.just("smb"),
}
EDITS = st.builds(Edit, CONTACT_IDS, st.fixed_dictionaries({}, optional=CRM_ROW))
EVENTS = st.lists(
    REPLIES | REPLIES | EDITS | st.builds(Erase, st.integers(1, 6)) | st.builds(Leave, CONTACT_IDS),
    min_size=1,
    max_size=6,
)


class World:
    """Lets things happen to the database, and remembers them for the replay."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._said: list[replay.Said] = []
        self._crm: dict[str, dict[str, Any]] = {}
        self._gone: set[str] = set()
        self.states: dict[str, list[tuple[datetime, replay.State | None]]] = {}
        for contact_id in CONTACTS:
            rows.contact(conn, contact_id, 1)
            self._crm[contact_id] = dict(replay.NOTHING_KNOWN)
            self.states[contact_id] = []

    def happen(self, event: Reply | Edit | Erase | Leave | None, at: datetime) -> None:
        match event:
            case Reply():
                self._reply(event, at)
            case Edit(contact_id, columns):
                self._crm[contact_id] |= columns
                self._edit(contact_id, columns)
            case Erase(number):
                self._conn.execute(
                    text("""
                        update enrichment.observations set value = null, erased_at = now(),
                            is_winner = false where observation_id = :id
                    """),
                    {"id": number},
                )
                self._said = [s for s in self._said if s.observation_id != number]
            case Leave(contact_id):
                self._gone ^= {contact_id}
                self._edit(contact_id, {"removed_at": at if contact_id in self._gone else None})
        remerge(self._conn, POLICY, list(CONTACTS), at)
        for contact_id, row in self._crm.items():
            known = None if contact_id in self._gone else replay.state(row, self._said)
            self.states[contact_id].append((at, known))

    def _reply(self, reply: Reply, at: datetime) -> None:
        line_id = len(self.states["c1"])
        rows.call(self._conn, line_id, reply.provider, at.date())
        rows.line(self._conn, line_id, line_id, 1, reply.provider)
        observed_at = at - timedelta(days=reply.age_days)
        for attribute, (value, status) in reply.values.items():
            number = (
                1
                + self._conn.execute(
                    text("select coalesce(max(observation_id), 0) from enrichment.observations")
                ).scalar_one()
            )
            rows.observation(
                self._conn, number, 1, attribute, value, reply.provider, line_id, observed_at,
                status=status, call_id=line_id,
            )  # fmt: skip
            order = list(POLICY.fields[FIELD_OF[Attribute(attribute)]].waterfall)
            rank = order.index(reply.provider) + 1 if reply.provider in order else 1000
            self._said.append(
                replay.Said(
                    number, line_id, attribute, value, status, reply.provider, rank, observed_at,
                    at.date(),
                )
            )  # fmt: skip

    def _edit(self, contact_id: str, columns: dict[str, Any]) -> None:
        for name, value in columns.items():
            self._conn.execute(
                text(f"update enrichment.contacts set {name} = :v where contact_id = :id"),  # noqa: S608
                {"v": value, "id": contact_id},
            )


# ------------------------------------------------------------------------------- the property


def known_at(conn: Connection, moment: datetime) -> dict[str, dict[str, Any]]:
    query = text("select * from analytics.contacts_as_of(:moment)")
    return {
        row["contact_id"]: {c: row[c] for c in COLUMNS}
        for row in conn.execute(query, {"moment": moment}).mappings()
    }


def history(conn: Connection, contact_id: str) -> list[Row[Any]]:
    query = "select * from analytics.dim_contact_history where contact_id = :id order by valid_from"
    return list(conn.execute(text(query), {"id": contact_id}))


def changes(conn: Connection, version_id: int) -> dict[str, tuple[Any, ...]]:
    query = text("""
        select field, kind, old_value, new_value, status, source, observation_id, partition_date
        from analytics.fct_contact_changes where contact_version_id = :id
    """)
    return {row.field: tuple(row)[1:] for row in conn.execute(query, {"id": version_id})}


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(events=EVENTS)
def test_what_was_known_at_a_moment_is_a_replay_of_what_had_happened(
    conn: Connection, events: list[Reply | Edit | Erase | Leave]
) -> None:
    with conn.begin_nested() as attempt:
        world = World(conn)
        moments = [START + n * HOUR for n in range(len(events) + 1)]
        for event, at in zip([None, *events], moments, strict=True):
            world.happen(event, at)

        for n, at in enumerate(moments):
            wanted = {
                contact_id: known.columns
                for contact_id, states in world.states.items()
                if (known := states[n][1]) is not None
            }
            assert known_at(conn, at) == wanted
            assert known_at(conn, at + HOUR - timedelta(microseconds=1)) == wanted
        assert known_at(conn, START - timedelta(microseconds=1)) == {}
        for contact_id, states in world.states.items():
            assert_history(conn, contact_id, replay.versions(states))
        attempt.rollback()


def assert_history(conn: Connection, contact_id: str, wanted: list[replay.Version]) -> None:
    found = history(conn, contact_id)
    assert [
        (sorted(v.changed_fields), v.valid_from, v.valid_to, v.is_job_change) for v in found
    ] == [(w.changed, w.begins, w.ends, w.is_job_change) for w in wanted]
    assert sum(v.is_current for v in found) == (wanted[-1].ends is None)
    for version, expected in zip(found, wanted, strict=True):
        assert changes(conn, version.contact_version_id) == expected.changes


# ------------------------------------------------------------------------------- single rules


class Story:
    """One contact, and replies about its person one after another."""

    def __init__(self, conn: Connection, **crm: Any) -> None:
        self._conn = conn
        self._line = 0
        self.now = START
        rows.contact(conn, "c1", 1, created_at=START, **crm)
        remerge(conn, POLICY, ["c1"], self.now)

    def reply(self, provider: str = "prospeo", status: str = "verified", **values: str) -> None:
        """A reply of now; `age_days` may be among the values."""
        self.now += HOUR
        self._line += 1
        at = self.now - timedelta(days=int(values.pop("age_days", "0")))
        rows.call(self._conn, self._line, provider, self.now.date())
        rows.line(self._conn, self._line, self._line, 1, provider)
        for number, (attribute, value) in enumerate(values.items(), start=10 * self._line):
            rows.observation(
                self._conn, number, 1, attribute, value, provider, self._line, at, status=status,
                call_id=self._line,
            )  # fmt: skip
        remerge(self._conn, POLICY, ["c1"], self.now)

    def kinds(self) -> dict[str, str]:
        """What the latest version changed, by field."""
        latest = history(self._conn, "c1")[-1].contact_version_id
        return {name: change[0] for name, change in changes(self._conn, latest).items()}

    def job_changes(self) -> list[Row[Any]]:
        query = text("select * from analytics.fct_job_changes order by changed_at")
        return list(self._conn.execute(query))


def test_what_the_source_came_with_is_no_change(conn: Connection) -> None:
    story = Story(conn, full_name="Ada Roe", phone="+490", company_name="Acme")

    assert story.kinds() == {}


def test_a_new_contact_of_a_known_person_tells_who_brought_its_values(conn: Connection) -> None:
    story = Story(conn)
    story.reply(phone="+491")
    rows.contact(conn, "c2", 1, full_name="Ada Roe")
    remerge(conn, POLICY, ["c2"], story.now)

    version = history(conn, "c2")[0].contact_version_id
    filled = ("filled", None, "+491", "verified", "prospeo", 10, story.now.date())
    assert changes(conn, version) == {"phone": filled}


def test_kinds_of_changes(conn: Connection) -> None:
    story = Story(conn)
    story.reply(phone="+491", age_days="2")
    assert story.kinds() == {"phone": "filled"}
    story.reply(phone="+491")
    assert story.kinds() == {"phone": "confirmed"}
    story.reply(phone="+492")
    assert story.kinds() == {"phone": "corrected"}
    conn.execute(
        text("""
            update enrichment.observations
            set value = null, erased_at = now(), is_winner = false
        """)
    )
    remerge(conn, POLICY, ["c1"], story.now + HOUR)
    assert story.kinds() == {"phone": "lost"}


def test_a_value_that_is_now_verified_is_confirmed_although_the_sighting_is_older(
    conn: Connection,
) -> None:
    story = Story(conn)
    story.reply("lance", status="unknown", phone="+491")
    story.reply("prospeo", phone="+491", age_days="9")

    assert story.kinds() == {"phone": "confirmed"}


def test_what_the_crm_lends_a_profile_is_vouched_for_by_the_crm(conn: Connection) -> None:
    story = Story(conn, company_name="Acme")
    story.reply(job_title="CTO", company_name="Acme")
    conn.execute(text("update enrichment.contacts set company_domain = 'acme.com'"))
    remerge(conn, POLICY, ["c1"], story.now + HOUR)

    version = history(conn, "c1")[-1].contact_version_id
    lent = ("filled", None, "acme.com", "unverified", "crm", None, None)
    assert changes(conn, version) == {"company_domain": lent}


def test_a_job_change_closes_the_work_email_and_is_an_event(conn: Connection) -> None:
    story = Story(conn, full_name="Ada Roe", segment="smb")
    acme = {"job_title": "CTO", "company_name": "Acme", "company_domain": "acme.com"}
    story.reply(**acme, work_email="ada@acme.com", phone="+491", age_days="5")
    assert story.job_changes() == []

    story.reply("agntdata", job_title="CTO", company_name="Globex", company_domain="globex.com")

    assert story.kinds() == {
        "company_name": "job_change",
        "company_domain": "job_change",
        "job_title": "confirmed",
    }
    event = story.job_changes()[0]
    assert (event.old_company_name, event.company_name) == ("Acme", "Globex")
    assert (event.old_company_domain, event.company_domain) == ("acme.com", "globex.com")
    assert (event.old_job_title, event.job_title) == ("CTO", "CTO")
    assert (event.old_work_email, event.work_email) == ("ada@acme.com", None)
    assert (event.source, event.segment, event.changed_at) == ("agntdata", "smb", story.now)
    query = "select is_work_email_outdated, next_refresh_at from analytics.dim_contacts"
    is_outdated, due = conn.execute(text(query)).one()
    assert is_outdated
    assert due <= story.now, "a new work e-mail is asked for in the next night"

    story.reply(work_email="ada@globex.com")
    assert [e.work_email for e in story.job_changes()] == ["ada@globex.com"]


@pytest.mark.parametrize(
    ("old", "new", "is_move"),
    [
        (("Acme", None), ("Acme, Inc.", "acme.com"), False),
        (("Acme Inc", "acme.com"), ("Acme", "acme.io"), False),
        (("Acme", "acme.com"), ("Acme Holding", "acme.com"), False),
        (("Acme", None), ("Acmeister", None), True),
        (("Opal Anchor", None), ("Opalanchor", None), False),
        (("Opal Anchor, Inc.", None), ("Opalanchor", "opalanchor.com"), False),
        (("Opalanchor", None), ("Opal Anchors", None), True),
        (("Acme", "acme.com"), ("Globex", None), True),
        (("アクメ", None), ("グローベックス", None), True),
        ((None, "acme.com"), (None, "globex.com"), True),
        ((None, None), ("Globex", "globex.com"), False),
        (("Acme Ltd", "acme.co.uk"), ("Acme", "acme.com"), False),
        (("Acme Ltd", None), ("Acme Ltd.", None), False),
        (("Delta", "delta.com"), ("Delta Dental", "deltadental.com"), False),
        (("Acme", "acme.com"), ("Globex", "globex.com"), True),
    ],
)
def test_another_spelling_of_the_company_is_no_job_change_and_outdates_no_address(
    conn: Connection,
    old: tuple[str | None, str | None],
    new: tuple[str | None, str | None],
    is_move: bool,
) -> None:
    story = Story(conn)
    story.reply(work_email=f"ada@{old[1] or 'acme.com'}")
    for name, domain in (old, new):
        given = {"company_name": name, "company_domain": domain, "job_title": "CTO"}
        story.reply(**{k: v for k, v in given.items() if v})

    assert bool(story.job_changes()) is is_move
    query = text("select is_work_email_outdated from analytics.dim_contacts")
    assert conn.execute(query).scalar_one() is (is_move and old[1] is not None)


def test_an_older_sighting_is_no_job_change(conn: Connection) -> None:
    story = Story(conn)
    story.reply(status="unverified", job_title="CTO", company_name="Globex")
    story.reply(job_title="CTO", company_name="Acme", age_days="300")

    assert story.kinds()["company_name"] == "corrected"
    assert story.job_changes() == []


def test_a_contact_has_one_current_version(conn: Connection) -> None:
    Story(conn)
    again = """
        insert into analytics.dim_contact_history (contact_id, is_work_email_outdated,
            is_suppressed, changed_fields, valid_from)
        values ('c1', false, false, '{}', :now)
    """
    with pytest.raises(IntegrityError, match="dim_contact_history_"):
        conn.execute(text(again), {"now": START + HOUR})
