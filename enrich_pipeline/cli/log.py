"""The log file of the command line. Places and classes of errors go there, never values."""

import logging
import os
import traceback
from datetime import UTC, datetime
from pathlib import Path


def folder(home: Path) -> Path:
    """The folder for logs below ENRICH_HOME, made if need be."""
    logs = home / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    return logs


def start(home: Path) -> Path:
    """Send the package's log records to a file below ENRICH_HOME; gives the file."""
    path = folder(home) / "enrich.log"
    root = logging.getLogger("enrich_pipeline")
    if not any(isinstance(handler, logging.FileHandler) for handler in root.handlers):
        handler = logging.FileHandler(path)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        root.propagate = False
    return path


def unexpected(error: BaseException) -> Path:
    """Write where an error came from, without its message: that may quote a value."""
    home = Path(os.environ.get("ENRICH_HOME") or ".enrich")
    try:
        path = folder(home) / "enrich.log"
        with path.open("a") as file:
            file.write(f"{datetime.now(UTC).isoformat()} unexpected\n")
            cause: BaseException | None = error
            while cause is not None:
                file.write(f"{type(cause).__module__}.{type(cause).__qualname__}\n")
                # Without source lines: these may hold literals.
                for frame in traceback.extract_tb(cause.__traceback__):
                    file.write(f"  {frame.filename}:{frame.lineno} {frame.name}\n")
                cause = cause.__cause__ or cause.__context__
    except OSError:
        return Path("no log: it cannot be written")
    return path
