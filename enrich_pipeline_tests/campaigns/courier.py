"""Posts deliveries at a steady rate, from a process of its own, and measures the answers.

Delivery n is due at n / rate seconds whatever became of the others, and its time counts from then:
a receiver that stalls cannot make its figures better by slowing its senders down.
"""

import asyncio
import gc
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass

CONNECTIONS = 64
ANSWER_WITHIN_SECONDS = 30.0
KEEP_SECONDS = 2.0
"""Shorter than a server keeps an idle connection: one that it closes just then looks broken."""
_PROCESSES = multiprocessing.get_context("forkserver")


@dataclass(frozen=True, slots=True)
class Parcel:
    """One request. `kind` is what the campaign calls it."""

    kind: str
    path: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one request. Status 0: the connection was broken off."""

    kind: str
    status: int
    seconds: float


def post_all(port: int, parcels: Sequence[Parcel], per_second: float) -> list[Receipt]:
    """Posts in order; one receipt each."""
    with _PROCESSES.Pool(1) as pool:
        return pool.apply(_post_all, (port, list(parcels), per_second))


def _post_all(port: int, parcels: list[Parcel], per_second: float) -> list[Receipt]:
    # Among a hundred thousand parcels a search for garbage stops this process for 0.2 s, and the
    # hundred deliveries that were due meanwhile looked as if the receiver had kept them waiting.
    gc.disable()
    return asyncio.run(_Courier(port).run(parcels, per_second))


class _Courier:
    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, float]] = []
        self._free = asyncio.Semaphore(CONNECTIONS)

    async def run(self, parcels: list[Parcel], per_second: float) -> list[Receipt]:
        started = time.monotonic()
        tasks = []
        for number, parcel in enumerate(parcels):
            due = started + number / per_second
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(self._deliver(parcel, due)))
        receipts = list(await asyncio.gather(*tasks))
        for _, writer, _ in self._idle:
            writer.close()
        return receipts

    async def _deliver(self, parcel: Parcel, due: float) -> Receipt:
        async with self._free:
            try:
                async with asyncio.timeout(ANSWER_WITHIN_SECONDS):
                    status = await self._post(parcel)
            except (OSError, EOFError, TimeoutError):
                status = 0
        return Receipt(parcel.kind, status, time.monotonic() - due)

    async def _post(self, parcel: Parcel) -> int:
        reader, writer = self._fresh() or await asyncio.open_connection("127.0.0.1", self._port)
        keep = False
        try:
            head = (
                f"POST {parcel.path} HTTP/1.1\r\nHost: receiver\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(parcel.body)}\r\n\r\n"
            )
            writer.write(head.encode() + parcel.body)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = answer.partition(b"content-length:")[2].split(b"\r\n", 1)[0]
            await reader.readexactly(int(length or 0))
            keep = b"connection: close" not in answer
        finally:
            if keep:
                self._idle.append((reader, writer, time.monotonic()))
            else:
                writer.close()
        return int(answer.split(b" ", 2)[1])

    def _fresh(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """The connection that was used last, if that is not long ago; none of the others is."""
        while self._idle:
            reader, writer, used_at = self._idle.pop()
            if time.monotonic() - used_at < KEEP_SECONDS:
                return reader, writer
            writer.close()
        return None
