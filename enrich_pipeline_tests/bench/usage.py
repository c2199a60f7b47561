"""What a command and everything that it starts uses: seconds, processor, memory.

Run as a program it is the command's guardian, of the standard library and psutil alone: orphans of
the command become its children, so that the kernel adds up the processor time of the whole tree to
the last process (Linux). Memory is read twice a second, pages shared by several processes once.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

_SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2)."""
_LOOK_EVERY_SECONDS = 0.5
_ORPHANS_END_WITHIN_SECONDS = 20.0


class CommandFailed(Exception):
    """The command ended with a status of failure; the message holds its last lines."""


@dataclass(frozen=True, slots=True)
class Usage:
    """One run of a command. `started_at` is epoch seconds, `seconds` are those of the clock."""

    status: int
    started_at: float
    seconds: float
    cpu_seconds: float
    peak_bytes: int


def of_command(
    command: Sequence[str],
    folder: Path,
    environ: Mapping[str, str],
    within_seconds: float = 3_600,
    passable: Sequence[int] = (0,),
) -> Usage:
    """Run a command in `folder` to its end, its output in `output.txt` there.

    Raises:
        CommandFailed: it ended with a status that is not `passable`, or not in time.
    """
    result, output = folder / "usage.json", folder / "output.txt"
    guardian = [sys.executable, __file__, str(result), str(within_seconds), *command]
    with (
        output.open("wb") as file,
        subprocess.Popen(
            guardian,
            cwd=folder,
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            process.wait()
        finally:
            # Told to end itself, it ends the whole tree first.
            process.terminate()
    usage = Usage(**json.loads(result.read_text()))
    if usage.status not in passable:
        last = "\n".join(output.read_text(errors="replace").strip().splitlines()[-15:])
        raise CommandFailed(f"{' '.join(command)} ended with status {usage.status}:\n{last}")
    return usage


def cpu_of_server(home: Path) -> float:
    """Processor seconds of an embedded PostgreSQL since its start: ended sessions included."""
    recorded = (home / "pg" / "postmaster.pid").read_text()
    postmaster = psutil.Process(int(recorded.split("\n", 1)[0]))
    seconds = _cpu(postmaster)
    spent = postmaster.cpu_times()
    for each in postmaster.children():
        try:
            seconds += _cpu(each)
        except psutil.NoSuchProcess:
            return cpu_of_server(home)
    return seconds + spent.children_user + spent.children_system


def cpu_of_process(pid: int) -> float:
    """Processor seconds of one living process since its start."""
    return _cpu(psutil.Process(pid))


def _cpu(process: psutil.Process) -> float:
    spent = process.cpu_times()
    return float(spent.user + spent.system)


# ---- the guardian ---------------------------------------------------------------------------


def _guard(result: Path, within_seconds: float, command: Sequence[str]) -> None:
    for asked_to_end in (signal.SIGTERM, signal.SIGINT):
        signal.signal(asked_to_end, lambda *_: _end_all())
    ctypes.CDLL(None, use_errno=True).prctl(_SUBREAPER, 1, 0, 0, 0)
    started_at, started = time.time(), time.monotonic()
    process = subprocess.Popen(command)
    over = threading.Event()
    peak: list[int] = [0]
    watcher = threading.Thread(target=_watch_memory, args=(over, peak), daemon=True)
    watcher.start()
    cpu_seconds, seconds = 0.0, 0.0
    deadline = started + within_seconds
    while True:
        try:
            pid, status, spent = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid == 0:
            if time.monotonic() > deadline:
                _end_all()
            time.sleep(0.005)
            continue
        cpu_seconds += spent.ru_utime + spent.ru_stime
        if pid == process.pid:
            seconds = time.monotonic() - started
            process.returncode = os.waitstatus_to_exitcode(status)
            deadline = time.monotonic() + _ORPHANS_END_WITHIN_SECONDS
    over.set()
    watcher.join()
    usage = Usage(process.returncode, started_at, seconds, cpu_seconds, peak[0])
    result.write_text(json.dumps(asdict(usage)))


def _watch_memory(over: threading.Event, peak: list[int]) -> None:
    while not over.wait(_LOOK_EVERY_SECONDS):
        total = 0
        for each in psutil.Process().children(recursive=True):
            try:
                total += each.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        peak[0] = max(peak[0], total)


def _end_all() -> None:
    for each in psutil.Process().children(recursive=True):
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue


if __name__ == "__main__":
    _guard(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
