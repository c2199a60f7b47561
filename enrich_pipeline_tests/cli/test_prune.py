"""enrich prune: what it would remove, what it removes, and that it says so."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from .conftest import Enrich

OLD = datetime.now(UTC) - timedelta(days=100)
_CALL = """
    with called as (
        insert into enrichment.calls (provider, call_group, state, partition_date, batch,
            spend_date, run_id, persons, hold_micro, prices, usd_micro_per_credit, lease_until,
            items, token_hash, closed_at)
        values ('lance', '', :state, :old, 0, :old, 'r', 1, 0, '{}', 0, :old, '[]',
            sha256(convert_to(:state, 'UTF8')), case :state when 'accepted' then null else :old end)
        returning call_id, token_hash
    ), reply as (
        insert into enrichment.replies (call_id, settlement, received_at, responses, body_sha256,
            applied_at)
        select call_id, 'submit', :old, '["a reply"]', '', :old from called
    )
    insert into enrichment.inbox (provider, token_hash, body, body_sha256, received_at, state)
    select 'lance', token_hash, 'a delivery', '', :old, 'applied' from called
"""
_MORE = (
    "insert into enrichment.inbox (provider, token_hash, body, body_sha256, received_at, state, "
    "reason) values ('lance', '', 'a stranger', '', :old, 'quarantined', 'unknown_token')",
    "insert into enrichment.skips (partition_date, person_id, field, provider, reason) "
    "select :old, n, 'phone', 'lance', 'not_eligible' from generate_series(1, 1007) as n",
    "insert into enrichment.rejects_files values (:path, 1, :old)",
)
KEPT = """
    select (select string_agg(state, ' ' order by state) from enrichment.replies
            join enrichment.calls using (call_id) where responses is not null),
        (select count(*) from enrichment.inbox where body is not null),
        (select count(*) from enrichment.calls where items is not null),
        (select count(*) from enrichment.skips), (select count(*) from enrichment.rejects_files)
"""
FULL = ("accepted settled written_off", 4, 3, 1007, 1)
TOLD = [
    "raw_replies 2",
    "requests 1",
    "deliveries 2",
    "strangers 1",
    "skips 1,007",
    "rejects_files 1",
    "reports 1",
]
NOTHING = [f"{line.split()[0]} 0" for line in TOLD]


@pytest.fixture
def files(folder: Path) -> list[Path]:
    """Rejected rows, and a page of a night; the page is older than the longest time of all."""
    rejects, page = folder / "crm.csv.rejects.csv", folder / ".enrich" / "reports" / "old.html"
    page.parent.mkdir(parents=True)
    for path in (rejects, page):
        path.write_text("a value")
        moment = (OLD - timedelta(days=300)).timestamp()
        os.utime(path, (moment, moment))
    return [rejects, page]


@pytest.fixture
def kept(engine: Engine, files: list[Path]) -> None:
    """Something old of every kind, and of a call that is still open."""
    parameters = {"old": OLD, "path": str(files[0].resolve())}
    with engine.begin() as conn:
        for state in ("settled", "written_off", "accepted"):
            conn.execute(text(_CALL), {"state": state, **parameters})
        for statement in _MORE:
            used = {k: v for k, v in parameters.items() if f":{k}" in statement}
            conn.execute(text(statement), used)


def left(engine: Engine) -> tuple[object, ...]:
    with engine.connect() as conn:
        return tuple(conn.execute(text(KEPT)).one())


@pytest.mark.usefixtures("kept")
def test_a_dry_run_says_what_would_go_and_a_real_one_removes_exactly_that(
    enrich: Enrich, with_database: dict[str, str], engine: Engine, files: list[Path]
) -> None:
    dry = enrich("prune", "--dry-run", **with_database)
    assert (dry.returncode, dry.stderr) == (0, "")
    assert dry.stdout.splitlines() == [*TOLD, "Nothing was removed: this was a dry run."]
    assert left(engine) == FULL
    assert all(path.exists() for path in files)

    real = enrich("prune", **with_database)
    assert real.returncode == 0, real.stderr
    assert real.stdout.splitlines() == [*TOLD, "Removed."]
    assert left(engine) == ("accepted", 1, 2, 0, 0), "what an open call needs stays"
    assert not any(path.exists() for path in files)

    again = enrich("prune", **with_database)
    assert (again.returncode, again.stdout.splitlines()) == (0, [*NOTHING, "Removed."])


@pytest.mark.usefixtures("kept")
def test_what_the_configuration_keeps_longer_stays(
    enrich: Enrich, with_database: dict[str, str], engine: Engine, folder: Path
) -> None:
    (folder / "own.yaml").write_text(
        "retention: {raw_replies_days: 900, requests_days: 900, inbox_days: 900, skips_days: 900, "
        "rejects_days: 900, reports_days: 900}"
    )
    done = enrich("prune", **with_database, ENRICH_CONFIG="own.yaml")
    assert (done.returncode, done.stdout.splitlines()) == (0, [*NOTHING, "Removed."])
    assert left(engine) == FULL


def test_a_time_that_is_no_number_of_days_removes_nothing(
    enrich: Enrich, with_database: dict[str, str], folder: Path
) -> None:
    (folder / "own.yaml").write_text("retention: {raw_replies_days: -1}")
    done = enrich("prune", **with_database, ENRICH_CONFIG="own.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "raw_replies_days" in done.stderr
