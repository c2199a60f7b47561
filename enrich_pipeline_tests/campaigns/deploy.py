"""What `deploy/compose.yaml` describes, without containers: the same commands, logins and probes.

First the manifests are held against Kubernetes' own models. Then the migration and the logins are
made as in compose, and every process is started by its own command under its own environment, until
its health check passes. A night goes through them: the runs under the login of the role
enrich_pipeline, the deliveries through the receiver's.
"""

import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import sqlalchemy
import yaml
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from enrich_pipeline.orchestration import partitions
from enrich_pipeline.store import embedded

from ..support.lab import Lab, contacts
from ..support.sandbox import free_port
from . import checks, schedules
from .daemons import Stage
from .figures import CannotRun, Figures, Scale
from .ground import Ground

_DEPLOY = Path(__file__).parents[2] / "deploy"
_SERVICES: Mapping[str, Mapping[str, Any]] = yaml.safe_load((_DEPLOY / "compose.yaml").read_text())[
    "services"
]
_PROCESSES = {"code": "code", "daemon": "daemon", "web": "webserver", "receiver": "receiver"}
"""Names of a stage, and of the services in compose."""
_PASSWORDS = {"NIGHTLY_PASSWORD": "nightly1", "RECEIVER_PASSWORD": "hooks1", "BI_PASSWORD": "bi1"}
_HEALTHY_WITHIN_SECONDS = 120.0
_BATCHES = 4


def run(scale: Scale, seed: int) -> Figures:
    """One night of 40 persons in the short form, 400 in the full one."""
    if not _DEPLOY.is_dir():
        raise CannotRun(f"{_DEPLOY} is not there: this needs the repository, not the package")
    if find_spec("dagster_k8s") is None:
        raise CannotRun("dagster-k8s is missing; `make campaign NAME=deploy` installs it")
    figures = Figures()
    figures.blame("manifests", _unknown_to_kubernetes(figures))
    persons = scale.of(short=40, full=400)
    port = free_port()
    public = {"ENRICH_WEBHOOK_PUBLIC_URL": f"http://127.0.0.1:{port}"}
    own = {"refresh": {"batches": _BATCHES}}
    with Ground(persons) as ground, ground.lab(own, schedules.SHARES, public) as lab:
        prepared = Composed(lab, port)
        figures.blame("init", prepared.once("init"))
        figures.blame("logins", prepared.once("logins"))
        lab.load(contacts(range(persons), personal_email_consent="true"))
        with prepared as stage:
            for name in _PROCESSES:
                figures.blame(name, stage.await_health(name, figures))
            for batch in range(_BATCHES):
                stage.launch(partitions.key(lab.today, batch))
            figures.blame("night", stage.await_end())
            figures.blame("night", _unsuccessful(stage))
            stage.weigh(figures)
        figures.note("calls", sum(lab.sent().values()))
        figures.note("deliveries", lab.one("select count(*) from enrichment.inbox"))
        figures.blame("books", checks.all_of(lab.engine, lab.sandbox))
        figures.blame("books", checks.open_work(lab.engine))
        figures.blame("logins", _too_much(prepared))
    return figures


def _unknown_to_kubernetes(figures: Figures) -> list[str]:
    """Keys that no model of the API has, required ones that are missing."""
    client = import_module("kubernetes.client")
    models = import_module("dagster_k8s.models")
    found = []
    for path in sorted((_DEPLOY / "kubernetes").glob("*.yaml")):
        for each in yaml.safe_load_all(path.read_text()):
            if "kind" not in each:
                continue
            model = getattr(client, f"V1{each['kind']}")
            figures.add("manifests")
            try:
                models.k8s_model_from_dict(model, models.k8s_snake_case_dict(model, each))
            except Exception as error:  # noqa: BLE001 - the library raises no other
                found.append(f"{path.name}, {each['kind']}: {error}")
    return found


class Composed(Stage):
    """The processes of compose on ports of this machine and the lab's database."""

    pools = ()
    start_within_seconds = 180

    def __init__(self, lab: Lab, receiver_port: int) -> None:
        super().__init__(lab)
        self._ports["receiver"] = receiver_port

    def __enter__(self) -> "Composed":
        self._write()
        self.start("receiver")
        super().__enter__()
        return self

    def command(self, name: str) -> list[str]:
        program, *rest = self._words(_SERVICES[_PROCESSES[name]]["command"])
        return [str(_beside_python(program)), *rest]

    def environment_of(self, name: str) -> Mapping[str, str]:
        service = _SERVICES[_PROCESSES.get(name, name)]
        base = {
            name: value
            for name, value in self.environment.items()
            if not name.startswith("ENRICH_") or ("env_file" in service and _is_providers(name))
        }
        port = {"ENRICH_WEBHOOK_PORT": str(self._ports["receiver"])}
        given = {k: self._here(v) for k, v in service["environment"].items()}
        return {**base, **port, **given, "DAGSTER_HOME": str(self.folder), **self._config(given)}

    def _config(self, given: Mapping[str, str]) -> Mapping[str, str]:
        """The lab's configuration in place of the shipped one, where that is read."""
        public = self.lab.environment["ENRICH_WEBHOOK_PUBLIC_URL"]
        ours = {"ENRICH_CONFIG": "own.yaml", "ENRICH_WEBHOOK_PUBLIC_URL": public}
        return {name: value for name, value in ours.items() if name in given}

    def login(self, service: str) -> str:
        """The database's address as a service has it."""
        return self.environment_of(service)["ENRICH_DATABASE_URL"]

    def once(self, service: str) -> list[str]:
        """Runs one of the two steps before the others; what went wrong.

        Not in the folder of the others: `init` writes a `.env`, which would give its login to all.
        """
        apart = self.folder / service
        apart.mkdir()
        program, *rest = self._words(_SERVICES[service]["command"])
        if program == "psql":
            address = self.lab.database.set(drivername="postgresql")
            connect = address.render_as_string(hide_password=False)
            rest = ["--dbname", connect, "--quiet", "--file", str(_DEPLOY / "logins.sql")]
        done = subprocess.run(
            [str(_beside_python(program)), *rest],
            cwd=apart,
            env={**self.environment_of(service), **_PASSWORDS},
            capture_output=True,
            text=True,
            check=False,
        )
        return (
            [] if done.returncode == 0 else [f"exit code {done.returncode}: {done.stderr[-500:]}"]
        )

    def await_health(self, name: str, figures: Figures) -> list[str]:
        """Until the service's own health check passes."""
        probe = self._words(_SERVICES[_PROCESSES[name]]["healthcheck"]["test"][1:])
        command = [str(_beside_python(probe[0])), *probe[1:]]
        started = time.monotonic()
        while time.monotonic() - started < _HEALTHY_WITHIN_SECONDS:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env=dict(self.environment_of(name)),
                capture_output=True,
                check=False,
            )
            if done.returncode == 0:
                figures.add("processes that are healthy")
                return []
            time.sleep(1.0)
        return [f"not healthy: {done.stderr.decode()[-300:]}"]

    def weigh(self, figures: Figures) -> None:
        """Memory of every process with all that it started, after the night."""
        for name, process in self._running.items():
            tree = [psutil.Process(process.pid)]
            tree += tree[0].children(recursive=True)
            total = sum(each.memory_info().rss for each in tree)
            figures.note(f"MiB of {_PROCESSES[name]}", total // 2**20)

    def _words(self, command: Sequence[str]) -> list[str]:
        """With the ports and addresses of this machine."""
        ports = {"4000": "code", "3000": "web", "8787": "receiver"}
        changed = [word.replace("0.0.0.0", "127.0.0.1") for word in command]  # noqa: S104
        return [
            re.sub("|".join(ports), lambda found: str(self._ports[ports[found[0]]]), word)
            for word in changed
        ]

    def _here(self, value: str) -> str:
        """A value of compose with its passwords, and the lab's database for the container's."""
        filled = re.sub(
            r"\$\{(\w+)[^}]*\}", lambda found: _PASSWORDS.get(found[1], found[1]), value
        )
        if "@postgres/" not in filled:
            return filled
        wanted = make_url(filled)
        address = self.lab.database.set(drivername=wanted.drivername)
        if wanted.username != "postgres":
            address = address.set(username=wanted.username, password=wanted.password)
        return address.update_query_dict(dict(wanted.query)).render_as_string(hide_password=False)


def _beside_python(program: str) -> Path:
    """A program of this environment, or of the embedded server."""
    for folder in (Path(sys.executable).parent, embedded._binaries()):
        if (folder / program).exists():
            return folder / program
    raise CannotRun(f"{program} is missing")


def _is_providers(name: str) -> bool:
    return name.endswith(("_API_KEY", "_BASE_URL"))


def _unsuccessful(stage: Stage) -> list[str]:
    with stage.instance() as instance:
        ended = [(run.tags.get(partitions.TAG), run.status) for run in instance.get_runs()]
    wrong = [f"the run of {key} ended as {s.value}" for key, s in ended if s not in _ENDED_WELL]
    return wrong if len(ended) >= _BATCHES else [*wrong, f"only {len(ended)} runs"]


_ENDED_WELL = (dg.DagsterRunStatus.SUCCESS,)
_INSUFFICIENT_PRIVILEGE = "42501"
_MUST_FAIL = {
    "receiver": ("select email from crm.contacts", "select body from enrichment.inbox"),
    "code": (
        "update enrichment.ledger_entries set amount_micro = 0",
        "delete from enrichment.ledger_entries",
        "drop table enrichment.calls",
    ),
}


def _too_much(stage: Composed) -> list[str]:
    """What a login may do that it must not."""
    found = []
    for service, statements in _MUST_FAIL.items():
        engine = sqlalchemy.create_engine(
            make_url(stage.login(service)).set(drivername="postgresql+psycopg")
        )
        for statement in statements:
            with engine.connect() as conn:
                try:
                    conn.execute(text(statement))
                except DBAPIError as error:
                    if getattr(error.orig, "sqlstate", None) == _INSUFFICIENT_PRIVILEGE:
                        continue
                    raise
            found.append(f"the login of {service} may: {statement}")
        engine.dispose()
    return found
