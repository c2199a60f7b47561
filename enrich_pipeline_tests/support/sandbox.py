"""Starts the sandbox as a process of its own and reads its admin pages."""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

PROVIDERS = ("agntdata", "pronto", "prospeo", "lance", "apollo")
AUTH = {
    "agntdata": ("Authorization", "Bearer test-key"),
    "pronto": ("X-API-KEY", "test-key"),
    "prospeo": ("X-KEY", "test-key"),
    "lance": ("Authorization", "Bearer test-key"),
    "apollo": ("x-api-key", "test-key"),
}
"""The header and a value that every sandbox without --api-key accepts."""

_UP_WITHIN_SECONDS = 90.0
"""Long: campaigns and test processes share a machine."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class SandboxProcess:
    """`with SandboxProcess() as sandbox:` starts one on a free port and stops it in the end.

    `arguments` are those of `python -m enrich_pipeline.sandbox`.
    """

    def __init__(self, arguments: Sequence[str | Path] = (), port: int | None = None) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.arguments = [str(argument) for argument in arguments]
        self.process: subprocess.Popen[bytes] | None = None
        self._http = httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._http.close()

    def start(self) -> None:
        command = [sys.executable, "-m", "enrich_pipeline.sandbox", "--port", str(self.port)]
        self.process = subprocess.Popen([*command, *self.arguments], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + _UP_WITHIN_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the sandbox ended with status {self.process.returncode}")
            with contextlib.suppress(httpx.TransportError):
                if self._http.get("/_sandbox/health").is_success:
                    return
            time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"the sandbox did not start within {_UP_WITHIN_SECONDS:.0f} seconds")

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def kill(self) -> None:
        """SIGKILL, as a crash would; `start` brings it back on the same port."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def base_url(self, provider: str) -> str:
        return f"{self.url}/{provider}"

    def environment(self) -> dict[str, str]:
        """Base URLs and keys as the pipeline reads them from its environment."""
        values: dict[str, str] = {}
        for provider in PROVIDERS:
            values[f"ENRICH_{provider.upper()}_BASE_URL"] = self.base_url(provider)
            values[f"ENRICH_{provider.upper()}_API_KEY"] = "test-key"
        return values

    def get(self, page: str, **parameters: str | int) -> Any:
        return self._http.get(f"/_sandbox/{page}", params=parameters).raise_for_status().json()

    def post(self, page: str, body: object) -> Any:
        return self._http.post(f"/_sandbox/{page}", json=body).raise_for_status().json()

    def health(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.get("health")
        return answer

    def meter(self) -> dict[str, dict[str, int]]:
        """Per provider charged_micro, calls, requests, records, balance_micro, other_persons."""
        answer: dict[str, dict[str, int]] = self.get("meter")
        return answer

    def charges(self, provider: str | None = None) -> list[dict[str, Any]]:
        parameters = {"provider": provider} if provider else {}
        rows: list[dict[str, Any]] = self.get("meter", detail=1, **parameters)["charges"]
        return rows

    def double_charges(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.get("double-charges")
        return rows

    def violations(self) -> dict[str, Any]:
        """total, counts by "provider.rule", rows."""
        answer: dict[str, Any] = self.get("violations")
        return answer

    def requests(self) -> dict[str, dict[str, Any]]:
        answer: dict[str, dict[str, Any]] = self.get("requests")
        return answer

    def webhooks(self) -> dict[str, int]:
        answer: dict[str, int] = self.get("webhooks")
        return answer

    def faults(self, *faults: Mapping[str, Any]) -> None:
        """Adds faults to the script."""
        self.post("faults", [dict(fault) for fault in faults])

    def clear_faults(self) -> None:
        self._http.delete("/_sandbox/faults").raise_for_status()

    def epoch(self, epoch: int) -> None:
        self.post("epoch", {"epoch": epoch})

    def latency(self, ms: float, jitter_ms: float = 0, provider: str | None = None) -> None:
        self.post("latency", {"ms": ms, "jitter_ms": jitter_ms, "provider": provider})

    def balance(self, micro: int, provider: str | None = None) -> None:
        """Sets what is left now, at one provider or at all of them."""
        self.post("balance", {"micro": micro, "provider": provider})

    def account(self, *, pronto_consent: bool) -> None:
        self.post("account", {"pronto_consent": pronto_consent})

    def reset(self) -> None:
        self.post("reset", {})

    def wait_for_deliveries(self, seconds: float = 20) -> None:
        """Until nothing is under way at the webhooks any more."""
        deadline = time.monotonic() + seconds
        while self.health()["pending_deliveries"]:
            if time.monotonic() > deadline:
                raise TimeoutError("webhook deliveries are still pending")
            time.sleep(0.05)
