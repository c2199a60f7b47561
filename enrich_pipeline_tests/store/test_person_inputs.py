"""Rules of what may be sent of a person: who is blocked, and several processes at once."""

import threading
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection, Engine, text

from enrich_pipeline.store import decisions
from enrich_pipeline.store.person_inputs import blocked, refresh_inputs
from enrich_pipeline_tests.store import rows
from enrich_pipeline_tests.store.waits import until_somebody_waits


def test_a_settlement_that_began_before_does_not_undo_a_suppression(engine: Engine) -> None:
    with engine.begin() as conn:
        rows.person(conn, 1)
        rows.contact(conn, "c1", 1, email="a@acme.com")
        refresh_inputs(conn, [1])

    def settle() -> None:
        with engine.begin() as conn:
            refresh_inputs(conn, [1])

    settling = threading.Thread(target=settle)
    with engine.begin() as conn:
        decisions.suppress(conn, [("contact", "c1")], "asked for")
        refresh_inputs(conn, [1])
        settling.start()
        until_somebody_waits(engine)
    settling.join()
    with engine.connect() as conn:
        blocked = text("select is_blocked from enrichment.person_inputs where person_id = 1")
        assert conn.execute(blocked).scalar_one() is True


WHEN = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
def observed(engine: Engine) -> Engine:
    """Person 1, and 2 who was merged into it: of each a provider has spoken."""
    with engine.begin() as conn:
        rows.person(conn, 1)
        rows.person(conn, 2, merged_into=1)
        rows.contact(conn, "c1", 1, email="a@acme.com")
        rows.call(conn, 1, "prospeo", WHEN.date())
        rows.line(conn, 1, 1, 1, "prospeo")
        refresh_inputs(conn, [1])
    return engine


def observe(
    conn: Connection, attribute: str, value: str, person: int = 1, **columns: str | None
) -> None:
    rows.observation(conn, 7, person, attribute, value, "prospeo", 1, WHEN, **columns)


@pytest.mark.parametrize("person", [1, 2], ids=["own", "of a merged person"])
@pytest.mark.parametrize(
    "fate",
    [
        {},
        {"rejected_reason": "older"},
        {"rejected_reason": "no_contact"},
        {"rejected_reason": "invalid", "status": "invalid"},
    ],
    ids=["wins", "older", "no contact", "invalid"],
)
@pytest.mark.parametrize(
    ("attribute", "value", "identifier"),
    [
        ("work_email", "a@bought.com", ("email", "a@bought.com")),
        ("personal_email", "a@private.org", ("email", "a@private.org")),
        ("linkedin_url", "https://www.linkedin.com/in/a-b", ("linkedin", "a-b")),
    ],
)
def test_whatever_became_of_an_observation_it_blocks_whom_it_is_about(
    observed: Engine,
    attribute: str,
    value: str,
    identifier: tuple[str, str],
    fate: dict[str, str],
    person: int,
) -> None:
    with observed.begin() as conn:
        decisions.suppress(conn, [identifier], "asked for")
        refresh_inputs(conn, [1])
        assert blocked(conn, [1]) == set()
        # Suppressed before a provider says it: who it is shows only then.
        observe(conn, attribute, value, person, **fate)
        refresh_inputs(conn, [1])
        assert blocked(conn, [1]) == {1}
        assert decisions.contacts_of(conn, [identifier]) == {"c1": 1}


def test_what_was_said_of_somebody_else_blocks_nobody(observed: Engine) -> None:
    with observed.begin() as conn:
        decisions.suppress(conn, [("email", "b@bought.com")], "asked for")
        observe(conn, "work_email", "b@bought.com", rejected_reason="other_person")
        refresh_inputs(conn, [1])
        assert blocked(conn, [1]) == set()


def test_an_address_blocks_only_as_an_address(observed: Engine) -> None:
    with observed.begin() as conn:
        decisions.suppress(conn, [("linkedin", "a@acme.com"), ("email", "a-b")], "asked for")
        observe(conn, "linkedin_url", "https://www.linkedin.com/in/a-b")
        refresh_inputs(conn, [1])
        assert blocked(conn, [1]) == set()
