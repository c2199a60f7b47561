"""Runs the receiver with uvicorn, in the foreground or in a thread of this process.

Access logs are off: the address of a delivery holds its token.
"""

import asyncio
import gc
import logging
import socket
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import uvicorn
from sqlalchemy import URL
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from enrich_pipeline.domain.errors import EnrichError
from enrich_pipeline.store import connection
from enrich_pipeline.webhooks.app import create_app

_CONNECTIONS = 4
_MAX_CONCURRENT = 1000
HEAD_WITHIN_SECONDS = 10.0
"""From connecting, or from the first byte of a further request, to the end of its headers."""
_UP_WITHIN_SECONDS = 15.0


def serve(database_url: URL, providers: Collection[str], host: str, port: int) -> None:
    """Receive until SIGINT or SIGTERM.

    Raises EnrichError when the port cannot be listened on.
    """
    engine = connection.create_engine(database_url, pool_size=_CONNECTIONS)
    try:
        with _listen(host, port) as listener:
            server = uvicorn.Server(_configuration(create_app(engine, providers)))
            # What was imported is no garbage: looking through it stops all answers for 0.1 s.
            gc.freeze()
            server.run(sockets=[listener])
    finally:
        engine.dispose()


@contextmanager
def serving(database_url: URL, providers: Collection[str], host: str, port: int) -> Iterator[int]:
    """Receive in a thread while the block runs; gives the port, chosen here when `port` is 0.

    Raises EnrichError when the port cannot be listened on or the server does not come up.
    """
    engine = connection.create_engine(database_url, pool_size=_CONNECTIONS)
    listener = _listen(host, port)
    server = _ThreadedServer(_configuration(create_app(engine, providers)))
    thread = threading.Thread(target=server.run, args=([listener],), name="webhooks", daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + _UP_WITHIN_SECONDS
        while not server.started:
            if time.monotonic() > deadline or not thread.is_alive():
                raise EnrichError("the webhook receiver did not come up")
            time.sleep(0.01)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(_UP_WITHIN_SECONDS)
        listener.close()
        engine.dispose()


class _ImpatientProtocol(H11Protocol):
    """Closes connections whose request does not begin in time.

    The server itself waits for ever for headers, so that a few hundred silent connections would
    keep everybody else out.
    """

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._is_answering() and self._head_timer is None:
            self._await_head()
        super().data_received(data)
        if self._is_answering():
            self._head_came()

    def _is_answering(self) -> bool:
        cycle: object = self.cycle
        return isinstance(cycle, RequestResponseCycle) and not cycle.response_complete

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_WITHIN_SECONDS, self._give_up)

    def _head_came(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.abort()


class _ThreadedServer(uvicorn.Server):
    """Leaves signals to the main thread."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _configuration(app: ASGIApp) -> uvicorn.Config:
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    # `access_log=False` takes away its handlers, but records still reach those of the root logger.
    logging.getLogger("uvicorn.access").disabled = True
    return uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        lifespan="off",
        server_header=False,
        # Nobody asks from where somebody called.
        proxy_headers=False,
        http=_ImpatientProtocol,
        ws="none",
        limit_concurrency=_MAX_CONCURRENT,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=10,
    )


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=1024
        )
    except OSError as error:
        raise EnrichError(
            f"the webhook receiver cannot listen on {host}:{port}: {error.strerror}"
        ) from None
