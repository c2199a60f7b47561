"""enrich refresh: the nightly job, from the command line."""

import signal
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Any

import click
from sqlalchemy import Engine

from enrich_pipeline.cli import log, night, sandboxed, session, terminal
from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.orchestration import dagster_home
from enrich_pipeline.orchestration.launch import Job, Launcher
from enrich_pipeline.reports.morning import file
from enrich_pipeline.settings import Settings
from enrich_pipeline.store import nights, plan, switch
from enrich_pipeline.waterfall import planning
from enrich_pipeline.waterfall.reachability import Reachability
from enrich_pipeline.webhooks import embedded

_LOOK_EVERY_SECONDS = 0.5
_PAUSES_PER_LOOK = 50
"""Counting a large night takes seconds: looking at it takes 2 % of the time at most."""
DONE, FAILED, OPEN = 0, 1, 3


@click.command()
@click.option(
    "--date",
    "given_day",
    type=click.DateTime(["%Y-%m-%d"]),
    help="The night (default: today, UTC).",
)
@click.option(
    "--batch", "given_batches", multiple=True, help="Only this batch, e.g. 00; repeatable."
)
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    help="Plan at most this many contacts for the night. Of a date's first run only: its plan, and "
    "with it this limit, is that of all its runs, scheduled ones too.",
)
@click.option("--dry-run", is_flag=True, help="Plan and price without a single call.")
def command(
    given_day: datetime | None, given_batches: tuple[str, ...], limit: int | None, dry_run: bool
) -> int:
    """Run the nightly job for a date, on all or some batches, through Dagster.

    Safe to run again at any time, and beside a running Dagster: what was bought is not bought
    again, what is pending is continued.

    \b
    Examples:
      enrich refresh --dry-run
      enrich refresh --limit 100
      enrich refresh --date 2026-11-20 --batch 00 --batch 03

    Interrupted, it finishes what is in flight, sends nothing more and ends; interrupted twice, it
    ends at once and leaves calls in doubt.

    Exit codes: 0 done; 3 done, with results still pending or sending paused; 2
    wrong usage or configuration; 1 failed.
    """
    # A machine that goes down asks as politely as a terminal does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settings = session.load()
    day = _day(settings, given_day.date() if given_day else None)
    batches = _batches(settings, given_batches)
    if dry_run:
        with session.database(settings) as engine:
            _say_limit(engine, day, limit)
            night.show_price(engine, settings, day, limit, batches)
        return DONE
    settings.require_spendable()
    # The processes that batches run in get the environment of this moment.
    launcher = Launcher(dagster_home.prepare(settings), log.folder(settings.home) / "dagster.log")
    with (
        session.database(settings) as engine,
        embedded.receiving(
            settings.database_url, list(settings.providers), settings.webhook_public_url
        ),
    ):
        sandboxed.refuse_real_providers(engine, settings)
        _say_limit(engine, day, limit)
        return _refresh(settings, engine, launcher, day, batches, limit)


def _day(settings: Settings, given: date | None) -> date:
    today = datetime.now(UTC).date()
    day = given or today
    if day > today:
        raise ConfigurationError(f"--date {day} is in the future; today is {today} (UTC)")
    first = settings.policy.refresh.start_date
    if day < first:
        raise ConfigurationError(f"--date {day} is before refresh.start_date, {first}")
    return day


def _batches(settings: Settings, given: Sequence[str]) -> list[int]:
    number = settings.policy.refresh.batches
    known = [f"{batch:02d}" for batch in range(number)]
    wrong = [each for each in given if each.zfill(2) not in known]
    if wrong:
        raise ConfigurationError(f"--batch {wrong[0]}: batches are {known[0]} to {known[-1]}")
    return sorted({int(each) for each in given}) or list(range(number))


def _say_limit(engine: Engine, day: date, limit: int | None) -> None:
    """Say that a limit changes nothing of a night that is planned.

    Raises ConfigurationError where the plan takes more: whoever says 10 must not pay for 10,000.
    """
    with engine.connect() as connection:
        planned = plan.night(connection, day)
    if planned is not None and (
        told := planning.compare_limit(day, planned.contacts_cap, limit, "--limit")
    ):
        terminal.warn(told)


def _refresh(
    settings: Settings,
    engine: Engine,
    launcher: Launcher,
    day: date,
    batches: list[int],
    limit: int | None,
) -> int:
    _warn_of_receiver(settings, engine)
    _warn_of_pause(engine)
    for run_id in launcher.close_dead_runs():
        terminal.warn(f"run {run_id} had died; what it left open is continued now")
    options = {} if limit is None else {"limit": limit}
    wanted = [Job(day, batch, options) for batch in batches]
    with engine.connect() as connection:
        before = nights.progress(connection, day, batches)
    started = time.monotonic()
    with terminal.working(f"Refreshing {day}") as show:
        ended = launcher.run_all(wanted, _looking(engine, day, batches, show), _say_stopping)
        show(f"Reporting {day}", None, None)
        ended += launcher.run_all(
            [Job(day)], lambda: time.sleep(_LOOK_EVERY_SECONDS / 5), _say_stopping
        )
    for each in ended:
        for problem in each.problems:
            terminal.error(f"{each.partition_key}: {problem}")
    with engine.connect() as connection:
        left = nights.progress(connection, day, batches)
        night.show_summary(connection, settings, day, left)
    terminal.out().print(
        f"This run: {left.calls - before.calls:,} calls, "
        f"${nights.usd(left.spent_usd_micro - before.spent_usd_micro):,.2f} spent, "
        f"{time.monotonic() - started:.0f} seconds"
    )
    if (page := file.path_of(settings.home, day)).exists():
        terminal.out().print(f"As a page: {page.resolve()}", soft_wrap=True)
    if not all(each.succeeded for each in ended):
        return FAILED
    return OPEN if left.waiting or _warn_of_pause(engine) else DONE


def _warn_of_pause(engine: Engine) -> bool:
    """Whether sending is paused; said if so."""
    with engine.connect() as connection:
        pause = switch.paused(connection)
    if pause is None:
        return False
    why = f" ({pause.reason})" if pause.reason else ""
    terminal.warn(
        f"paused since {pause.since:%Y-%m-%d %H:%M} UTC{why}: nothing new is sent, answers still "
        "come in; `enrich resume` ends it"
    )
    return True


def _say_stopping() -> None:
    terminal.note("Stopping: what is in flight is finished first; once more cuts it off")


def _warn_of_receiver(settings: Settings, engine: Engine) -> None:
    waiting = settings.needs_webhooks()
    if waiting and not Reachability(engine, settings.webhook_public_url).is_proven:
        terminal.warn(
            "no receiver of this database answers at ENRICH_WEBHOOK_PUBLIC_URL; what only "
            f"webhooks bring back ({', '.join(waiting)}) waits until one does"
        )


def _looking(
    engine: Engine,
    day: date,
    batches: list[int],
    show: Callable[[str, int | None, int | None], Any],
) -> Callable[[], None]:
    """Reads the night's progress from the database: also what other processes do counts."""
    due = 0.0

    def look() -> None:
        nonlocal due
        began = time.monotonic()
        if began < due:
            time.sleep(_LOOK_EVERY_SECONDS)
            return
        with engine.connect() as connection:
            now = nights.progress(connection, day, batches)
        due = began + _PAUSES_PER_LOOK * (time.monotonic() - began)
        parts = [
            f"Refreshing {day}",
            f"{now.calls:,} calls",
            f"${nights.usd(now.spent_usd_micro):,.2f}",
        ]
        if now.pending:
            parts.append(f"{now.pending:,} pending")
        if now.in_doubt:
            parts.append(f"{now.in_doubt:,} in doubt")
        show(" · ".join(parts), now.closed, now.planned or None)
        time.sleep(_LOOK_EVERY_SECONDS)

    return look
