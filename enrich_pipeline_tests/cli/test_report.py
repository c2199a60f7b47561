"""enrich report: where the page goes, and what is said when there is none."""

import stat
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from .conftest import Enrich

LAST, BEFORE = date(2026, 5, 2), date(2026, 5, 1)


@pytest.fixture
def nights(engine: Engine) -> None:
    """Two nights that found nobody stale."""
    with engine.begin() as conn:
        for day in (BEFORE, LAST):
            conn.execute(
                text("""
                    insert into enrichment.plan_nights
                        (partition_date, as_of, contacts_cap, batches)
                    values (:day, :now, 10, 4)
                """),
                {"day": day, "now": datetime.now(UTC)},
            )


@pytest.mark.usefixtures("nights")
def test_the_last_night_goes_to_the_home_and_only_its_owner_reads_it(
    enrich: Enrich, with_database: dict[str, str], folder: Path
) -> None:
    done = enrich("report", **with_database)

    page = folder / ".enrich" / "reports" / f"{LAST}.html"
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{page.resolve()} (" in done.stdout
    assert "It cost $0.00." in done.stdout
    assert "Saturday, 2 May 2026" in page.read_text()
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    assert [each.name for each in page.parent.iterdir()] == [page.name]


@pytest.mark.usefixtures("nights")
def test_another_night_goes_to_the_file_that_is_named(
    enrich: Enrich, with_database: dict[str, str], folder: Path
) -> None:
    done = enrich("report", "--date", f"{BEFORE}", "--out", "mine/night.html", **with_database)

    assert done.returncode == 0, done.stderr
    assert "Friday, 1 May 2026" in (folder / "mine" / "night.html").read_text()
    assert not (folder / ".enrich" / "reports").exists()


def test_before_the_first_night_the_error_names_the_command(
    enrich: Enrich, with_database: dict[str, str]
) -> None:
    done = enrich("report", **with_database)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "Error: there was no night yet, so there is nothing to report: run `enrich refresh`\n"
    )


@pytest.mark.usefixtures("nights")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--date", "2026-04-30"), "run `enrich refresh --date 2026-04-30`"),
        (("--date", "yesterday"), "'yesterday' does not match the format"),
        (("--out", "/proc/night.html"), "cannot write /proc/night.html"),
        (("--out", "/tmp"), "is a directory"),
    ],
)
def test_what_cannot_be_reported_or_written_is_exit_code_2_and_one_reason(
    enrich: Enrich, with_database: dict[str, str], arguments: tuple[str, ...], told: str
) -> None:
    done = enrich("report", *arguments, **with_database)

    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr
