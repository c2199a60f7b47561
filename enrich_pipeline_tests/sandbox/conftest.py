"""Running sandboxes: one where everybody is found, one with the usual rates."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from ..support.sandbox import AUTH, SandboxProcess
from .inbox import Inbox

CERTAIN = {
    **dict.fromkeys(
        (
            "truth.mobile", "truth.personal_email", "agntdata.record", "agntdata.email",
            "agntdata.phone", "agntdata.personal_email", "pronto.email", "pronto.phone",
            "pronto.personal_email", "prospeo.match", "prospeo.email", "prospeo.verified_share",
            "prospeo.mobile", "lance.emails", "lance.verified_share", "lance.phones",
            "apollo.profile", "apollo.email", "apollo.verified_share", "apollo.personal_email",
            "apollo.phone", "apollo.waterfall_email",
        ),
        1.0,
    ),
    **dict.fromkeys(
        (
            "truth.moved", "answer.other_person", "answer.respelled", "answer.lagging",
            "agntdata.guessed_share", "pronto.catch_all_share", "lance.broken",
        ),
        0.0,
    ),
}  # fmt: skip
QUICK = ("--pronto-delay", "0.01-0.05", "--apollo-delay", "0.01-0.05", "--lance-delay", "0.1")


def rates(values: dict[str, float]) -> list[str]:
    return [part for name, share in values.items() for part in ("--rate", f"{name}={share}")]


@dataclass(frozen=True, slots=True)
class Client:
    """Asks the providers of one sandbox with a valid key."""

    sandbox: SandboxProcess
    http: httpx.Client

    def ask(
        self,
        provider: str,
        path: str,
        body: Any = None,
        *,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> httpx.Response:
        name, value = AUTH[provider]
        return self.http.request(
            method or ("GET" if body is None else "POST"),
            self.sandbox.base_url(provider) + path,
            json=body,
            headers={name: value} if headers is None else headers,
            **more,
        )

    def rules_broken(self) -> dict[str, int]:
        counts: dict[str, int] = self.sandbox.violations()["counts"]
        return counts


@pytest.fixture(scope="session")
def http() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=10) as client:
        yield client


@pytest.fixture(scope="session")
def certain_sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess([*QUICK, *rates(CERTAIN)]) as sandbox:
        yield sandbox


@pytest.fixture
def certain(certain_sandbox: SandboxProcess, http: httpx.Client) -> Client:
    """Everybody is found with everything, verified."""
    certain_sandbox.reset()
    return Client(certain_sandbox, http)


@pytest.fixture(scope="session")
def usual_sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess(QUICK) as sandbox:
        yield sandbox


@pytest.fixture
def usual(usual_sandbox: SandboxProcess, http: httpx.Client) -> Client:
    """The default rates."""
    usual_sandbox.reset()
    return Client(usual_sandbox, http)


@pytest.fixture
def start(http: httpx.Client) -> Iterator[Callable[..., Client]]:
    """Starts further sandboxes with other arguments."""
    started: list[SandboxProcess] = []

    def start(*arguments: object, certainly: bool = True) -> Client:
        given = [*QUICK, *(rates(CERTAIN) if certainly else []), *map(str, arguments)]
        sandbox = SandboxProcess(given)
        sandbox.__enter__()
        started.append(sandbox)
        return Client(sandbox, http)

    yield start
    for sandbox in started:
        sandbox.__exit__(None, None, None)


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with Inbox() as inbox:
        yield inbox
