"""Rules of the files in `deploy/`: what they name exists, and no process gets more than it needs.

Whether the commands come up and the logins suffice is shown by the campaign `deploy`.
"""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from dagster._cli import create_dagster_cli
from dagster._daemon.cli import create_dagster_daemon_cli
from dagster_postgres.utils import pg_url_from_config
from dagster_webserver.cli import dagster_webserver
from sqlalchemy import make_url

from enrich_pipeline import settings
from enrich_pipeline.cli.main import enrich
from enrich_pipeline.providers import registry
from enrich_pipeline.store import connection

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
VALUES = yaml.safe_load((DEPLOY / "kubernetes" / "values.yaml").read_text())
INSTANCE = yaml.safe_load((ROOT / "dagster.yaml").read_text())
MANIFESTS: list[dict[str, Any]] = [
    document
    for name in ("settings", "init", "receiver")
    for document in yaml.safe_load_all((DEPLOY / "kubernetes" / f"{name}.yaml").read_text())
]
DEPLOYMENT = (ROOT / "docs" / "deployment.md").read_text()
LOCK = (ROOT / "requirements-deploy.lock").read_text()
KEYS = {f"ENRICH_{name.upper()}_API_KEY" for name in registry.available()}


def of_kind(kind: str) -> Iterator[dict[str, Any]]:
    return (each for each in MANIFESTS if each["kind"] == kind)


def pods() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Name, pod and its one container of every workload of ours."""
    for kind in ("Deployment", "Job"):
        for each in of_kind(kind):
            pod = each["spec"]["template"]["spec"]
            (container,) = pod["containers"]
            yield each["metadata"]["name"], pod, container


def pinned(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)(?:\[.*\])?==(\S+)", lock, re.MULTILINE))


IN_CHART = VALUES["dagster-user-deployments"]["deployments"][0]
COMMANDS = [
    *((name, each["command"]) for name, each in SERVICES.items() if "command" in each),
    *(
        (f"{name} is healthy", each["healthcheck"]["test"][1:])
        for name, each in SERVICES.items()
        if "healthcheck" in each
    ),
    *((name, container["command"]) for name, _, container in pods()),
    ("code in the chart", ["dagster", "api", "grpc", "-p", "1", *IN_CHART["dagsterApiGrpcArgs"]]),
]
PROGRAMS: dict[str, click.Command] = {
    "enrich": enrich,
    "dagster": create_dagster_cli(),  # type: ignore[no-untyped-call]
    "dagster-daemon": create_dagster_daemon_cli(),
    "dagster-webserver": dagster_webserver,
}
OF_OTHER_IMAGES = {"psql", "pg_isready", "redis-server", "redis-cli"}


@pytest.mark.parametrize(("name", "words"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_every_command_exists_with_its_options(
    name: str, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(DEPLOY)
    program, *rest = words
    if program in OF_OTHER_IMAGES:
        assert "redis" in name or "postgres" in name or name == "logins"
    elif program == "celery":
        assert rest[:3] == ["-A", "enrich_pipeline.orchestration.celery_app", "worker"]
        assert find_spec("enrich_pipeline.orchestration.celery_app") is not None
    elif program == "python":
        compile(rest[1], "healthcheck", "exec")
    else:
        command = PROGRAMS[program]
        while isinstance(command, click.Group):
            found = command.get_command(click.Context(command), rest.pop(0))
            assert found is not None
            command = found
        # Unknown options and values out of range are refused here.
        command.make_context(program, rest)


def test_every_variable_of_ours_is_one_that_is_read() -> None:
    known = {*settings._VARIABLES, *KEYS}
    files = [path for path in DEPLOY.rglob("*") if path.is_file()]
    assert len(files) > 8
    named = {name for path in files for name in re.findall(r"ENRICH_[A-Z_]+", path.read_text())}
    assert named <= known
    assert "ENRICH_DATABASE_URL" in named


def test_contacts_are_loaded_in_compose_with_the_rejects_on_a_volume() -> None:
    (line,) = re.findall(r"run --rm .* code enrich (load-contacts .*)", DEPLOYMENT)
    name, *rest = line.split()
    command = enrich.get_command(click.Context(enrich), name)
    assert command is not None
    rest[0] = __file__
    given = command.make_context(name, rest).params
    volume, path = SERVICES["code"]["volumes"][0].split(":")
    assert volume in COMPOSE["volumes"]
    assert given["rejects"].parent == Path(path)


def test_only_what_spends_gets_the_keys_of_providers() -> None:
    spending = {name for name, each in SERVICES.items() if "env_file" in each}
    assert spending == {"code", "worker"}
    example = (DEPLOY / "providers.env.example").read_text()
    assert set(re.findall(r"^(\w+_API_KEY)=", example, re.MULTILINE)) == KEYS
    for each in SERVICES.values():
        assert not KEYS & set(each.get("environment", {}))
    secrets = {name: container["envFrom"] for name, _, container in pods()}
    assert secrets == {
        "enrich-init": [{"secretRef": {"name": "enrich-owner"}}],
        "enrich-receiver": [{"secretRef": {"name": "enrich-receiver"}}],
    }
    with_keys = [s["metadata"]["name"] for s in of_kind("Secret") if KEYS & set(s["stringData"])]
    assert with_keys == ["enrich-spending"]


def test_every_process_works_under_a_login_of_its_role_and_none_is_written_down() -> None:
    def login(environment: dict[str, str]) -> str | None:
        return make_url(
            environment["ENRICH_DATABASE_URL"].replace("?write deploy/.env", "")
        ).username

    assert login(SERVICES["init"]["environment"]) == "postgres"
    assert login(SERVICES["code"]["environment"]) == "enrich_nightly"
    assert login(SERVICES["worker"]["environment"]) == "enrich_nightly"
    assert login(SERVICES["receiver"]["environment"]) == "enrich_hooks"
    logins = (DEPLOY / "logins.sql").read_text()
    roles = (ROOT / "enrich_pipeline/store/migrations/versions/0003_roles.sql").read_text()
    for login_name, role in re.findall(r"\('(\w+)', '(\w+)'\)", logins):
        assert f"ALTER ROLE {login_name} PASSWORD" in logins
        assert f"'{role}'" in roles
    compose = (DEPLOY / "compose.yaml").read_text()
    assert re.findall(r"://\w+:([^$@\s][^@\s]*)@", compose) == []
    assert re.findall(r"PASSWORD: (?!\$\{)", compose) == []


def test_the_image_is_made_of_the_lock_and_runs_as_nobody_in_particular() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    build, final = re.split(r"^FROM .*\n", text, flags=re.MULTILINE)[1:]
    assert "--require-hashes" in build
    assert re.findall(r"^USER (.*)$", final, re.MULTILINE) == ["10001"]
    assert "pip install" not in final
    copied = [
        name
        for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE)
        for name in line.split()[:-1]
    ]
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    for name in copied:
        assert (ROOT / name).exists(), name
        assert f"!{name.removeprefix('./')}" in allowed, name
    assert {
        name for name, pod, _ in pods() if pod["securityContext"]["runAsUser"] != 10001
    } == set()


def test_the_images_lock_agrees_with_the_other_and_holds_no_tools() -> None:
    image, developers = pinned(LOCK), pinned((ROOT / "requirements.lock").read_text())
    shared = image.keys() & developers.keys()
    assert {name: image[name] for name in shared} == {name: developers[name] for name in shared}
    assert not image.keys() & {"pytest", "mypy", "ruff", "hypothesis", "pip-tools"}
    assert {"dagster-celery", "dagster-k8s", "redis", "kubernetes"} <= image.keys()
    assert not developers.keys() & {"celery", "kubernetes"}, "`make setup` installs no executors"


def test_the_chart_configures_dagster_as_dagster_yaml_does() -> None:
    assert VALUES["additionalInstanceConfig"]["concurrency"] == INSTANCE["concurrency"]
    assert VALUES["additionalInstanceConfig"]["nux"] == INSTANCE["nux"]
    assert VALUES["scheduler"]["config"]["customScheduler"] == INSTANCE["scheduler"]
    monitoring = {
        re.sub("[A-Z]", lambda m: f"_{m[0].lower()}", name): value
        for name, value in VALUES["dagsterDaemon"]["runMonitoring"].items()
    }
    assert monitoring.items() >= INSTANCE["run_monitoring"].items()
    assert VALUES["dagsterDaemon"]["runRetries"]["enabled"] is INSTANCE["run_retries"]["enabled"]
    logs = INSTANCE["python_logs"]
    assert VALUES["pythonLogs"]["pythonLogLevel"] == logs["python_log_level"]
    assert VALUES["pythonLogs"]["managedPythonLoggers"] == logs["managed_python_loggers"]
    sensor = VALUES["retention"]["sensor"]["purgeAfterDays"]
    assert sensor.items() >= INSTANCE["retention"]["sensor"]["purge_after_days"].items()


def test_the_chart_reaches_dagsters_tables_as_we_do() -> None:
    given = VALUES["postgresql"]
    url = pg_url_from_config(
        {
            "postgres_db": {
                "username": given["postgresqlUsername"],
                "password": "secret",
                "hostname": given["postgresqlHost"],
                "port": 5432,
                "db_name": given["postgresqlDatabase"],
                "params": given["postgresqlParams"],
                "scheme": given["postgresqlScheme"],
            }
        }
    )
    address = "postgresql://enrich_nightly:secret@postgres.example.com:5432/enrich"
    assert url == connection.dagster_url(make_url(address))
    text = (DEPLOY / "kubernetes" / "values.yaml").read_text()
    assert f"--version {pinned(LOCK)['dagster']}" in text


def test_what_the_manifests_refer_to_is_there() -> None:
    named = {(each["kind"], each["metadata"]["name"]) for each in MANIFESTS}
    secrets = {each["name"] for each in IN_CHART["envSecrets"]}
    secrets |= {VALUES["global"]["postgresqlSecretName"]}
    maps = {v["configMap"]["name"] for v in IN_CHART["volumes"] if "configMap" in v}
    for _, pod, container in pods():
        secrets |= {each["secretRef"]["name"] for each in container["envFrom"]}
        maps |= {v["configMap"]["name"] for v in pod.get("volumes", ()) if "configMap" in v}
        mounted = {each["name"] for each in container["volumeMounts"]}
        assert mounted == {each["name"] for each in pod["volumes"]}
    assert {("Secret", name) for name in secrets} <= named
    assert {("ConfigMap", name) for name in maps} <= named

    (receiver,), (service,), (ingress,) = (
        of_kind("Deployment"),
        of_kind("Service"),
        of_kind("Ingress"),
    )
    labels = receiver["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    ports = {
        each["name"] for each in receiver["spec"]["template"]["spec"]["containers"][0]["ports"]
    }
    assert {each["targetPort"] for each in service["spec"]["ports"]} <= ports
    (rule,) = ingress["spec"]["rules"]
    assert rule["host"] in ingress["spec"]["tls"][0]["hosts"], "tokens travel by TLS only"
    (path,) = rule["http"]["paths"]
    assert path["path"] == "/webhooks", "health is not for the public"
    assert path["backend"]["service"]["name"] == service["metadata"]["name"]


def test_every_pod_is_limited_and_probed_and_cannot_become_root() -> None:
    for name, pod, container in pods():
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
        assert container["resources"]["limits"]["memory"], name
        assert container["resources"]["requests"]["cpu"], name
        if name != "enrich-init":
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys(), name


def test_in_compose_only_this_machine_reaches_a_port() -> None:
    ports = [port for each in SERVICES.values() for port in each.get("ports", ())]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)
    for name, each in SERVICES.items():
        if each.get("image") == "enrich-pipeline":
            assert each["read_only"] is True, name
            assert each["cap_drop"] == ["ALL"], name


def test_the_configurations_that_are_shipped_are_read(tmp_path: Path) -> None:
    (in_map,) = of_kind("ConfigMap")
    for content in ((DEPLOY / "enrich.yaml").read_text(), in_map["data"]["enrich.yaml"]):
        (tmp_path / "enrich.yaml").write_text(content)
        found = settings.load({"ENRICH_CONFIG": "enrich.yaml"}, tmp_path)
        assert found.policy.refresh.executor == "in_process"
