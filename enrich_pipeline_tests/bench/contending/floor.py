"""The floor: asyncio, httpx and COPY. The same calls in the same order, with no safety at all.

Whatever goes wrong, everything is lost and paid again: nothing is written before the end.
"""

import asyncio
import contextlib
from collections import defaultdict
from typing import Any

import httpx
import psycopg
import uvicorn
from psycopg.rows import dict_row
from starlette.applications import Starlette
from starlette.requests import Request as Delivered
from starlette.responses import Response
from starlette.routing import Route

from .asking import COLUMNS, Call, Deliveries, Later, Night, Request, Waterfall, talk

IN_FLIGHT = 16
"""Calls at a time: as many as the pipeline has at one provider."""
LOOK_EVERY_SECONDS = 0.05

TABLE = "floor_contacts"
_MAKE = f"create table {TABLE} (contact_id text primary key, {' text, '.join(COLUMNS)} text)"
_COPY = f"copy {TABLE} (contact_id, {', '.join(COLUMNS)}) from stdin"


class Mailbox:
    """Deliveries by the number of their call, and whoever waits for them."""

    def __init__(self) -> None:
        self._letters: dict[int, list[Any]] = defaultdict(list)
        self._news: dict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self.app = Starlette(routes=[Route("/{call:int}", self._take, methods=["POST"])])

    async def _take(self, delivered: Delivered) -> Response:
        call = delivered.path_params["call"]
        self._letters[call].append(await delivered.json())
        self._news[call].set()
        return Response()

    async def wait(self, call: int, number: int) -> list[Any]:
        while len(self._letters[call]) < number:
            self._news[call].clear()
            await self._news[call].wait()
        return self._letters.pop(call)


async def refresh(night: Night) -> None:
    """Everybody through the whole waterfall, one provider after the other."""
    async with await psycopg.AsyncConnection.connect(night.database, row_factory=dict_row) as conn:
        contacts = await (await conn.execute(night.query.encode())).fetchall()
        waterfall = Waterfall(contacts, night.waterfalls)
        mailbox = Mailbox()
        limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
        async with (
            _receiving(mailbox, night.receiver_port),
            httpx.AsyncClient(timeout=60, trust_env=False, limits=limits) as http,
        ):
            gate = asyncio.Semaphore(IN_FLIGHT)

            async def ask(call: Call) -> None:
                async with gate:
                    answers = await _ask(night, http, mailbox, call)
                waterfall.answered(call, answers)

            for provider in night.chain:
                await asyncio.gather(*map(ask, waterfall.calls(provider)))
        await conn.execute(_MAKE.encode())
        async with conn.cursor() as cursor, cursor.copy(_COPY.encode()) as copy:
            for row in waterfall.rows():
                await copy.write_row(list(row.values()))


async def _ask(night: Night, http: httpx.AsyncClient, mailbox: Mailbox, call: Call) -> Any:
    conversation = talk(call, f"http://127.0.0.1:{night.receiver_port}/{call.number}")
    step = next(conversation)
    while True:
        heard: list[Any] = []
        if isinstance(step, Later):
            await asyncio.sleep(LOOK_EVERY_SECONDS)
        elif isinstance(step, Deliveries):
            heard = await mailbox.wait(call.number, step.number)
        else:
            replies = (_reply(night, http, call.provider, request) for request in step)
            heard = await asyncio.gather(*replies)
        try:
            step = conversation.send(heard)
        except StopIteration as end:
            return end.value


async def _reply(night: Night, http: httpx.AsyncClient, provider: str, request: Request) -> Any:
    response = await http.request(**night.sent(provider, request))
    return response.raise_for_status().json()


@contextlib.asynccontextmanager
async def _receiving(mailbox: Mailbox, port: int) -> Any:
    config = uvicorn.Config(
        mailbox.app, port=port, log_level="warning", access_log=False, lifespan="off"
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        await serving


if __name__ == "__main__":
    asyncio.run(refresh(Night.here()))
