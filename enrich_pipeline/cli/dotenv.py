"""Writing `.env` without touching what else stands in it. Reading it is python-dotenv's part."""

import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from enrich_pipeline.domain.errors import ConfigurationError

_HEAD = "# Local settings of enrich; read by enrich, dagster dev and dg dev. Not for git.\n"


def update(path: Path, values: Mapping[str, str], suggested: Sequence[str] = ()) -> None:
    """Set variables in the file, in place where they stand already, else at its end.

    A new file gets the names of `suggested` as comments. The file holds passwords: only its owner
    may read it. Writing the same values again changes nothing.
    """
    try:
        before = path.read_text() if path.exists() else None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path.name} cannot be read: {type(error).__name__}") from None
    lines = (before if before is not None else _new(suggested)).splitlines()
    for name, value in values.items():
        line = f"{name}='{_quoted(value)}'"
        places = [i for i, each in enumerate(lines) if _assigns(each, name)]
        if places:
            lines[places[-1]] = line
        else:
            lines.append(line)
    after = "\n".join(lines) + "\n"
    if after != before:
        _replace(path, after)


def _new(suggested: Sequence[str]) -> str:
    return _HEAD + "".join(f"# {name}=\n" for name in suggested)


def _assigns(line: str, name: str) -> bool:
    return re.match(rf"\s*(export\s+)?{re.escape(name)}\s*=", line) is not None


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


def _replace(path: Path, content: str) -> None:
    """All or nothing, and never readable by others in between."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".env.")
    with os.fdopen(handle, "w") as file:
        file.write(content)
    os.replace(name, path)
