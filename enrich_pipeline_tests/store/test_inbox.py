"""Rules of the webhook inbox where several are at it: receivers, and whoever applies deliveries."""

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import Connection, Engine, text

from enrich_pipeline.store import inbox

from .waits import until_somebody_waits

LETTERS = [inbox.Arrival("pronto", b"t" * 32, body) for body in (b"one", b"two", b"three", b"four")]
NUMBERED = (
    "select delivery_id, provider, token_hash, body_sha256 from enrichment.inbox "
    "order by delivery_id"
)

Deed = Callable[[Connection, list[int], list[inbox.Key]], object]


def count(conn: Connection, _: list[int], keys: list[inbox.Key]) -> None:
    inbox.count_repetitions(conn, dict.fromkeys(keys, 1))


def mark(conn: Connection, ids: list[int], _: list[inbox.Key]) -> None:
    inbox.mark(conn, dict.fromkeys(ids, ("applied", None)))


@pytest.mark.parametrize("deed", [count, mark])
def test_who_changes_several_deliveries_waits_for_the_first_with_none_of_the_others_in_hand(
    engine: Engine, deed: Deed
) -> None:
    with engine.begin() as conn:
        inbox.put_all(conn, LETTERS)
        rows = conn.execute(text(NUMBERED)).all()
    ids = [int(r.delivery_id) for r in rows]
    keys = [(r.provider, bytes(r.token_hash), bytes(r.body_sha256)) for r in rows]

    def change() -> None:
        with engine.begin() as conn:
            deed(conn, ids[::-1], keys[::-1])

    changing = threading.Thread(target=change)
    with engine.connect() as holder:
        lock = text(
            "select 1 from enrichment.inbox where delivery_id = :id for no key update nowait"
        )
        holder.execute(lock, {"id": ids[0]})
        changing.start()
        until_somebody_waits(engine)
        for other in ids[1:]:
            holder.execute(lock, {"id": other})
    changing.join()


def test_every_repetition_is_counted_once_whoever_else_has_the_delivery(engine: Engine) -> None:
    with engine.begin() as conn:
        assert inbox.put_all(conn, LETTERS) == {}
    with engine.begin() as conn:
        again = inbox.put_all(conn, [*LETTERS, LETTERS[0]])
    assert again == {each.key: 2 if each is LETTERS[0] else 1 for each in LETTERS}
    counting = threading.Thread(target=lambda: _count(engine, again))
    with engine.begin() as other:
        inbox.count_repetitions(other, {LETTERS[0].key: 10})
        counting.start()
        until_somebody_waits(engine)
    counting.join()
    with engine.connect() as conn:
        query = "select deliveries from enrichment.inbox order by delivery_id"
        counted = sorted(conn.execute(text(query)).scalars())
    assert counted == [2, 2, 2, 1 + 2 + 10]


def _count(engine: Engine, repetitions: dict[inbox.Key, int]) -> None:
    with engine.begin() as conn:
        inbox.count_repetitions(conn, repetitions)
