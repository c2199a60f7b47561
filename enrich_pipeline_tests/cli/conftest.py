"""Commands, in a folder of their own: in this process, or as users run them in one of theirs."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
from sqlalchemy import URL

from enrich_pipeline.cli import main

from ..support.lab import Bench, Lab, only


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


Enrich = Callable[..., Done]


def start(
    arguments: tuple[str, ...], folder: Path, environ: Mapping[str, str]
) -> subprocess.Popen[str]:
    """A command in a process of its own."""
    return start_python(("-m", "enrich_pipeline.cli", *arguments), folder, environ)


def start_python(
    arguments: tuple[str, ...], folder: Path, environ: Mapping[str, str]
) -> subprocess.Popen[str]:
    """Something else that Python is to do there."""
    return subprocess.Popen(
        [sys.executable, *arguments],
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
def enrich(folder: Path, capfd: pytest.CaptureFixture[str]) -> Enrich:
    """Runs a command in this process; variables of its environment are keyword arguments."""

    def enrich(*arguments: str, **environ: str) -> Done:
        # Some commands add to the environment, for what they start.
        with mock.patch.dict(os.environ, environ), contextlib.chdir(folder):
            capfd.readouterr()
            return Done(main.run(arguments), *capfd.readouterr())

    return enrich


@pytest.fixture
def enrich_alone(folder: Path) -> Enrich:
    """Runs a command in a process of its own, which is how users run it."""

    def enrich(*arguments: str, **environ: str) -> Done:
        process = start(arguments, folder, environ)
        out, err = process.communicate(timeout=180)
        return Done(process.returncode, out, err)

    return enrich


@pytest.fixture
def with_database(database: URL) -> dict[str, str]:
    """The environment that names the test's migrated database."""
    return {"ENRICH_DATABASE_URL": database.render_as_string(hide_password=False)}


@pytest.fixture
def lab(tmp_path: Path, database: URL) -> Iterator[Lab]:
    """A night of one person's work e-mail, at Prospeo alone."""
    with (
        Bench(tmp_path, people=1) as bench,
        bench.lab(database, only({"work_email": ["prospeo"]})) as lab,
    ):
        yield lab
