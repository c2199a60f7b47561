"""One night of some program, measured: a fresh database with the same contacts, the same providers.

The server writes to a disk and waits for it, the providers refuse nothing and answer at once, or
after the same latency each time. Contacts are loaded once, into the database that every trial gets
a copy of.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy
import yaml
from sqlalchemy import URL, text

from enrich_pipeline.domain.chain import op_chain
from enrich_pipeline.domain.enrichment import Field
from enrich_pipeline.providers import registry
from enrich_pipeline.settings import load as load_settings
from enrich_pipeline.store import connection

from ..campaigns.ground import Ground
from ..campaigns.schedules import SHARES
from ..sandbox.conftest import CERTAIN, rates
from ..store.rows import default_policy
from ..support.lab import configuration
from ..support.sandbox import AUTH, PROVIDERS, SandboxProcess, free_port
from . import filling, usage

ROOT = Path(__file__).parents[2]
SANDBOX_OPTIONS = (
    *("--pronto-delay", "0", "--apollo-delay", "0", "--lance-delay", "0"),
    *(part for name in PROVIDERS for part in ("--limit", f"{name}=-/-")),
)
MIX = ", ".join(f"{name} {share:.0%}" for name, share in SHARES.items())
"""Which share of all people each provider has; whatever it has is right and verified."""
ENGINE = (sys.executable, "-m", f"{__package__}.contending.engine")
BATCHES = 2
"""A process each: as many as there are cores."""
CONCURRENCY = 16
"""Calls to a provider at a time, of both together."""
_LEAST_A_SECOND = 50
"""Contacts: a night that is slower is given up, after an hour at the soonest."""

FOUND_BY_PIPELINE = """
    select field, count(*) from enrichment.enrichments where result = 'found' group by field
"""


@dataclass(frozen=True, slots=True)
class Trial:
    """What one night took. `requests` and `calls` (those that may cost something) by provider."""

    contacts: int
    used: usage.Usage
    server_cpu: float
    sandbox_cpu: float
    grown_bytes: int
    """By how much the database grew, indexes included."""
    began_after: float
    """Seconds from the start to the first request."""
    requests: Mapping[str, int]
    calls: Mapping[str, int]
    deliveries: int
    by_webhook: int
    """Calls whose results were delivered."""
    found: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Night:
    """Contacts that nobody has refreshed yet, and the environment in which somebody does."""

    database: URL
    folder: Path
    environment: Mapping[str, str]


class Arena:
    """Databases and a working folder for trials of so many contacts."""

    def __init__(self, ground: Ground, sandbox: SandboxProcess, contacts: int) -> None:
        self._ground = ground
        self._sandbox = sandbox
        self._contacts = contacts
        self._port = free_port()
        own = {
            "refresh": {"batches": BATCHES, "contacts_per_night": contacts},
            "budget": {"night_usd": 1_000_000_000, "person_usd": 1_000},
            "providers": {
                name: {"await_seconds": 120, "concurrency": CONCURRENCY} for name in PROVIDERS
            },
        }
        self._configuration = ground.home / "own.yaml"
        self._configuration.write_text(yaml.safe_dump(configuration(own)))

    def load(self) -> None:
        """Fill the database that the others are copies of; Dagster's tables are made there too."""
        variables = self._environment(self._ground.template)
        say(f"filling in {self._contacts:,} contacts")
        engine = connection.create_engine(self._ground.template)
        policy = load_settings(variables, self._ground.home).policy
        filling.fill(engine, policy, range(self._contacts))
        engine.dispose()
        with self._folder() as folder:
            usage.of_command(
                (sys.executable, "-m", "enrich_pipeline.cli", "init"), folder, variables
            )
        _run(self._ground.template, "vacuum (analyze)")

    @contextmanager
    def night(self, contacts: int | None = None) -> Iterator[Night]:
        """A fresh copy of the database, and a folder in which nobody has left anything."""
        self._sandbox.reset()
        with self._ground.database() as database, self._folder() as folder:
            script = self._script(database, contacts or self._contacts)
            (folder / "night.json").write_text(json.dumps(script))
            # Nobody pays for writing out what somebody else changed.
            _run(database, "checkpoint")
            yield Night(database, folder, self._environment(database))

    def trial(self, command: Sequence[str], found: str, contacts: int | None = None) -> Trial:
        """Have a command refresh the night; `found` counts what it found by field.

        `contacts` is how many of them a script is to take, that reads `night.json`.

        Raises:
            CommandFailed: the command did.
        """
        with self.night(contacts) as night:
            size, before = _size(night.database), self._spent()
            within = max(3_600.0, self._contacts / _LEAST_A_SECOND)
            used = usage.of_command(command, night.folder, night.environment, within)
            after, grown = self._spent(), _size(night.database) - size
            counted = {str(field): int(n) for field, n in _run(night.database, found)}
        log = self._sandbox.requests()
        meter = self._sandbox.meter()
        webhooks = self._sandbox.webhooks()
        first = min(log[name]["started_at"][0] for name in PROVIDERS if log[name]["started_at"])
        # One delivery for each contact from Pronto; one for each call for mobiles from Apollo.
        for_mobiles = webhooks["scheduled"] - meter["pronto"]["records"]
        return Trial(
            contacts=contacts or self._contacts,
            used=used,
            server_cpu=after[0] - before[0],
            sandbox_cpu=after[1] - before[1],
            grown_bytes=grown,
            began_after=first - used.started_at,
            requests={name: meter[name]["requests"] for name in PROVIDERS},
            calls={name: meter[name]["calls"] for name in PROVIDERS},
            deliveries=webhooks["delivered"],
            by_webhook=meter["pronto"]["calls"] + for_mobiles,
            found=counted,
        )

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        """A working folder in which nobody has left anything."""
        with tempfile.TemporaryDirectory(dir=self._ground.home) as name:
            yield Path(name)

    def _spent(self) -> tuple[float, float]:
        assert self._sandbox.process is not None
        server = usage.cpu_of_server(self._ground.home / "db")
        return server, usage.cpu_of_process(self._sandbox.process.pid)

    def _environment(self, database: URL) -> dict[str, str]:
        return {
            **self._sandbox.environment(),
            "ENRICH_DATABASE_URL": database.render_as_string(hide_password=False),
            "ENRICH_CONFIG": str(self._configuration),
            "ENRICH_WEBHOOK_PUBLIC_URL": f"http://127.0.0.1:{self._port}",
            "DAGSTER_HOME": "",
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "DLT_DATA_DIR": str(self._ground.home / "dlt"),
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            "PYTHONPATH": str(ROOT),
        }

    def _script(self, database: URL, contacts: int) -> dict[str, Any]:
        policy = default_policy()
        orders = {field.value: list(policy.waterfall(field)) for field in Field}
        plain = database.set(drivername="postgresql")
        return {
            "database": plain.render_as_string(hide_password=False),
            "addresses": {name: self._sandbox.base_url(name) for name in PROVIDERS},
            "headers": {name: dict([AUTH[name]]) for name in PROVIDERS},
            "waterfalls": orders,
            "chain": op_chain(orders, registry.DEFAULT_ORDER),
            "receiver_port": self._port,
            "contacts": contacts,
        }


@contextmanager
def arena(contacts: int, latency_ms: int = 0) -> Iterator[Arena]:
    """An arena of so many contacts, loaded. The providers make up whomever they are asked for."""
    known = (*rates({**CERTAIN, **SHARES}), "--latency-ms", str(latency_ms))
    with (
        Ground(0, is_durable=True) as ground,
        SandboxProcess((*known, *SANDBOX_OPTIONS)) as sandbox,
    ):
        made = Arena(ground, sandbox, contacts)
        made.load()
        yield made


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _size(database: URL) -> int:
    ((size,),) = _run(database, "select pg_database_size(current_database())")
    return int(size)


def _run(database: URL, statement: str) -> list[Any]:
    engine = sqlalchemy.create_engine(database, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as conn:
            result = conn.execute(text(statement))
            return list(result.all()) if result.returns_rows else []
    finally:
        engine.dispose()
