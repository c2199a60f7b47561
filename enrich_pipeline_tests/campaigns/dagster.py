"""Real runs under a real daemon, whose processes die at any moment.

A code server, the daemon and the webserver run in a folder of their own, as in production. Runs
come from backfills that overlap with what the schedule asks for and with retries from failure;
run workers, the code server, the daemon or all of them at once are killed, and started again. In
the end no run is unfinished, no slot of a pool is taken, no process is left, and all books hold.
"""

import random
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import date

import dagster as dg
import psutil

from enrich_pipeline.orchestration import partitions

from ..support.lab import contacts
from . import checks, schedules
from .daemons import Stage
from .figures import Figures, Scale, Ticker
from .ground import Ground

_BATCHES = 3
_PERSONS = 24
"""New persons per round: enough for calls in every one of its runs."""
_ASSETS = ("stale_contacts", "enrichment_attempts", "enriched_contacts", "credit_ledger")


def run(scale: Scale, seed: int) -> Figures:
    """Rounds until 60 runs have been made in the full form, 3 in the short one."""
    figures = Figures()
    wanted = scale.of(short=3, full=60)
    ticker = Ticker(figures, wanted, "runs")
    configuration = schedules.configuration(0, _BATCHES)
    with (
        Ground(_PERSONS * (wanted + 1)) as ground,
        ground.lab(configuration, schedules.SHARES) as lab,
        Stage(lab) as stage,
    ):
        number = 0
        while int(figures.values.get("runs", 0)) < wanted:
            round_ = Round(stage, f"{seed}/{number}", number, figures, ticker)
            figures.blame(f"round {seed}/{number}", round_.play(is_short=scale.share is None))
            number += 1
        left = stage.stop()
        figures.blame("in the end", left)
        figures.add("calls", sum(lab.sent().values()))
        figures.add("calls in doubt", checks.doubts(lab.engine))
    return figures


class Round:
    def __init__(
        self, stage: Stage, name: str, number: int, figures: Figures, ticker: Ticker
    ) -> None:
        self._stage, self._lab = stage, stage.lab
        self._name, self._number = name, number
        self._figures, self._ticker = figures, ticker
        self._rng = random.Random(name)
        self._crashes = 0

    def play(self, *, is_short: bool) -> list[str]:
        lab, rng, figures = self._lab, self._rng, self._figures
        schedules.calm(lab)
        doubts = checks.doubts_by_provider(lab.engine)
        first = self._number * _PERSONS
        lab.load(contacts(range(first, first + _PERSONS), personal_email_consent="true"))
        days = (lab.today,) if is_short else (lab.today, lab.day(1 + self._number))
        lab.sandbox.latency(rng.choice((300, 800)))
        known = self._run_ids()
        if is_short:
            # Nobody waits for the daemon that looks after backfills every 30 seconds.
            self._schedule()
        else:
            self._backfill(days)
        disturbances = [self._kill_worker, self._kill_code_server, self._kill_daemon]
        disturbances += [self._kill_all, self._schedule, self._terminate]
        wanted = [disturbances[(self._number + n * 2) % len(disturbances)] for n in range(3)]
        self._await_workers()
        # They begin with some seconds of importing.
        time.sleep(2.0)
        for disturb in wanted[: 1 if is_short else 3]:
            time.sleep(rng.uniform(0.0, 4.0))
            figures.add(disturb.__name__.strip("_").replace("_", " "))
            disturb()
        violations = self._stage.await_end()
        self._retry(known)
        violations += self._stage.await_end()
        lab.sandbox.latency(0)
        fresh = checks.doubts_by_provider(lab.engine) - doubts
        try:
            for batch in range(_BATCHES):
                schedules.come_to_rest(lab, batch, days, patient=True)
        except Exception as error:  # noqa: BLE001 - a recovery that fails is what is looked for
            violations.append(f"recovery: {type(error).__name__}: {error}"[:300])
        violations += [
            *checks.ledger(lab.engine),
            *checks.spending(lab.engine, lab.sandbox),
            *checks.charged_twice(lab.sandbox),
            *checks.unused_replies(lab.engine),
            *checks.open_work(lab.engine),
            *checks.broken_rules(lab.sandbox),
            *self._stage.slots(),
        ]
        # A run works ahead: it may have calls under way at every provider.
        allowed = self._crashes * schedules.IN_FLIGHT
        violations += [
            f"{number} calls to {provider} in doubt after {self._crashes} killed run workers"
            for provider, number in fresh.items()
            if number > allowed
        ]
        figures.add("rounds")
        figures.add("runs", len(self._run_ids() - known))
        for status in self._endings(known):
            figures.add(f"runs ended as {status}")
        self._ticker.tick(int(figures.values["runs"]))
        return violations

    # ---- what asks for runs -----------------------------------------------------------------

    def _backfill(self, days: Sequence[date]) -> None:
        """As from the asset's page."""
        self._stage.ask(
            """mutation($p: LaunchBackfillParams!) {
                launchPartitionBackfill(backfillParams: $p) {
                    __typename
                    ... on LaunchBackfillSuccess { backfillId }
                    ... on PythonError { message }
                }
            }""",
            p={
                "assetSelection": [{"path": [name]} for name in _ASSETS],
                "partitionNames": [
                    str(partitions.key(day, batch)) for day in days for batch in range(_BATCHES)
                ],
            },
        )

    def _schedule(self) -> None:
        """What the schedule's tick of tonight asks for, while the backfill runs."""
        for batch in range(_BATCHES):
            key = partitions.key(self._lab.today, batch)
            self._stage.launch(key, **{"dagster/schedule_name": "nightly_refresh_schedule"})

    def _retry(self, known: set[str]) -> None:
        """Every failed run once more, from where it failed."""
        with self._stage.instance() as instance:
            failed = [
                run.run_id
                for run in instance.get_runs(
                    dg.RunsFilter(
                        statuses=[dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
                    )
                )
                if run.run_id not in known and run.job_name == "nightly_refresh"
            ]
        for run_id in failed:
            self._figures.add("retries from failure")
            self._stage.ask(
                """mutation($r: ReexecutionParams) {
                    launchRunReexecution(reexecutionParams: $r) {
                        __typename
                        ... on LaunchRunSuccess { run { runId } }
                        ... on PythonError { message }
                    }
                }""",
                r={"parentRunId": run_id, "strategy": "FROM_FAILURE"},
            )

    # ---- what goes wrong --------------------------------------------------------------------

    def _kill_worker(self) -> None:
        if victims := self._stage.workers():
            victim = self._rng.choice(victims)
            with suppress(psutil.Error):
                orphans = victim.children(recursive=True)
                victim.kill()
                self._crashes += 1
                self._figures.add("run workers killed")
                self._expect_gone(orphans)

    def _expect_gone(self, orphans: Sequence[psutil.Process]) -> None:
        _, alive = psutil.wait_procs(list(orphans), timeout=10)
        self._figures.add("orphans that went on", len(alive))

    def _kill_code_server(self) -> None:
        """Its run workers are left without a parent; they finish by themselves."""
        self._stage.kill("code")
        time.sleep(self._rng.uniform(0.0, 3.0))
        self._stage.start("code")

    def _kill_daemon(self) -> None:
        self._stage.kill("daemon")
        time.sleep(self._rng.uniform(0.0, 3.0))
        self._stage.start("daemon")

    def _kill_all(self) -> None:
        """The machine goes down, and comes up again."""
        victims = set(self._stage.workers())
        self._stage.kill("code")
        self._stage.kill("daemon")
        victims |= set(self._stage.workers())
        for victim in victims:
            with suppress(psutil.Error):
                victim.kill()
        self._crashes += len(victims)
        self._figures.add("run workers killed", len(victims))
        self._stage.start("code")
        self._stage.start("daemon")

    def _terminate(self) -> None:
        """As from the run's page: what is in flight is settled, nothing falls into doubt."""
        with self._stage.instance() as instance:
            running = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        if running:
            self._stage.ask(
                """mutation($id: String!) {
                    terminateRun(runId: $id) { __typename }
                }""",
                id=self._rng.choice(running).run_id,
            )

    # ---- what is waited for and looked at ---------------------------------------------------

    def _await_workers(self) -> None:
        """The backfill daemon looks every 30 seconds."""
        until = time.monotonic() + 90
        while not self._stage.workers() and time.monotonic() < until:
            time.sleep(0.1)

    def _run_ids(self) -> set[str]:
        with self._stage.instance() as instance:
            return {r.run_id for r in instance.get_runs() if r.job_name != "daily_reports"}

    def _endings(self, known: set[str]) -> list[str]:
        with self._stage.instance() as instance:
            return sorted(
                run.status.value
                for run in instance.get_runs()
                if run.run_id not in known and run.job_name != "daily_reports"
            )
