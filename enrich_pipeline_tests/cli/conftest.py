"""The command as users run it: a process of its own, in a folder of its own."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from sqlalchemy import URL

Enrich = Callable[..., "subprocess.CompletedProcess[str]"]


def start(
    arguments: tuple[str, ...], folder: Path, environ: Mapping[str, str]
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "enrich_pipeline.cli", *arguments],
        cwd=folder,
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    """A working directory with a short path: sockets of servers live below it."""
    path = Path(tempfile.mkdtemp(prefix="enrich-cli-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def enrich(folder: Path) -> Enrich:
    """Runs a command; variables of its environment are keyword arguments."""

    def _enrich(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        process = start(arguments, folder, environ)
        out, err = process.communicate(timeout=180)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    return _enrich


@pytest.fixture
def with_database(database: URL) -> dict[str, str]:
    """The environment that names the test's migrated database."""
    return {"ENRICH_DATABASE_URL": database.render_as_string(hide_password=False)}
