"""Rules of the embedded server's life: it outlives its starter, starts once, survives crashes."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.store import embedded

_START = """
import sys
from pathlib import Path
from enrich_pipeline.store import embedded
embedded.start(Path(sys.argv[1]))
"""


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="enrich-", dir="/tmp"))
    yield folder
    embedded.stop(folder)
    shutil.rmtree(folder)


def _process_id(home: Path) -> int:
    return int((home / "pg" / "postmaster.pid").read_text().splitlines()[0])


def _connect(home: Path) -> psycopg.Connection:
    address = embedded.url(home).set(drivername="postgresql")
    return psycopg.connect(address.render_as_string(hide_password=False), autocommit=True)


def test_starters_at_the_same_moment_share_one_server_that_outlives_them(home: Path) -> None:
    environment = {**os.environ, "ENRICH_PROSPEO_API_KEY": "a-secret"}
    starters = [
        subprocess.Popen([sys.executable, "-c", _START, str(home)], env=environment)
        for _ in range(3)
    ]
    assert [starter.wait(60) for starter in starters] == [0, 0, 0]
    assert embedded.is_running(home)

    server = psutil.Process(_process_id(home))
    assert server.uids().effective != 0
    assert "ENRICH_PROSPEO_API_KEY" not in server.environ()
    assert server.terminal() is None
    assert {c.family for c in server.net_connections("all")} <= {socket.AF_UNIX}


def test_a_killed_server_starts_again_with_what_was_committed(home: Path) -> None:
    embedded.start(home)
    with _connect(home) as session:
        session.execute("create table kept as select 1 as one")
    os.kill(_process_id(home), signal.SIGKILL)

    embedded.start(home)

    with _connect(home) as session:
        assert session.execute("select one from kept").fetchall() == [(1,)]


def test_a_recorded_process_id_that_now_belongs_to_another_program_is_no_server(home: Path) -> None:
    embedded.start(home)
    embedded.stop(home)
    assert not embedded.is_running(home)
    owner = (home / "pg").stat().st_uid
    innocent = subprocess.Popen(["sleep", "60"], user=owner if os.geteuid() == 0 else None)
    record = (
        f"{innocent.pid}\n{home / 'pg'}\n{int(time.time())}\n5432\n{home / 'pg'}\n\n0 0\nready\n"
    )
    try:
        (home / "pg" / "postmaster.pid").write_text(record)
        embedded.stop(home)
        assert innocent.poll() is None, "stop must not signal an unrelated process"
        embedded.start(home)
        assert innocent.poll() is None
        assert _process_id(home) != innocent.pid
    finally:
        innocent.kill()
        innocent.wait()


def test_an_interrupted_creation_is_done_anew(home: Path) -> None:
    (home / "pg.new").mkdir()
    (home / "pg.new" / "PG_VERSION").write_text("18\n")
    embedded.start(home)
    assert embedded.is_running(home)
    assert not (home / "pg.new").exists()


def test_a_deep_home_gets_a_short_private_socket(home: Path) -> None:
    deep = home / ("d" * 60) / ("e" * 60)
    address = embedded.start(deep)
    try:
        assert embedded.start(deep) == address
        folder = Path(str(address.query["host"]))
        assert len(str(folder)) < 60
        assert folder.stat().st_mode & 0o777 == 0o700
    finally:
        embedded.stop(deep)
        folder.rmdir()


def test_a_socket_folder_planted_by_somebody_else_is_refused(home: Path) -> None:
    deep = home / ("d" * 60) / ("f" * 60)
    folder = Path(str(embedded.url(deep).query["host"]))
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    try:
        with pytest.raises(ConfigurationError, match="ENRICH_HOME"):
            embedded.start(deep)
    finally:
        folder.rmdir()


def test_a_home_that_is_a_file_is_refused_by_name(home: Path) -> None:
    (home / "file").write_text("")
    with pytest.raises(ConfigurationError, match="^ENRICH_HOME="):
        embedded.start(home / "file")


def test_stopping_what_never_started_does_nothing(tmp_path: Path) -> None:
    embedded.stop(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()
