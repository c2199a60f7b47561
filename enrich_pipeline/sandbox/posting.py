"""Posts JSON to webhook receivers: https through httpx, plain http over a few lines of our own.

Receivers on this machine are reached by plain http, and a rehearsal of a million contacts posts
hundreds of thousands of results: httpx spends some 2 ms of processor time on each, this 0.1 ms.
Only what such a receiver answers is understood: a status, headers, a body of stated length.
"""

import asyncio
from urllib.parse import urlsplit

import httpx

_SECONDS = 10.0
_MOST_IDLE = 64

_FAILURES = (
    OSError,
    EOFError,
    ValueError,
    IndexError,
    TimeoutError,
    asyncio.LimitOverrunError,
)
_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class NotDelivered(Exception):
    """Nobody answered, or not in HTTP."""


class Poster:
    """Keeps connections open between posts."""

    def __init__(self) -> None:
        self._idle: dict[tuple[str, int], list[_Connection]] = {}
        self._https: httpx.AsyncClient | None = None

    async def post(self, url: str, content: bytes) -> int:
        """Posts the JSON and returns the status.

        Raises:
            NotDelivered: no connection, no answer within ten seconds, or no HTTP.
        """
        parts = urlsplit(url)
        try:
            async with asyncio.timeout(_SECONDS):
                if parts.scheme == "https":
                    return await self._post_encrypted(url, content)
                host, port = parts.hostname or "", parts.port or 80
                path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                head = (
                    f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
                    f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
                )
                return await self._post_plain((host, port), head.encode() + content)
        except (*_FAILURES, httpx.HTTPError) as error:
            raise NotDelivered(type(error).__name__) from error

    async def close(self) -> None:
        for connections in self._idle.values():
            for _, writer in connections:
                writer.close()
        self._idle.clear()
        if self._https is not None:
            await self._https.aclose()
            self._https = None

    async def _post_encrypted(self, url: str, content: bytes) -> int:
        if self._https is None:
            self._https = httpx.AsyncClient(
                headers={"Content-Type": "application/json"},
                timeout=_SECONDS,
                trust_env=False,
                follow_redirects=False,
            )
        return (await self._https.post(url, content=content)).status_code

    async def _post_plain(self, address: tuple[str, int], request: bytes) -> int:
        idle = self._idle.setdefault(address, [])
        while idle:
            connection = idle.pop()
            try:
                return await self._exchange(connection, idle, request)
            except (OSError, EOFError):
                # The receiver had closed the idle connection meanwhile.
                connection[1].close()
        connection = await asyncio.open_connection(*address)
        try:
            return await self._exchange(connection, idle, request)
        except BaseException:
            connection[1].close()
            raise

    @staticmethod
    async def _exchange(connection: _Connection, idle: list[_Connection], request: bytes) -> int:
        reader, writer = connection
        writer.write(request)
        lines = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        status = int(lines[0].split()[1])
        headers = {name.strip(): value.strip() for name, _, value in map(_halves, lines[1:])}
        length = headers.get(b"content-length")
        if length is not None:
            await reader.readexactly(int(length))
        closes = headers.get(b"connection") == b"close" or lines[0].startswith(b"http/1.0")
        if length is None or closes or len(idle) >= _MOST_IDLE:
            writer.close()
        else:
            idle.append(connection)
        return status


def _halves(line: bytes) -> tuple[bytes, bytes, bytes]:
    return line.partition(b":")
