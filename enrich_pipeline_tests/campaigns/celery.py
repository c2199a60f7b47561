"""The same night twice: every run in one process, and its steps over Celery's workers, who die.

Both nights have the same contacts and the same simulated providers, and go through Dagster's queue,
four runs at once. In the second one of three workers is killed while it is making calls, in one of
three ways. Afterwards both nights must have found, charged and booked the same: what differs must
belong to persons of a call that was in doubt for good, and no credit may have been paid twice.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dagster as dg
import psutil

from enrich_pipeline.orchestration import partitions

from ..support.lab import Lab, contacts
from ..support.sandbox import PROVIDERS, free_port
from . import checks, schedules
from .daemons import Stage
from .figures import CannotRun, Figures, Scale
from .ground import Ground

_BATCHES = 4
_PERSONS = 160
_WORKERS = 3
_LATENCY_MS, _SLOW_MS = 300, 2000
"""Of every call; slow at first, so that all runs are there before the first one ends."""
_STRIKE_WITHIN_SECONDS = 120.0
_SENDING = """
    select run_id, provider, count(*) from enrichment.calls where state = 'sending'
    group by 1, 2 order by 1, 2
"""
_DEATHS = ("the whole worker", "its child at work", "all but its child")
"""A machine that is gone, the kernel's choice when memory is short, an orphan that goes on."""


def run(scale: Scale, seed: int) -> Figures:
    """One night in one process a run, then 1 night over Celery in the short form, 6 in the full."""
    _require_programs()
    figures = Figures()
    with Ground(_PERSONS) as ground:
        with _night(ground, "in_process") as stage:
            plain = _play(stage, figures, "in one process", None)
            figures.blame("in one process", _broken(stage))
        for number in range(scale.of(short=1, full=6)):
            name = f"night {seed}/{number}"
            strike = Strike(random.Random(f"{seed}/{number}"), _DEATHS[number % len(_DEATHS)])
            with _redis() as broker, _night(ground, "celery", broker) as stage:
                spread = _play(stage, figures, "over Celery", strike)
                figures.blame(name, [*strike.problems, *_broken(stage)])
                figures.blame(name, _differences(plain, spread, stage.lab, strike, figures))
                figures.add("calls in doubt", checks.doubts(stage.lab.engine))
        figures.blame("a long step", _long_step(ground.home, figures))
    return figures


def _long_step(folder: Path, figures: Figures) -> list[str]:
    """What a living worker has is given to nobody else, however long it takes."""
    begun = folder / "begun"
    module = f"{__package__}.slow_step"
    with _redis() as broker:
        environment = {**os.environ, "ENRICH_CELERY_BROKER_URL": broker}
        workers = [
            subprocess.Popen(
                [
                    *(
                        sys.executable,
                        "-m",
                        "celery",
                        "-A",
                        module,
                        "worker",
                        "--queues",
                        "dagster",
                    ),
                    *("--concurrency", "1", "--hostname", f"slow{number}@here"),
                ],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for number in range(2)
        ]
        try:
            subprocess.run([sys.executable, "-m", module, str(begun)], env=environment, check=True)
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait(60)
    times = len(begun.read_text().splitlines())
    figures.note("times a long step was begun", times)
    return [] if times == 1 else [f"it was begun {times} times"]


def _require_programs() -> None:
    if shutil.which("redis-server") is None:
        raise CannotRun("redis-server is missing; on Debian: apt-get install redis-server")
    if find_spec("dagster_celery") is None:
        raise CannotRun("dagster-celery is missing; `make campaign NAME=celery` installs it")


@contextmanager
def _redis() -> Iterator[str]:
    """Address of a Redis of our own, which keeps nothing."""
    port = free_port()
    options = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no")
    process = subprocess.Popen(
        ["redis-server", "--port", str(port), *options], stdout=subprocess.DEVNULL
    )
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _night(ground: Ground, executor: str, broker: str | None = None) -> Iterator["Workplace"]:
    providers = {
        name: {"concurrency": schedules.IN_FLIGHT, "batch_size": 5, "timeout_seconds": 10}
        for name in PROVIDERS
    }
    own = {"refresh": {"batches": _BATCHES, "executor": executor}, "providers": providers}
    environment = {"ENRICH_CELERY_BROKER_URL": broker} if broker else {}
    with ground.lab(own, schedules.SHARES, environment) as lab:
        lab.load(contacts(range(_PERSONS), personal_email_consent="true"))
        lab.sandbox.latency(_SLOW_MS)
        with Workplace(lab, _WORKERS if broker else 0) as stage:
            yield stage


class Workplace(Stage):
    """Dagster's processes, and Celery's workers beside them."""

    pools = ()
    start_within_seconds = 180

    def __init__(self, lab: Lab, workers: int) -> None:
        super().__init__(lab)
        self._workers = [f"worker{number}" for number in range(workers)]

    def __enter__(self) -> "Workplace":
        super().__enter__()
        for name in self._workers:
            self.start(name)
        return self

    def command(self, name: str) -> list[str]:
        if not name.startswith("worker"):
            return super().command(name)
        return [
            *(
                sys.executable,
                "-m",
                "celery",
                "-A",
                "enrich_pipeline.orchestration.celery_app",
                "worker",
            ),
            *("--queues", "dagster", "--concurrency", "1", "--hostname", f"{name}@here"),
        ]

    def worker(self, name: str) -> psutil.Process:
        return psutil.Process(self._running[name].pid)


@dataclass(frozen=True, slots=True)
class Night:
    """What is compared. Keys of `contacts` are their ids, no times are among the values."""

    contacts: Mapping[str, tuple[Any, ...]]
    answers: Mapping[str, list[tuple[Any, ...]]]
    attempts: Mapping[str, list[tuple[Any, ...]]]
    charges: Mapping[str, list[tuple[Any, ...]]]
    accounts: Mapping[tuple[str, str], int]


def _play(stage: Workplace, figures: Figures, where: str, strike: "Strike | None") -> Night:
    """The night from the queue to rest, as the tables and the sandbox's meter show it."""
    lab = stage.lab
    started = time.monotonic()
    _ask(stage)
    figures.note(f"runs at once, {where}", _most_at_once(stage))
    lab.sandbox.latency(_LATENCY_MS)
    if strike is not None:
        strike.fall(stage, figures)
    figures.blame(where, stage.await_end())
    figures.note(f"seconds of the night, {where}", round(time.monotonic() - started, 1))
    figures.blame(where, _unsuccessful(stage))
    _come_to_rest(stage)
    figures.note(f"calls, {where}", sum(lab.sent().values()))
    figures.note(f"credits charged, {where}", sum(lab.charged().values()) // 10**6)
    return _seen(lab)


def _ask(stage: Stage) -> None:
    for batch in range(_BATCHES):
        stage.launch(partitions.key(stage.lab.today, batch))


def _most_at_once(stage: Stage) -> int:
    """How many runs were executed at the same time, looked at until all of the night have begun."""
    most, until = 0, time.monotonic() + 60
    while most < _BATCHES and time.monotonic() < until:
        with stage.instance() as instance:
            most = max(
                most,
                instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])),
            )
        time.sleep(0.1)
    return most


def _unsuccessful(stage: Stage) -> list[str]:
    with stage.instance() as instance:
        return [
            f"run {run.run_id} of {run.tags.get(partitions.TAG)} ended as {run.status.value}"
            for run in instance.get_runs()
            if run.status is not dg.DagsterRunStatus.SUCCESS
        ]


def _come_to_rest(stage: Stage) -> None:
    """What the next hours bring, by the same executor: leases, polls and horizons pass."""
    lab = stage.lab
    lab.sandbox.latency(0)
    for clocks in (("leases", "polls"), ("deadlines",), ("leases", "horizons"), ("horizons",)):
        lab.sandbox.wait_for_deliveries()
        if not schedules.live_calls(lab) and not schedules.open_fields(lab):
            break
        schedules.advance(lab, *clocks)
        _ask(stage)
        stage.await_end()
    # The next night's first deed: replies to a poll that came when all had been answered.
    lab.sweep()


def _broken(stage: Stage) -> list[str]:
    lab = stage.lab
    return [
        *checks.all_of(lab.engine, lab.sandbox),
        *checks.open_work(lab.engine),
        *checks.broken_rules(lab.sandbox),
        *stage.slots(),
    ]


class Strike:
    """The death of one worker with calls under way, after a number of calls drawn by lot."""

    def __init__(self, rng: random.Random, death: str) -> None:
        self._after, self._death = rng.randrange(20, 110), death
        self.problems: list[str] = []
        self.fell: str | None = None
        """When, and in which run."""

    def fall(self, stage: Workplace, figures: Figures) -> None:
        until = time.monotonic() + _STRIKE_WITHIN_SECONDS
        while time.monotonic() < until:
            time.sleep(0.02)
            if sum(stage.lab.sent().values()) < self._after:
                continue
            for run_id, provider, calls in stage.lab.sql(_SENDING):
                if (name := _worker_of(stage, run_id, provider)) is not None:
                    self._kill(stage.worker(name))
                    self.fell = f"at {datetime.now(UTC):%X.%f} in run {run_id[:8]}"
                    figures.add(f"killed: {self._death}")
                    figures.add("calls under way when killed", calls)
                    return
        self.problems.append(f"no worker was found with calls under way after {self._after}")

    def _kill(self, worker: psutil.Process) -> None:
        """With SIGKILL, so that nobody can do anything about it."""
        children = worker.children(recursive=True)
        victims = {
            "the whole worker": [worker, *children],
            "its child at work": children,
            "all but its child": [worker],
        }[self._death]
        for victim in victims:
            with suppress(psutil.Error, ProcessLookupError):
                os.kill(victim.pid, signal.SIGKILL)


def _worker_of(stage: Stage, run_id: str, provider: str) -> str | None:
    """The worker that executes a step of this run and provider now."""
    told = {dg.DagsterEventType.ENGINE_EVENT, dg.DagsterEventType.STEP_SUCCESS}
    with stage.instance() as instance:
        entries = instance.all_logs(run_id, of_type=told)
    found: dict[str, str] = {}
    for event in (entry.dagster_event for entry in entries if entry.dagster_event):
        step = event.step_key or ""
        if f"try_{provider}" not in step:
            continue
        if event.is_step_success:
            found.pop(step, None)
        elif (name := event.engine_event_data.metadata.get("Celery worker")) is not None:
            found[step] = str(name.value).partition("@")[0]
    return next(iter(found.values()), None)


# ---- what is compared --------------------------------------------------------------------------

_CONTACTS = """
    select contact_id, work_email, work_email_status, work_email_source, phone, phone_status,
        phone_source, personal_email, personal_email_status, personal_email_source, job_title,
        company_name, company_domain, linkedin_url, location, profile_status, profile_source
    from analytics.dim_contacts
"""
_ATTEMPTS = """
    select c.contact_id, a.field, a.provider, a.waterfall_position, a.outcome, a.cost_micro_credits
    from analytics.fct_enrichment_attempts as a join analytics.dim_contacts as c using (person_id)
    where a.call_id in (select call_id from enrichment.calls where armed_at is not null)
    order by 1, 2, 3, 4, 5, 6
"""
"""Of calls that were sent: what a dead worker had only reserved was given back and bought later."""
_ANSWERS = """
    select c.contact_id, o.provider, o.field, o.value, o.status
    from analytics.fct_field_observations as o join analytics.dim_contacts as c using (person_id)
    order by c.contact_id, o.observed_at, o.provider, o.field, o.value
"""
"""In the order in which they were established: of two equally good ones the newer one wins."""
_IN_DOUBT = """
    select distinct d.contact_id from enrichment.calls as c
    join enrichment.charge_lines as l using (call_id)
    join analytics.dim_contacts as d using (person_id)
    where c.in_doubt_at is not null
"""
_CLOCK = "HH24:MI:SS.MS"
_CALLS = """
    select c.provider, c.state, left(c.run_id, 8) as run, to_char(c.armed_at, :clock) as armed,
        string_agg(concat_ws('-', to_char(r.received_at, :clock), to_char(r.applied_at, :clock)),
            ' ' order by r.reply_id) as replies,
        to_char(c.in_doubt_at, :clock) as in_doubt, to_char(c.closed_at, :clock) as closed
    from enrichment.calls as c left join enrichment.replies as r using (call_id)
    where c.call_id in (
        select l.call_id from enrichment.charge_lines as l
        join analytics.dim_contacts as d using (person_id) where d.contact_id = :contact_id)
    group by c.call_id order by c.call_id
"""
"""With the time of day of each step; a reply with those of its coming and of its being applied."""
_FOR_GOOD = f"{_IN_DOUBT} and l.state = 'written_off'"


def _seen(lab: Lab) -> Night:
    charges = [
        (_contact_of(row["human"]), row["provider"], row["product"], row["options"], row["amount"])
        for row in lab.sandbox.charges()
    ]
    accounts = lab.sql("select provider, kind, balance from enrichment.accounts")
    return Night(
        {contact_id: tuple(rest) for contact_id, *rest in lab.sql(_CONTACTS)},
        _grouped(lab.sql(_ANSWERS)),
        _grouped(lab.sql(_ATTEMPTS)),
        _grouped(sorted(charges, key=repr)),
        {(provider, kind): balance for provider, kind, balance in accounts},
    )


def _contact_of(human: str) -> str:
    """The directory's human h7 is contact c0007."""
    return f"c{int(human[1:]):04d}"


def _grouped(rows: Iterable[tuple[Any, ...]]) -> dict[str, list[tuple[Any, ...]]]:
    """By contact, which comes first in each row."""
    groups: dict[str, list[tuple[Any, ...]]] = {}
    for contact_id, *rest in rows:
        groups.setdefault(contact_id, []).append(tuple(rest))
    return groups


def _differences(
    plain: Night, spread: Night, lab: Lab, strike: Strike, figures: Figures
) -> list[str]:
    """What the second night has other than the first, but for what stayed in doubt.

    A contact's values may be others only where the same answers came in another order. While a call
    is in doubt its fields wait, and those that do not may come to a provider before them: the
    answer that both share is noted for whichever asked, but what each provider cost is the same.
    """
    doubtful = {contact_id for (contact_id,) in lab.sql(_FOR_GOOD)}
    held_up = {contact_id for (contact_id,) in lab.sql(_IN_DOUBT)} - doubtful
    asked_before = {
        key
        for key in held_up
        if _costs(plain.attempts.get(key, ())) == _costs(spread.attempts.get(key, ()))
    }
    figures.add("contacts compared", len(plain.contacts))
    figures.add("contacts with a call written off", len(doubtful))
    figures.add("contacts with a call in doubt for a time", len(held_up))
    reordered = {key for key, each in plain.answers.items() if each != spread.answers.get(key)}
    found = []
    for what, one, other, excused in (
        ("values", plain.contacts, spread.contacts, doubtful | reordered),
        ("answers", _sorted(plain.answers), _sorted(spread.answers), doubtful),
        ("attempts", plain.attempts, spread.attempts, doubtful | asked_before),
        ("charges", plain.charges, spread.charges, doubtful),
    ):
        unlike = {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}
        if what != "values":
            figures.add(f"{what} compared", sum(map(len, one.values())))
        figures.add(f"contacts with other {what}", len(unlike))
        for key in sorted(unlike - excused):
            first, second = set(one.get(key, ())), set(other.get(key, ()))
            found.append(
                f"{what} of {key}: {first - second} in one process, {second - first} after "
                f"{lab.sql(_CALLS, contact_id=key, clock=_CLOCK)}, and a death {strike.fell}"
            )
    if not doubtful and plain.accounts != spread.accounts:
        found.append(f"other balances: {dict(plain.accounts)}, {dict(spread.accounts)}")
    return found


def _costs(attempts: Iterable[tuple[Any, ...]]) -> Mapping[str, int]:
    """Micro-credits by provider; free of charge too, so that the providers asked are compared."""
    costs: dict[str, int] = {}
    for _, provider, *_, cost in attempts:
        costs[provider] = costs.get(provider, 0) + cost
    return costs


def _sorted(answers: Mapping[str, list[tuple[Any, ...]]]) -> dict[str, list[tuple[Any, ...]]]:
    return {contact_id: sorted(each, key=repr) for contact_id, each in answers.items()}
