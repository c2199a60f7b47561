"""Rules of what may be sent of a person when several processes work it out at once."""

import threading

from sqlalchemy import Engine, text

from enrich_pipeline.store import decisions
from enrich_pipeline.store.person_inputs import refresh_inputs
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
