"""Real runs under a real daemon, whose processes die at any moment.

A code server, the daemon and the webserver run in a folder of their own, as in production. Runs
come from backfills that overlap with what the schedule asks for and with retries from failure;
run workers, the code server, the daemon or all of them at once are killed, and started again. In
the end no run is unfinished, no slot of a pool is taken, no process is left, and all books hold.
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import psutil
import yaml
from dagster._core.execution.backfill import BulkActionStatus

from enrich_pipeline.orchestration import liveness, partitions
from enrich_pipeline.settings import DAGSTER_DATABASE_VARIABLE
from enrich_pipeline.store import connection

from ..support.lab import Lab, contacts
from ..support.sandbox import free_port
from . import checks, schedules
from .figures import Figures, Scale, Ticker
from .ground import Ground

_BATCHES = 3
_PERSONS = 24
"""New persons per round: enough for calls in every one of its runs."""
_POOLS = ("provider/prospeo", "provider/lance")
_ASSETS = ("stale_contacts", "enrichment_attempts", "enriched_contacts", "credit_ledger")
_ROUND_SECONDS = 240.0
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_REPOSITORY = {
    "repositoryLocationName": "enrich_pipeline",
    "repositoryName": "__repository__",
}


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


class Stage:
    """Dagster's processes in one folder. `with Stage(lab) as stage:`"""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.folder = lab, lab.folder
        self._ports = {"code": free_port(), "web": free_port()}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        address = lab.database.render_as_string(hide_password=False)
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("ENRICH_", "DAGSTER_"))},
            **lab.environment,
            "ENRICH_DATABASE_URL": address,
            DAGSTER_DATABASE_VARIABLE: connection.dagster_url(lab.database),
            "DAGSTER_HOME": str(self.folder),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "PYTHONWARNINGS": "ignore",
        }

    def __enter__(self) -> "Stage":
        self._write()
        os.environ[DAGSTER_DATABASE_VARIABLE] = self.environment[DAGSTER_DATABASE_VARIABLE]
        with self.instance() as instance:
            for pool in _POOLS:
                instance.event_log_storage.set_concurrency_slots(pool, 2)
        try:
            for name in ("code", "daemon", "web"):
                self.start(name)
            self._await_location()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        with dg.DagsterInstance.from_config(str(self.folder)) as instance:
            yield instance

    def start(self, name: str) -> None:
        command = {
            "code": [
                *("-m", "dagster", "api", "grpc", "--module-name", "enrich_pipeline.definitions"),
                *("--host", "127.0.0.1", "--port", str(self._ports["code"])),
                *("--location-name", "enrich_pipeline"),
            ],
            "daemon": ["-m", "dagster._daemon", "run", "-w", "workspace.yaml"],
            "web": [
                *("-m", "dagster_webserver", "-w", "workspace.yaml"),
                *("--host", "127.0.0.1", "--port", str(self._ports["web"])),
            ],
        }[name]
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, *command],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        self._running[name].kill()
        self._running[name].wait()

    def workers(self) -> list[psutil.Process]:
        """The processes that execute runs: those of this folder that Dagster did not begin with."""
        own = {process.pid for process in self._running.values()}
        return [p for p in self._processes() if p.pid not in own and _is_run_worker(p)]

    def stop(self) -> list[str]:
        """Ends everything; processes that are still there afterwards, in words."""
        for begun in self._running.values():
            if begun.poll() is None:
                begun.terminate()
        for begun in self._running.values():
            with suppress(subprocess.TimeoutExpired):
                begun.wait(20)
            if begun.poll() is None:
                begun.kill()
                begun.wait()
        until = time.monotonic() + 15
        while (left := self._processes()) and time.monotonic() < until:
            time.sleep(0.2)
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        return [f"process {process.pid} is left" for process in left if _is_run_worker(process)]

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """One GraphQL request; asked again while the webserver or the code server come up."""
        until = time.monotonic() + 60
        while True:
            try:
                reply = httpx.post(
                    f"http://127.0.0.1:{self._ports['web']}/graphql",
                    json={"query": query, "variables": variables},
                    timeout=30,
                    trust_env=False,
                )
                answer: dict[str, Any] = reply.json()
                (outcome,) = (answer.get("data") or {"none": None}).values()
                if outcome and "Error" not in outcome["__typename"]:
                    return dict(outcome)
                problem = str(outcome or answer)[:500]
            except (httpx.HTTPError, ValueError) as error:
                problem = type(error).__name__
            if time.monotonic() > until:
                raise RuntimeError(f"GraphQL: {problem}")
            time.sleep(0.5)

    def _await_location(self) -> None:
        """Until a code server has told what there is."""
        self.ask(
            """query($s: PipelineSelector!) {
                pipelineOrError(params: $s) { __typename ... on Pipeline { name } }
            }""",
            s={**_REPOSITORY, "pipelineName": "nightly_refresh"},
        )

    def _processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                is_here = Path(process.cwd()) == self.folder
                if is_here and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def _write(self) -> None:
        shipped = Path(__file__).parents[2] / "dagster.yaml"
        settings = yaml.safe_load(shipped.read_text())
        # Minutes in production; seconds here.
        settings["run_monitoring"] |= {
            "start_timeout_seconds": 20,
            "cancel_timeout_seconds": 20,
            "poll_interval_seconds": 5,
            "free_slots_after_run_end_seconds": 5,
        }
        (self.folder / "dagster.yaml").write_text(yaml.safe_dump(settings))
        server = {
            "grpc_server": {
                "host": "127.0.0.1",
                "port": self._ports["code"],
                "location_name": "enrich_pipeline",
            }
        }
        (self.folder / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [server]}))


def _is_run_worker(process: psutil.Process) -> bool:
    try:
        words = " ".join(process.cmdline())
    except psutil.Error:
        return False
    return "multiprocessing" in words and "resource_tracker" not in words


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
        doubts = checks.doubts(lab.engine)
        first = self._number * _PERSONS
        lab.load(contacts(range(first, first + _PERSONS), personal_email_consent="true"))
        days = (lab.today,) if is_short else (lab.today, lab.day(1 + self._number))
        lab.sandbox.latency(rng.choice((300, 800)))
        known = self._run_ids()
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
        violations = self._await_end(known)
        self._retry(known)
        violations += self._await_end(known)
        lab.sandbox.latency(0)
        ambiguous = 0
        fresh = checks.doubts(lab.engine) - doubts
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
            *self._slots(),
        ]
        allowed = self._crashes * schedules.IN_FLIGHT + ambiguous
        if fresh > allowed:
            violations.append(f"{fresh} calls in doubt after {self._crashes} killed run workers")
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
            self._launch(
                {
                    "dagster/partition": str(key),
                    "dagster/partition/date": self._lab.today.isoformat(),
                    "dagster/partition/batch": f"{batch:02d}",
                    "dagster/schedule_name": "nightly_refresh_schedule",
                }
            )

    def _launch(self, tags: dict[str, str]) -> None:
        self._stage.ask(
            """mutation($e: ExecutionParams!) {
                launchRun(executionParams: $e) {
                    __typename
                    ... on LaunchRunSuccess { run { runId } }
                    ... on PythonError { message }
                }
            }""",
            e={
                "selector": {**_REPOSITORY, "jobName": "nightly_refresh"},
                "runConfigData": {},
                "executionMetadata": {"tags": [{"key": k, "value": v} for k, v in tags.items()]},
            },
        )

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
        victims = self._stage.workers()
        self._stage.kill("code")
        self._stage.kill("daemon")
        for victim in victims + self._stage.workers():
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

    def _await_end(self, known: set[str]) -> list[str]:
        """Until no run is unfinished; those that are after some minutes are stuck."""
        until = time.monotonic() + _ROUND_SECONDS
        quiet_since: float | None = None
        while time.monotonic() < until:
            with self._stage.instance() as instance:
                unfinished = instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED))
                backfills = instance.get_backfills(status=BulkActionStatus.REQUESTED)
            if unfinished or backfills:
                quiet_since = None
            elif quiet_since is None:
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since > 1.0:
                return []
            time.sleep(0.5)
        return [
            f"run {run.run_id} is still {run.status.value} (marked: {liveness.MARK in run.tags})"
            for run in unfinished
        ] + [f"backfill {each.backfill_id} is still requested" for each in backfills]

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

    def _slots(self) -> list[str]:
        until = time.monotonic() + 30
        while True:
            with self._stage.instance() as instance:
                storage = instance.event_log_storage
                taken = {pool: storage.get_concurrency_info(pool) for pool in _POOLS}
            left = [
                f"pool {pool}: {len(info.claimed_slots)} slots taken, "
                f"{len(info.pending_steps)} steps wait for one"
                for pool, info in taken.items()
                if info.claimed_slots or info.pending_steps
            ]
            if not left or time.monotonic() > until:
                return left
            time.sleep(0.5)
