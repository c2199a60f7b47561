"""Where the page of a night lies, and how it gets there; what is on it is made in `page.py`."""

from datetime import date
from pathlib import Path


def path_of(home: Path, day: date) -> Path:
    """Where the page of a night belongs unless somebody names another file."""
    return home / "reports" / f"{day}.html"


def write(path: Path, content: str) -> int:
    """Write a page at once or not at all, for its owner's eyes only; returns its size in bytes."""
    encoded = content.encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.touch(mode=0o600)
    part.write_bytes(encoded)
    part.replace(path)
    return len(encoded)
