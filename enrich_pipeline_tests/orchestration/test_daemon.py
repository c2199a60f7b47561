"""What only a real daemon does: it starts the daily job, sees it fail, and tells people once."""

import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Self

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    ScheduleInstigatorData,
    TickStatus,
)
from sqlalchemy import URL

from enrich_pipeline.orchestration import retention
from enrich_pipeline.settings import DAGSTER_DATABASE_VARIABLE
from enrich_pipeline.store import connection

from ..campaigns.daemons import REPOSITORY, Stage
from ..support.lab import Bench, Lab
from ..support.listener import Listener, listening

SECONDS = 240.0
CRON = str(retention.schedule(2).cron_schedule)
SENSORS = ("alerts_sensor", "failed_run_sensor")


class Watch(Stage):
    """Code server and daemon, with impatient sensors; the schedule has been on for two days."""

    start_within_seconds = 300
    """As shipped: where every core is busy a run takes half a minute to begin."""

    def __enter__(self) -> Self:
        self._write()
        since = (datetime.now(UTC) - timedelta(days=2)).timestamp()
        with self.instance() as instance:
            instance.add_instigator_state(
                InstigatorState(
                    self.origin("retention_schedule"),
                    InstigatorType.SCHEDULE,
                    InstigatorStatus.RUNNING,
                    ScheduleInstigatorData(CRON, since),
                )
            )
        try:
            self.start("code")
            until(self._listens, "the code server listens")
            self.start("daemon")
        except BaseException:
            self.stop()
            raise
        return self

    def command(self, name: str) -> list[str]:
        module = f"{__name__.partition('.')[0]}.support.impatient"
        shipped = "enrich_pipeline.definitions"
        return [module if word == shipped else word for word in super().command(name)]

    def origin(self, name: str) -> RemoteInstigatorOrigin:
        """By what the daemon knows a schedule or a sensor."""
        location = GrpcServerCodeLocationOrigin(
            location_name=REPOSITORY["repositoryLocationName"],
            port=self._ports["code"],
            host="127.0.0.1",
        )
        return RemoteInstigatorOrigin(
            RemoteRepositoryOrigin(location, REPOSITORY["repositoryName"]), name
        )

    def ticks(self, name: str) -> list[TickStatus]:
        """How a sensor's looks ended, the last one first."""
        origin = self.origin(name)
        with self.instance() as instance:
            found = instance.get_ticks(origin.get_id(), origin.get_selector().get_id())
        return [tick.status for tick in found]

    def _listens(self) -> bool:
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", self._ports["code"])) == 0


def until(is_so: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.4)


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


@pytest.fixture
def lab(
    tmp_path_factory: pytest.TempPathFactory, database: URL, listener: Listener
) -> Iterator[Lab]:
    own = {"alerts": {"deadline": None}}
    environment = {"ENRICH_ALERT_URLS": listener.url}
    with (
        Bench(tmp_path_factory.mktemp("daemon"), people=1) as bench,
        bench.lab(database, own, environment=environment) as lab,
    ):
        yield lab


def test_the_daily_job_that_fails_is_told_once_whoever_of_the_sensors_sees_it(
    lab: Lab, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.sql("alter table enrichment.rejects_files rename to out_of_reach")
    monkeypatch.setenv(DAGSTER_DATABASE_VARIABLE, connection.dagster_url(lab.database))
    with Watch(lab) as stage:
        until(lambda: listener.posted, "somebody is told")
        with stage.instance() as instance:
            (run,) = instance.get_runs()
        looks = {name: len(stage.ticks(name)) + 1 for name in SENSORS}
        until(lambda: all(len(stage.ticks(name)) > looks[name] for name in SENSORS), "both look on")
        ends = {status for name in SENSORS for status in stage.ticks(name)}
    assert (run.job_name, run.status) == ("retention", dg.DagsterRunStatus.FAILURE)
    assert run.tags["dagster/schedule_name"] == "retention_schedule"
    (message,) = listener.messages
    assert message.startswith("CRITICAL: the run of retention failed")
    assert "prune: unexpected ProgrammingError at store/" in message
    assert "kept longer than `retention`" in message
    assert "`enrich prune`" in message
    assert TickStatus.FAILURE not in ends
