"""A TCP proxy with bad weather: it delays, drips, cuts and resets what passes through it.

Listens on this machine, in a thread of this process; the other side is a TCP port or a Unix
socket. What it does to bytes is drawn from a seed per direction; it never looks into them.
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

_CHUNK = 65536
_RESET = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class Weather:
    """Chances per chunk of bytes, the same for both directions.

    `reset` drops the chunk and resets both sides; `cut` lets half of it through before; `delay` and
    `drip` let it through late, or piece by piece.
    """

    reset: float = 0.0
    cut: float = 0.0
    delay: float = 0.0
    drip: float = 0.0
    longest_seconds: float = 0.3
    only: frozenset[str] = frozenset(("up", "down"))
    """Directions that are hit: up is to the server."""


FAIR = Weather()


@dataclass
class Proxy:
    """`with Proxy(("127.0.0.1", 5000), seed) as proxy:` listens on `proxy.port`."""

    target: tuple[str, int] | Path
    seed: int
    weather: Weather = field(default_factory=Weather)
    struck: Counter[str] = field(default_factory=Counter)
    """What was done so far, by kind; those that break a connection under `broken`."""
    port: int = 0

    def __enter__(self) -> Self:
        self._random = random.Random(self.seed)
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        ready.wait(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_CHUNK)
        )
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.05))
        self._loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if isinstance(self.target, Path):
                server = await asyncio.open_unix_connection(self.target)
            else:
                server = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        pumps = [
            asyncio.ensure_future(self._pump("up", reader, server[1])),
            asyncio.ensure_future(self._pump("down", server[0], writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            _drop(server[1], hard=True)
            _drop(writer, hard=any(p.done() and not p.cancelled() and p.result() for p in pumps))

    async def _pump(
        self, direction: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Passes bytes on until the end; True when it broke the connection on purpose."""
        with contextlib.suppress(OSError):
            while chunk := await reader.read(_CHUNK):
                if await self._pass(direction, chunk, writer):
                    self.struck["broken"] += 1
                    return True
        return False

    async def _pass(self, direction: str, chunk: bytes, writer: asyncio.StreamWriter) -> bool:
        weather, dice = self.weather, self._random.random()
        if direction not in weather.only:
            dice = 1.0
        pieces = [chunk]
        for name in ("reset", "cut", "delay", "drip"):
            chance: float = getattr(weather, name)
            if dice >= chance:
                dice -= chance
                continue
            self.struck[f"{name} {direction}"] += 1
            if name == "reset":
                return True
            if name == "cut":
                writer.write(chunk[: len(chunk) // 2])
                await writer.drain()
                return True
            if name == "drip":
                size = max(1, len(chunk) // 8)
                pieces = [chunk[start : start + size] for start in range(0, len(chunk), size)]
            pause = self._random.random() * weather.longest_seconds / len(pieces)
            for piece in pieces:
                await asyncio.sleep(pause)
                writer.write(piece)
                await writer.drain()
            return False
        writer.write(chunk)
        await writer.drain()
        return False


def _drop(writer: asyncio.StreamWriter, *, hard: bool) -> None:
    """Closes; a hard close sends a reset, as a machine does that forgot the connection."""
    connection = writer.get_extra_info("socket")
    if hard and connection is not None and connection.family == socket.AF_INET:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        writer.transport.abort()
    else:
        writer.close()
