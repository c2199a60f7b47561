"""Dagster's own processes in one folder, as in production: code server, daemon, webserver."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import httpx
import psutil
import yaml
from dagster._core.execution.backfill import BulkActionStatus

from enrich_pipeline.orchestration import liveness, partitions
from enrich_pipeline.settings import DAGSTER_DATABASE_VARIABLE
from enrich_pipeline.store import connection

from ..support.lab import Lab
from ..support.sandbox import free_port

_END_WITHIN_SECONDS = 240.0
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
REPOSITORY = {
    "repositoryLocationName": "enrich_pipeline",
    "repositoryName": "__repository__",
}


class Stage:
    """Dagster's processes in one folder. `with Stage(lab) as stage:`"""

    pools: tuple[str, ...] = ("provider/prospeo", "provider/lance")
    """Limited to two ops at once. The queue holds runs back whose ops would wait for a slot."""

    start_within_seconds = 20
    """A run that has not begun by then has failed; minutes in production."""

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
        # The instance of this process is of that database too, while the stage stands.
        self._own_environment = mock.patch.dict(
            os.environ,
            {DAGSTER_DATABASE_VARIABLE: self.environment[DAGSTER_DATABASE_VARIABLE]},
        )

    def __enter__(self) -> "Stage":
        self._write()
        self._own_environment.start()
        try:
            with self.instance() as instance:
                for pool in self.pools:
                    instance.event_log_storage.set_concurrency_slots(pool, 2)
            for name in ("code", "daemon", "web"):
                self.start(name)
            self._await_location()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            self._own_environment.stop()

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        with dg.DagsterInstance.from_config(str(self.folder)) as instance:
            yield instance

    def environment_of(self, name: str) -> Mapping[str, str]:
        return self.environment

    def command(self, name: str) -> list[str]:
        words = {
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
        return [sys.executable, *words]

    def start(self, name: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                self.command(name),
                cwd=self.folder,
                env=dict(self.environment_of(name)),
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

    def launch(self, key: dg.MultiPartitionKey, **tags: str) -> None:
        """A run of one partition into the queue, as a schedule asks for it."""
        given = {**_partition_tags(key), **tags}
        self.ask(
            """mutation($e: ExecutionParams!) {
                launchRun(executionParams: $e) {
                    __typename
                    ... on LaunchRunSuccess { run { runId } }
                    ... on PythonError { message }
                }
            }""",
            e={
                "selector": {**REPOSITORY, "jobName": "nightly_refresh"},
                "runConfigData": {},
                "executionMetadata": {"tags": [{"key": k, "value": v} for k, v in given.items()]},
            },
        )

    def await_end(self) -> list[str]:
        """Until no run is unfinished; those that are after some minutes are stuck."""
        until = time.monotonic() + _END_WITHIN_SECONDS
        quiet_since: float | None = None
        while time.monotonic() < until:
            with self.instance() as instance:
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

    def slots(self) -> list[str]:
        """Slots of pools that are still taken when nothing runs any more."""
        until = time.monotonic() + 30
        while True:
            with self.instance() as instance:
                storage = instance.event_log_storage
                taken = {pool: storage.get_concurrency_info(pool) for pool in self.pools}
            left = [
                f"pool {pool}: {len(info.claimed_slots)} slots taken, "
                f"{len(info.pending_steps)} steps wait for one"
                for pool, info in taken.items()
                if info.claimed_slots or info.pending_steps
            ]
            if not left or time.monotonic() > until:
                return left
            time.sleep(0.5)

    def _await_location(self) -> None:
        """Until a code server has told what there is."""
        self.ask(
            """query($s: PipelineSelector!) {
                pipelineOrError(params: $s) { __typename ... on Pipeline { name } }
            }""",
            s={**REPOSITORY, "pipelineName": "nightly_refresh"},
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
            "start_timeout_seconds": self.start_within_seconds,
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


def _partition_tags(key: dg.MultiPartitionKey) -> dict[str, str]:
    each = {f"{partitions.TAG}/{name}": value for name, value in key.keys_by_dimension.items()}
    return {partitions.TAG: str(key), **each}


def _is_run_worker(process: psutil.Process) -> bool:
    try:
        words = " ".join(process.cmdline())
    except psutil.Error:
        return False
    return "multiprocessing" in words and "resource_tracker" not in words
