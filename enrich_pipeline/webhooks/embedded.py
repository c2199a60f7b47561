"""The receiver that `enrich refresh` brings along.

It is only for a public address that is this machine's own, where nothing listens yet: a public
address that others reach is the business of `enrich webhooks`, which outlives single runs.
"""

import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from sqlalchemy import URL

from enrich_pipeline.providers.http import is_loopback
from enrich_pipeline.webhooks import server


def is_needed(public_url: str | None) -> bool:
    """Whether the address is loopback, nothing listens there, and a receiver would serve it.

    An address with a path belongs to some proxy that takes the path off: not ours to stand in for.
    """
    if public_url is None:
        return False
    host, port = _address(public_url)
    if not is_loopback(host) or urlsplit(public_url).path not in ("", "/"):
        return False
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return True
    return False


@contextmanager
def receiving(
    database_url: URL, providers: Collection[str], public_url: str | None
) -> Iterator[bool]:
    """Keep a receiver at `public_url` while the block runs, if one is needed; gives whether."""
    if public_url is None or not is_needed(public_url):
        yield False
        return
    host, port = _address(public_url)
    with server.serving(database_url, providers, host, port):
        yield True


def _address(public_url: str) -> tuple[str, int]:
    parts = urlsplit(public_url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
