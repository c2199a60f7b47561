"""The ASGI application that providers deliver to.

A delivery is stored verbatim beside the hash of the token in its address, and answered. Whether it
belongs to a call, and what it says, is decided later by the run that applies it. No body, token or
other value is ever logged here.

    POST     /webhooks/{provider}/{token}   a delivery
    GET|POST /webhooks/probe/{nonce}        proof that this receiver is reached from outside
    GET      /health                        up, and the database answers
"""

import asyncio
import hashlib
import logging
import re
from collections.abc import Awaitable, Callable, Collection

from sqlalchemy import Connection, Engine, exc, text
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from enrich_pipeline.store import inbox
from enrich_pipeline.webhooks.mailbag import Mailbag

MAX_BODY_BYTES = 64 * 1024
BODY_WITHIN_SECONDS = 20.0
"""A sender that trickles its body is cut off, so that slow connections cannot pile up."""
RETRY_AFTER_SECONDS = 30

_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,200}")
_NONCE = re.compile(r"[A-Za-z0-9_-]{16,100}")
_log = logging.getLogger(__name__)


def create_app(engine: Engine, providers: Collection[str]) -> Starlette:
    """The receiver for `providers`, storing through `engine`.

    The caller disposes of the engine. One application serves one event loop.
    """
    receiver = _Receiver(engine, frozenset(providers))
    return Starlette(
        routes=[
            Route("/health", receiver.health, methods=["GET"]),
            Route("/webhooks/probe/{nonce}", receiver.probe, methods=["GET", "POST"]),
            Route("/webhooks/{provider}/{token}", receiver.deliver, methods=["POST"]),
        ]
    )


class _TooLarge(Exception):
    """The body is longer than MAX_BODY_BYTES."""


class _Receiver:
    def __init__(self, engine: Engine, providers: frozenset[str]) -> None:
        self._engine = engine
        self._providers = providers
        self._mailbag = Mailbag(engine)

    async def deliver(self, request: Request) -> Response:
        """Stores one delivery.

        New, repeated and unknown ones are answered alike: a sender learns nothing about tokens,
        and has no reason to come again.
        """
        provider = request.path_params["provider"]
        if provider not in self._providers:
            return Response(status_code=404)
        try:
            async with asyncio.timeout(BODY_WITHIN_SECONDS):
                body = await _body(request)
        except _TooLarge:
            return Response(status_code=413, headers={"connection": "close"})
        except TimeoutError:
            return Response(status_code=408, headers={"connection": "close"})
        except ClientDisconnect:
            return Response(status_code=400)
        token = request.path_params["token"]
        if not body or not _TOKEN.fullmatch(token):
            # Nothing that we gave out looks like this, and nothing that we expect is empty.
            return _accepted()
        arrival = inbox.Arrival(provider, hashlib.sha256(token.encode()).digest(), body)
        return await self._answer(self._mailbag.put(arrival), provider)

    async def probe(self, request: Request) -> Response:
        """Notes the nonce of a run that wants to know whether deliveries would reach us."""
        nonce = request.path_params["nonce"]
        if not _NONCE.fullmatch(nonce):
            return Response(status_code=404)
        return await self._answer(
            self._transaction(lambda connection: inbox.note_probe(connection, nonce)), "probe"
        )

    async def health(self, _: Request) -> Response:
        """200 while deliveries can be stored."""
        return await self._answer(
            self._transaction(lambda connection: connection.execute(text("select 1"))), "health"
        )

    async def _answer(self, work: Awaitable[None], what: str) -> Response:
        try:
            await work
        except (exc.DBAPIError, exc.TimeoutError) as error:
            _log.error("%s not stored: %s", what, type(error).__name__)
            return Response(status_code=503, headers={"retry-after": str(RETRY_AFTER_SECONDS)})
        return _accepted()

    async def _transaction(self, write: Callable[[Connection], object]) -> None:
        def run() -> None:
            with self._engine.begin() as connection:
                write(connection)

        await run_in_threadpool(run)


def _accepted() -> Response:
    return JSONResponse({"status": "ok"})


async def _body(request: Request) -> bytes:
    """The body, read no further than allowed whatever its Content-Length says."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise _TooLarge
    return bytes(body)
