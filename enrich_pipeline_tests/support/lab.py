"""A whole night in one process: database, simulated providers, webhook receiver, engine.

A `Lab` is what a test drives; `Bench` opens labs and keeps the sandbox processes that they share.
"""

import csv
import hashlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import count
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import yaml
from sqlalchemy import URL, Engine, make_url, text

from enrich_pipeline.domain.chain import op_chain
from enrich_pipeline.domain.enrichment import Field
from enrich_pipeline.intake.load import LoadSummary, load_file
from enrich_pipeline.providers.http import ProviderClient
from enrich_pipeline.settings import Settings
from enrich_pipeline.settings import load as load_settings
from enrich_pipeline.store import connection, invariants
from enrich_pipeline.waterfall import fault_points
from enrich_pipeline.waterfall.context import Context
from enrich_pipeline.waterfall.engine import Partition, StageSummary, Waterfall
from enrich_pipeline.waterfall.planning import NightSummary, plan_night
from enrich_pipeline.waterfall.reconcile import Reconciliation, reconcile
from enrich_pipeline.waterfall.reserve import Claimed
from enrich_pipeline.waterfall.send import Sent, send, settle_answered
from enrich_pipeline.webhooks.server import serving

from ..sandbox import people
from ..sandbox.conftest import CERTAIN, QUICK, rates
from .sandbox import PROVIDERS, SandboxProcess

DIRECTORY_SIZE = 700
_runs = count(1)
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])


def contact(number: int, **changes: str) -> dict[str, str]:
    """The row of person `number`, by whom every provider can be asked; `changes` replace cells."""
    return {
        "contact_id": f"c{number:04d}",
        "first_name": people.first(number),
        "last_name": people.last(number),
        "email": people.email(number),
        "linkedin_url": people.profile(number),
        "company_name": f"Copperfox {number % 7}",
        "company_domain": people.domain(number),
        "country_code": "DE",
        "lance_person_id": people.lance(number),
        "updated_at": "2026-01-05T00:00:00Z",
        **changes,
    }


def contacts(numbers: Iterable[int], **changes: str) -> list[dict[str, str]]:
    return [contact(number, **changes) for number in numbers]


def configuration(own: Mapping[str, Any]) -> dict[str, Any]:
    """Quick polls, no rate windows, one batch; `own` is laid over it."""
    quick: dict[str, Any] = {
        "refresh": {"batches": 1},
        "providers": {
            name: {"rate": [], "poll_seconds": 0.05, "await_seconds": 10} for name in PROVIDERS
        },
    }
    quick["providers"]["pronto"]["options"] = {"account_consents_to_personal_email": True}
    return _laid_over(quick, own)


def only(wanted: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """A configuration in which only these fields are bought, at these providers."""
    return {"fields": {f.value: {"waterfall": list(wanted.get(f.value, ()))} for f in Field}}


def _laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        under = merged.get(name)
        is_mapping = isinstance(under, dict) and isinstance(value, Mapping)
        merged[name] = _laid_over(under, value) if is_mapping else value  # type: ignore[arg-type]
    return merged


def impatient(seconds: float) -> None:
    """Sleeps as the engine asks for, but never long: pauses are not what is tested."""
    sleep(min(seconds, 0.02))


@contextmanager
def opened(
    engine: Engine,
    settings: Settings,
    run_id: str,
    sleep: Callable[[float], object] = impatient,
) -> Iterator[Waterfall]:
    with Waterfall(
        engine,
        settings.policy,
        settings.providers,
        settings.access,
        settings.webhook_public_url,
        run_id,
        sleep=sleep,
    ) as waterfall:
        yield waterfall


def sent_alone(ctx: Context, partition: Partition, claimed: Claimed) -> Sent:
    """What becomes of one call that is sent and settled beside no other."""
    sent = send(ctx, claimed)
    if sent.answered is None:
        return sent
    (settled,) = settle_answered(ctx, partition, [sent.answered])
    return settled


def chain_of(settings: Settings) -> tuple[str, ...]:
    policy = settings.policy
    return op_chain({f: policy.waterfall(f) for f in Field}, list(policy.providers))


def drain_days(engine: Engine, settings: Settings, days: Sequence[date], run_id: str) -> None:
    """Every batch of each date once through the chain."""
    for day in days:
        for batch in range(settings.policy.refresh.batches):
            with opened(engine, settings, f"{run_id}-{day}-{batch}") as waterfall:
                waterfall.sweep()
                waterfall.reuse(Partition(day, batch))
                for provider in chain_of(settings):
                    waterfall.attempt(Partition(day, batch), provider)


def _drain_alone(
    database: str,
    environment: dict[str, str],
    folder: Path,
    days: list[date],
    run_id: str,
    dies_at: fault_points.Label | None,
) -> None:
    """What a child process does."""
    if dies_at is not None:
        fault_points.set_hook(
            lambda label: os.kill(os.getpid(), signal.SIGKILL) if label == dies_at else None
        )
    engine = connection.create_engine(make_url(database), pool_size=10)
    drain_days(engine, load_settings(environment, folder), days, run_id)


@dataclass(frozen=True)
class Lab:
    """One database under one configuration against one sandbox."""

    engine: Engine
    database: URL
    sandbox: SandboxProcess
    settings: Settings
    folder: Path
    environment: Mapping[str, str]
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def today(self) -> date:
        return self.now.date()

    def day(self, ago: int) -> date:
        return self.today - timedelta(days=ago)

    @property
    def chain(self) -> tuple[str, ...]:
        return chain_of(self.settings)

    # ---- a night ----------------------------------------------------------------------------

    def load(self, rows: Sequence[Mapping[str, str]]) -> LoadSummary:
        """Loads rows as a contacts file, mirror and persons included."""
        path = self.folder / f"contacts-{next(_runs)}.csv"
        header = list(dict.fromkeys(name for row in rows for name in row))
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, header)
            writer.writeheader()
            writer.writerows(rows)
        summary = load_file(self.engine, path, self.settings.policy, self.now)
        assert not summary.rejected, summary.rejected
        return summary

    def plan(self, day: date | None = None) -> NightSummary:
        settings = self.settings
        return plan_night(
            self.engine, settings.policy, settings.providers, day or self.today, None, self.now
        )

    @contextmanager
    def waterfall(self, run_id: str | None = None) -> Iterator[Waterfall]:
        with opened(self.engine, self.settings, run_id or f"run-{next(_runs)}") as waterfall:
            yield waterfall

    def drain(
        self, day: date | None = None, chain: Sequence[str] | None = None, run_id: str | None = None
    ) -> dict[str, StageSummary]:
        """Every batch of a date once through the chain; per op what the last batch did there."""
        stages: dict[str, StageSummary] = {}
        for batch in range(self.settings.policy.refresh.batches):
            partition = Partition(day or self.today, batch)
            with self.waterfall(run_id) as waterfall:
                waterfall.sweep()
                stages["reuse"] = waterfall.reuse(partition)
                for provider in chain or self.chain:
                    stages[provider] = waterfall.attempt(partition, provider)
        return stages

    def night(self, rows: Sequence[Mapping[str, str]]) -> dict[str, StageSummary]:
        """Load, plan and drain today."""
        self.load(rows)
        self.plan()
        return self.drain()

    def sweep(self) -> None:
        with self.waterfall() as waterfall:
            waterfall.sweep()

    def child(self, days: Sequence[date], dies_at: fault_points.Label | None = None) -> BaseProcess:
        """A process of its own that drains these dates, to its death if one is named; started."""
        process = PROCESSES.Process(
            target=_drain_alone,
            args=(
                self.database.render_as_string(hide_password=False),
                dict(self.environment),
                self.folder,
                list(days),
                f"child-{next(_runs)}",
                dies_at,
            ),
        )
        process.start()
        return process

    def until(self, statement: str, seconds: float = 20) -> None:
        """Waits until a statement returns something true."""
        deadline = monotonic() + seconds
        while not self.one(statement):
            assert monotonic() < deadline, f"never became true: {statement}"
            sleep(0.01)

    def overdue(self, clock: str, provider: str) -> None:
        """Moves a clock of all open calls of a provider into the past."""
        self.sql(
            f"update enrichment.calls set {clock} = clock_timestamp() - interval '1 second' "  # noqa: S608
            "where provider = :p and closed_at is null",
            p=provider,
        )

    def deliver(self, call_id: int, body: Mapping[str, Any], token: str | None = None) -> None:
        """Posts a webhook delivery for a call to the receiver, as its provider would."""
        with self.context() as ctx:
            provider = self.one(
                "select provider from enrichment.calls where call_id = :c", c=call_id
            )
            known = ctx.token(call_id)
        stored = self.one("select token_hash from enrichment.calls where call_id = :c", c=call_id)
        assert bytes(stored) == hashlib.sha256(known.encode()).digest()
        url = f"{self.settings.webhook_public_url}/webhooks/{provider}/{token or known}"
        httpx.post(url, json=dict(body), trust_env=False).raise_for_status()

    @contextmanager
    def context(self, run_id: str = "by-hand") -> Iterator[Context]:
        """What the parts of the engine are given, to take single steps."""
        settings = self.settings
        with ExitStack() as stack:
            clients = {
                name: stack.enter_context(
                    ProviderClient(
                        settings.access[name].base_url, api.headers(settings.access[name].api_key)
                    )
                )
                for name, api in settings.providers.items()
            }
            yield Context(
                self.engine,
                settings.policy,
                settings.providers,
                clients,
                settings.webhook_public_url,
                run_id,
            )

    # ---- looking ----------------------------------------------------------------------------

    def sql(self, statement: str, **parameters: object) -> list[tuple[Any, ...]]:
        """Runs one statement and commits; its rows as plain tuples."""
        with self.engine.begin() as conn:
            result = conn.execute(text(statement), parameters)
            return [tuple(row) for row in result] if result.returns_rows else []

    def one(self, statement: str, **parameters: object) -> Any:
        ((value,),) = self.sql(statement, **parameters)
        return value

    def states(self, provider: str) -> dict[str, int]:
        """Calls of a provider by state."""
        return {
            state: n
            for state, n in self.sql(
                "select state, count(*) from enrichment.calls where provider = :p group by 1",
                p=provider,
            )
        }

    def account(self, provider: str) -> dict[str, int]:
        """Balances by account, in micro-credits."""
        return {
            kind: balance
            for kind, balance in self.sql(
                "select kind, balance from enrichment.accounts where provider = :p", p=provider
            )
        }

    def outcomes(self, provider: str) -> dict[str, int]:
        """Attempts of a provider by outcome."""
        return {
            outcome: n
            for outcome, n in self.sql(
                "select outcome, count(*) from enrichment.attempts where provider = :p group by 1",
                p=provider,
            )
        }

    def sent(self) -> dict[str, int]:
        """Requests that may cost something, per provider, as the sandbox counts them."""
        return {name: row["calls"] for name, row in self.sandbox.meter().items()}

    def charged(self) -> dict[str, int]:
        """Micro-credits per provider by the sandbox's own meter."""
        return {name: row["charged_micro"] for name, row in self.sandbox.meter().items()}

    def reconcile(self) -> dict[str, Reconciliation]:
        settings = self.settings
        rows = reconcile(self.engine, settings.policy, settings.providers, settings.access)
        return {row.provider: row for row in rows}

    def assert_books(self) -> None:
        """Nothing in the ledger contradicts itself or the providers' own meter."""
        with self.engine.connect() as conn:
            assert invariants.violations(conn) == []
            found_days = self.settings.policy.reuse.found_days
            assert invariants.paid_twice(conn, found_days) == []
            assert invariants.budgets_exceeded(conn) == []
        for provider, charged in self.charged().items():
            books = self.account(provider)
            spent = books.get("spent", 0)
            open_amount = sum(books.get(kind, 0) for kind in ("held", "in_doubt", "written_off"))
            assert spent <= charged <= spent + open_amount, (provider, charged, books)

    def assert_exact(self) -> None:
        """The books hold, and every credit is posted: nothing is open, nothing unexplained."""
        self.assert_books()
        for provider, charged in self.charged().items():
            books = self.account(provider)
            assert books.get("spent", 0) == charged, (provider, charged, books)
            assert not any(books.get(k, 0) for k in ("held", "in_doubt", "written_off")), books

    def assert_polite(self) -> None:
        """No documented rule of a provider was broken, nobody was charged for twice."""
        assert self.sandbox.violations()["counts"] == {}
        assert self.sandbox.double_charges() == []


class Bench:
    """Opens labs. Sandboxes with equal rates are one process, reset between tests."""

    def __init__(self, folder: Path, *, people: int = DIRECTORY_SIZE) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._sandboxes: dict[tuple[str, ...], SandboxProcess] = {}
        self._directory = folder / "people.csv"
        with self._directory.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["human_id", *contact(0)])
            writer.writeheader()
            for number in range(people):
                writer.writerow({"human_id": f"h{number}", **contact(number)})

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def sandbox(self, shares: Mapping[str, float], options: Sequence[str] = ()) -> SandboxProcess:
        """A sandbox in which everybody is found with everything, but for these rates."""
        known = ("--directory", str(self._directory))
        arguments = (*QUICK, *rates({**CERTAIN, **shares}), *known, *options)
        if arguments not in self._sandboxes:
            self._sandboxes[arguments] = self._stack.enter_context(SandboxProcess(arguments))
        sandbox = self._sandboxes[arguments]
        sandbox.reset()
        return sandbox

    @contextmanager
    def lab(
        self,
        database: URL,
        own: Mapping[str, Any] | None = None,
        shares: Mapping[str, float] | None = None,
        environment: Mapping[str, str] | None = None,
        sandbox_options: Sequence[str] = (),
    ) -> Iterator[Lab]:
        """A lab with the receiver listening, until the block ends."""
        sandbox = self.sandbox(shares or {}, sandbox_options)
        folder = self._folder / f"lab-{next(_runs)}"
        folder.mkdir()
        (folder / "own.yaml").write_text(yaml.safe_dump(configuration(own or {})))
        engine = connection.create_engine(database, pool_size=20)
        with serving(database, PROVIDERS, "127.0.0.1", 0) as port:
            variables = {
                **sandbox.environment(),
                "ENRICH_CONFIG": "own.yaml",
                "ENRICH_WEBHOOK_PUBLIC_URL": f"http://127.0.0.1:{port}",
                **(environment or {}),
            }
            settings = load_settings(variables, folder)
            try:
                yield Lab(engine, database, sandbox, settings, folder, variables)
            finally:
                sandbox.reset()
        engine.dispose()
