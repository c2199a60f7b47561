"""Can providers reach our webhook receiver? Proven before the first credit that depends on it."""

import secrets
import time
from functools import cached_property

import httpx
from sqlalchemy import Engine

from enrich_pipeline.providers.http import usual_trust
from enrich_pipeline.store import inbox

_SECONDS = 5.0


class Reachability:
    """Sends a nonce through the public URL once per run and looks for it in the database."""

    def __init__(self, engine: Engine, public_url: str | None) -> None:
        self._engine = engine
        self._public_url = public_url

    @cached_property
    def is_proven(self) -> bool:
        """Whether a request to the public URL ends in this database."""
        if self._public_url is None:
            return False
        nonce = secrets.token_hex(16)
        with self._engine.begin() as conn:
            inbox.expect_probe(conn, nonce)
        url = f"{self._public_url.rstrip('/')}/webhooks/probe/{nonce}"
        try:
            httpx.get(
                url,
                timeout=_SECONDS,
                verify=usual_trust(),
                trust_env=False,
                follow_redirects=False,
            )
        except httpx.HTTPError:
            return False
        until = time.monotonic() + _SECONDS
        while time.monotonic() < until:
            with self._engine.connect() as conn:
                if inbox.has_probe(conn, nonce):
                    return True
            time.sleep(0.05)
        return False
