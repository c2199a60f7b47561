"""Retention: what is old goes, in chunks; what an open call needs, and the books, stay."""

import os
from collections.abc import Callable
from datetime import timedelta

import pytest

from enrich_pipeline.store import retention

from ..support.lab import Lab, contacts, only
from .conftest import Open
from .test_webhooks import delivery

COUNTS = {
    "replies": "select count(*) from enrichment.replies where responses is not null",
    "open replies": "select count(*) from enrichment.replies as r join enrichment.calls using "
    "(call_id) where r.responses is not null and closed_at is null",
    "bodies": "select count(*) from enrichment.inbox where body is not null",
    "inbox": "select count(*) from enrichment.inbox",
    "requests": "select count(*) from enrichment.calls where items is not null",
    "skips": "select count(*) from enrichment.skips",
    "ledger": "select count(*) from enrichment.ledger_entries",
    "observations": "select count(*) from enrichment.observations where value is not null",
    "attempts": "select count(*) from enrichment.attempts",
}

CONFIGURATION = {
    **only({"work_email": ["pronto"], "phone": ["lance"], "profile": ["prospeo"]}),
    "providers": {"pronto": {"await_seconds": 1}, "lance": {"await_seconds": 0}},
}


def counts(lab: Lab) -> dict[str, int]:
    return {name: lab.one(query) for name, query in COUNTS.items()}


def prune(lab: Lab, days: int) -> dict[str, int]:
    policy = lab.settings.policy.retention
    moment = lab.now + timedelta(days=days)
    told = retention.due(lab.engine, lab.settings.home, policy, moment)
    removed = retention.prune(lab.engine, lab.settings.home, policy, moment)
    assert removed == told, "a dry run says what would go"
    return {kind: count for kind, count in removed.items() if count}


@pytest.fixture
def lab(open_lab: Open) -> Lab:
    """A night with a call in flight at Lance, one written off at Pronto, a stranger's delivery."""
    lab = open_lab(CONFIGURATION)
    lab.sandbox.faults({"provider": "pronto", "kind": "lose_webhook"})
    lab.night(contacts(range(6), country_code=""))
    lab.sandbox.wait_for_deliveries()
    with lab.waterfall() as waterfall:
        waterfall.sweep()
    for clock in ("deadline_at", "write_off_at"):
        lab.overdue(clock, "pronto")
        lab.sweep()
    lab.deliver(
        lab.one("select min(call_id) from enrichment.calls where provider = 'pronto'"),
        delivery(1, "p1"),
        token="0" * 64,
    )
    lab.sql(
        "insert into enrichment.skips (partition_date, person_id, field, provider, reason) "
        "select :day, n, 'phone', 'lance', 'not_eligible' from generate_series(1, 7) as n",
        day=lab.today,
    )
    assert lab.states("pronto") == {"written_off": 1}
    assert lab.states("lance") == {"accepted": 1}
    return lab


def test_nothing_goes_before_its_time(lab: Lab) -> None:
    before = counts(lab)
    assert prune(lab, 29) == {}
    assert counts(lab) == before


def test_what_is_old_goes_and_what_an_open_call_needs_stays(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "CHUNK", 2)
    lab.sql("update enrichment.calls set in_doubt_at = now() where provider = 'lance'")
    before = counts(lab)
    assert before["open replies"] == 1
    assert prune(lab, 31) == {
        "raw_replies": before["replies"] - 1,
        "deliveries": before["bodies"] - 1,
        "strangers": 1,
    }
    after = counts(lab)
    assert after == before | {"replies": 1, "bodies": 0, "inbox": before["inbox"] - 1}
    hashes = "select count(*) from enrichment.replies where body_sha256 is not null"
    assert lab.one(hashes) == before["replies"]

    assert prune(lab, 61) == {"requests": 1}
    assert prune(lab, 91) == {"skips": before["skips"]}
    assert prune(lab, 91) == {}
    last = counts(lab)
    assert last == after | {"requests": 1, "skips": 0}
    assert [last[k] for k in ("ledger", "observations", "attempts")] == [
        before[k] for k in ("ledger", "observations", "attempts")
    ]
    # The call in flight was left all that it takes to come home.
    lab.until("select count(*) = 0 from enrichment.calls where next_poll_at > clock_timestamp()")
    lab.drain()
    assert lab.states("lance") == {"settled": 1}
    lab.assert_books()


def test_a_repetition_of_a_delivery_whose_body_went_is_still_told(lab: Lab) -> None:
    call_id, key = lab.sql(
        "select call_id, item_key from enrichment.charge_lines "
        "where provider = 'pronto' and state = 'posted' limit 1"
    )[0]
    body = delivery(int(key[1:]) - 1, f"{key}.{call_id}", "second@copperfox1.com")
    lab.deliver(call_id, body)
    lab.sweep()
    prune(lab, 31)
    before = lab.one("select count(*) from enrichment.inbox")
    lab.deliver(call_id, body)
    # The receiver counts after it has answered.
    lab.until("select max(deliveries) = 2 from enrichment.inbox")
    assert lab.one("select count(*) from enrichment.inbox") == before


def test_old_files_go(lab: Lab, touch: Callable[[str, int], None]) -> None:
    touch("2020-01-01.html", 400)
    touch("2026-01-01.html", 10)
    rejects = lab.folder / "crm.csv.rejects.csv"
    rejects.write_text("line,contact_id,reason,row\n")
    lab.sql(
        "insert into enrichment.rejects_files (path, rejects, written_at) values (:p, 1, :now)",
        p=str(rejects),
        now=lab.now,
    )
    assert prune(lab, 0) == {"reports": 1}
    assert prune(lab, 31)["rejects_files"] == 1
    assert not rejects.exists()
    assert [path.name for path in (lab.settings.home / "reports").iterdir()] == ["2026-01-01.html"]


@pytest.fixture
def touch(lab: Lab) -> Callable[[str, int], None]:
    """A page of so many days ago."""

    def touch(name: str, days: int) -> None:
        path = lab.settings.home / "reports" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("<p></p>")
        moment = (lab.now - timedelta(days=days)).timestamp()
        os.utime(path, (moment, moment))

    return touch
