"""Child processes of a command: started together, watched, stopped together."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from enrich_pipeline.domain.errors import EnrichError

_STOP_WITHIN_SECONDS = 20.0


def enrich(*arguments: str) -> list[str]:
    """The command line of one of our own commands, as run by this Python."""
    return [sys.executable, "-m", "enrich_pipeline.cli", *arguments]


def free_port(preferred: int = 0) -> int:
    """A port of this machine that nobody listens on now; `preferred` if that is one."""
    try:
        listener = socket.create_server(("127.0.0.1", preferred))
    except OSError:
        listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        port: int = listener.getsockname()[1]
        return port


def wait_for_port(port: int, what: str, seconds: float = 30.0) -> None:
    """Return once something listens. Raises EnrichError when nothing does in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise EnrichError(f"{what} did not come up on port {port}")


@dataclass(slots=True)
class Children:
    """Named child processes."""

    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        environ: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        """Start a child; its output goes to `log`, else to this terminal."""
        output = None if log is None else log.open("ab")
        try:
            self._running[name] = subprocess.Popen(  # noqa: S603
                list(command),
                cwd=cwd,
                env=None if environ is None else dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # A group of its own: Ctrl-C reaches it through us, once, and with its children.
                start_new_session=True,
                # Inherited as ignored (from a shell's `&`), an interruption would never arrive.
                preexec_fn=_hear_interruptions,
            )
        finally:
            if output is not None:
                output.close()

    def first_ended(self) -> tuple[str, int] | None:
        """Name and exit code of a child that has ended, if one has."""
        for name, process in self._running.items():
            if (code := process.poll()) is not None:
                return name, code
        return None

    def stop(self) -> None:
        """Stop all: first politely, after a while for good."""
        for process in self._running.values():
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + _STOP_WITHIN_SECONDS
        for process in self._running.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal_group(process, signal.SIGKILL)
                process.wait()
            # What it started and left behind, say Dagster's code server, ends as politely.
            _signal_group(process, signal.SIGTERM)
        self._running.clear()


@contextmanager
def children() -> Iterator[Children]:
    """Children that end with the block, however it ends."""
    started = Children()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield started
    finally:
        started.stop()
        signal.signal(signal.SIGTERM, before)


def _hear_interruptions() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
