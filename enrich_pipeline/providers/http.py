"""The one HTTP client: every request to a provider leaves through it, and leaves at most once.

It says exactly one of three things about a request: here is the response, it never left, or nobody
knows. What follows for the money is the engine's business; what a response means is the adapter's.
No retry, redirect, proxy, cookie or environment variable may change what is sent or where to.
"""

import ipaddress
import json
import logging
import re
import ssl
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Self
from urllib.parse import urlsplit

import httpcore
import httpx

from enrich_pipeline.domain.errors import ConfigurationError, EnrichError
from enrich_pipeline.providers.protocol import HttpRequest, HttpResponse

DEFAULT_MAX_BODY_BYTES = 16 * 1024 * 1024
KEEPALIVE_SECONDS = 5.0
"""Short: reusing a connection that the server closed while idle looks like a lost reply."""


class ExchangeError(EnrichError):
    """A request without a response. `code` is safe to store and log: no URL, header or body."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class NeverSent(ExchangeError):
    """Provably no byte of the request left this machine: nothing can have been charged."""


class ReplyLost(ExchangeError):
    """The request may have arrived and may have been charged."""


# Only what httpx raises before a connection is usable proves that nothing was sent. Connect and
# read timeouts share a base class there, so every class is named and looked up by exact type.
NEVER_SENT: frozenset[type[Exception]] = frozenset(
    {httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol}
)
REPLY_LOST: frozenset[type[Exception]] = frozenset(
    {
        httpx.HTTPError,
        httpx.RequestError,
        httpx.TransportError,
        httpx.TimeoutException,
        httpx.ReadTimeout,
        httpx.WriteTimeout,
        httpx.NetworkError,
        httpx.ReadError,
        httpx.WriteError,
        httpx.CloseError,
        httpx.ProtocolError,
        httpx.LocalProtocolError,
        httpx.RemoteProtocolError,
        httpx.ProxyError,
        httpx.DecodingError,
        httpx.TooManyRedirects,
        httpx.HTTPStatusError,
        httpx.InvalidURL,
        httpx.CookieConflict,
        httpx.StreamError,
        httpx.StreamConsumed,
        httpx.StreamClosed,
        httpx.ResponseNotRead,
        httpx.RequestNotRead,
    }
)


def exchange_error(error: Exception) -> ExchangeError:
    """Our word for what went wrong during an exchange; anything unheard of is a lost reply."""
    code = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__).lower()
    return NeverSent(code) if type(error) in NEVER_SENT else ReplyLost(code)


def encode(request: HttpRequest) -> bytes:
    """The body of a request, byte for byte the same for equal content; empty without a body.

    Sorted keys, no spaces, and characters beyond ASCII escaped, which is valid UTF-8 for any text.
    """
    if request.json is None:
        return b""
    return json.dumps(
        request.json, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode("ascii")


def is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def validate_base_url(url: str, *, setting: str = "base_url") -> None:
    """Refuses base URLs that could carry keys in the clear or to a machine inside the network.

    Raises:
        ConfigurationError: names the setting; the URL itself is not repeated, it may hold a secret.
    """
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        raise ConfigurationError(f"{setting} is not a URL") from None
    if re.search(r"[\s\x00-\x1f\\]", url) or not host:
        raise ConfigurationError(f"{setting} is not a URL with a host")
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(f"{setting} must not contain a user name or password")
    if parts.query or parts.fragment:
        raise ConfigurationError(f"{setting} must not contain a query or fragment")
    if parts.scheme == "http" and is_loopback(host):
        return
    if parts.scheme != "https":
        raise ConfigurationError(f"{setting} must start with https:// (http:// only for this host)")
    if _is_address(host) and not (is_loopback(host) or _is_public(host)):
        raise ConfigurationError(f"{setting} must not point into a private network")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    ip = mapped or ip
    return ip.is_global and not ip.is_multicast


def _nobody() -> None:
    """Nobody has to know."""


class _Deadline:
    """When the exchange under way on a connection must be over, on the monotonic clock.

    And who is told whenever something of it was written.
    """

    def __init__(self) -> None:
        self.at = float("inf")
        self.on_sent: Callable[[], object] = _nobody

    def remaining(self, timeout: float | None) -> float:
        left = self.at - time.monotonic()
        return left if timeout is None else min(left, timeout)


class _Stream(httpcore.NetworkStream):
    """A connection that counts every read and write against the deadline of the exchange.

    A timeout per read does not stop a server that sends one byte a second.
    """

    def __init__(self, inner: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left = self._deadline.remaining(timeout)
        if left <= 0:
            raise httpcore.ReadTimeout("deadline")
        return self._inner.read(max_bytes, left)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        left = self._deadline.remaining(timeout)
        if left <= 0:
            raise httpcore.WriteTimeout("deadline")
        self._inner.write(buffer, left)
        self._deadline.on_sent()

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = self._deadline.remaining(timeout)
        if left <= 0:
            self._inner.close()
            raise httpcore.ConnectTimeout("deadline")
        inner = self._inner.start_tls(ssl_context, server_hostname, left)
        return _Stream(inner, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    """Opens connections within the deadline, and only to addresses that a provider can have."""

    def __init__(self, deadline: _Deadline) -> None:
        self._inner = httpcore.SyncBackend()
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = self._deadline.remaining(timeout)
        if left <= 0:
            raise httpcore.ConnectTimeout("deadline")
        stream = self._inner.connect_tcp(host, port, left, local_address, socket_options)
        # The address is judged on the open connection: a name looked up twice may answer twice.
        if not is_loopback(host) and not _is_public(_peer_address(stream)):
            stream.close()
            raise httpcore.ConnectError("address is not public")
        # Name resolution and several addresses can outlast the timeout; nothing was sent yet.
        if self._deadline.remaining(None) <= 0:
            stream.close()
            raise httpcore.ConnectTimeout("deadline")
        return _Stream(stream, self._deadline)


def _peer_address(stream: httpcore.NetworkStream) -> str:
    try:
        return str(stream.get_extra_info("server_addr")[0])
    except OSError:
        stream.close()
        raise httpcore.ConnectError("closed at once") from None


class _Transport(httpx.HTTPTransport):
    """httpx's own transport over one of our connections (it takes no network backend itself)."""

    def __init__(self, context: ssl.SSLContext, deadline: _Deadline) -> None:
        super().__init__(verify=context, trust_env=False, retries=0)
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=1,
            max_keepalive_connections=1,
            keepalive_expiry=KEEPALIVE_SECONDS,
            retries=0,
            network_backend=_Backend(deadline),
        )


class _Line:
    """One connection and what it needs; used by one thread at a time.

    A pool shared by threads loses replies: one thread, looking for a connection that its server
    closed, takes the answer that has just arrived for another thread for such an end, and closes it
    under its hands. Measured with httpcore 1.0 and more threads than connections: 1 call in 100.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self.deadline = _Deadline()
        # Without httpx's client: it follows, remembers and adds, and none of that may happen here.
        self.transport = _Transport(context, self.deadline)


class ProviderClient:
    """Sends requests below one base URL. One instance serves any number of threads.

    `headers` hold the key and appear in no repr and no exception. Times are seconds: `timeout` is
    the longest silence while reading or writing, the deadline of a whole exchange is per `send`.

    Raises:
        ConfigurationError: base URL or a header cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str],
        *,
        connect_timeout: float = 10.0,
        timeout: float = 60.0,
        max_connections: int = 10,
        max_body_bytes: int = DEFAULT_MAX_BODY_BYTES,
    ) -> None:
        validate_base_url(base_url)
        for name, value in headers.items():
            # Refused here, without the value: the protocol error for it would quote the key.
            if not re.fullmatch(r"[!-~]+(?: [!-~]+)*", value):
                raise ConfigurationError(f"header {name}: the key has characters HTTP cannot carry")
        for logger in ("httpx", "httpcore"):
            # At INFO httpx writes whole URLs, and Apollo's carry our webhook capability.
            logging.getLogger(logger).setLevel(logging.WARNING)
        self.base_url = base_url.rstrip("/")
        self._origin = _origin(httpx.URL(self.base_url))
        self._max_body_bytes = max_body_bytes
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
            "User-Agent": "enrich-pipeline",
            **headers,
        }
        self._connect_timeout = connect_timeout
        self._timeout = httpx.Timeout(timeout, connect=connect_timeout)
        self._context = usual_trust()
        self._free_lines = threading.BoundedSemaphore(max_connections)
        # Last in, first out: what was used last is least likely to have been closed meanwhile.
        self._idle_lines: deque[_Line] = deque()

    def __repr__(self) -> str:
        return f"ProviderClient({self.base_url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the idle connections; exchanges under way end by themselves."""
        while self._idle_lines:
            self._idle_lines.pop().transport.close()

    def send(
        self,
        request: HttpRequest,
        *,
        body: bytes | None = None,
        deadline_seconds: float,
        on_sent: Callable[[], object] = _nobody,
    ) -> HttpResponse:
        """Sends one request once and returns what came back, redirects included.

        `body` are the bytes stored with the intent; without it the request is encoded here.
        `on_sent` is called when the request was written, or a part of it; it must not raise.

        Raises:
            NeverSent: free of charge by proof; may be sent again.
            ReplyLost: in doubt; what may be done is the provider's in-doubt policy.
        """
        deadline = time.monotonic() + deadline_seconds
        # Raised after the except blocks: an exception chained to httpx's would hold the headers.
        try:
            prepared = self._prepare(request, encode(request) if body is None else body)
        except Exception:  # noqa: BLE001 - whatever it is, nothing has been sent
            prepared = None
        if prepared is None:
            raise NeverSent("request_not_built")
        if not self._free_lines.acquire(
            timeout=max(0, min(self._connect_timeout, deadline_seconds))
        ):
            raise NeverSent("no_free_connection")
        try:
            line = self._idle_line()
            line.deadline.at, line.deadline.on_sent = deadline, on_sent
            outcome = self._exchange(line, prepared)
            self._idle_lines.append(line)
        finally:
            self._free_lines.release()
        if isinstance(outcome, ExchangeError):
            raise outcome
        return outcome

    def _idle_line(self) -> _Line:
        try:
            return self._idle_lines.pop()
        except IndexError:
            return _Line(self._context)

    def _prepare(self, request: HttpRequest, body: bytes) -> httpx.Request:
        headers = dict(self._headers)
        if body:
            headers["Content-Type"] = "application/json"
        url = httpx.URL(self.base_url + request.path)
        if not request.path.startswith("/") or _origin(url) != self._origin:
            raise ValueError("the path leaves the base URL")
        return httpx.Request(
            request.method,
            url.copy_merge_params(dict(request.params)) if request.params else url,
            headers=headers,
            content=body or None,
            extensions={"timeout": self._timeout.as_dict()},
        )

    def _exchange(self, line: _Line, prepared: httpx.Request) -> HttpResponse | ExchangeError:
        try:
            response = line.transport.handle_request(prepared)
            try:
                body, truncated = self._read_body(response)
            finally:
                response.close()
        except Exception as error:  # noqa: BLE001 - an unknown failure is a lost reply
            return exchange_error(error)
        return HttpResponse(
            status=response.status_code,
            headers={name.lower(): value for name, value in response.headers.items()},
            body=body,
            truncated=truncated,
        )

    def _read_body(self, response: httpx.Response) -> tuple[bytes, bool]:
        """Reads and unpacks at most the cap; (body, whether there was more or it broke off)."""
        cap = self._max_body_bytes
        packed = response.headers.get("content-encoding", "").strip().lower() in (
            "gzip",
            "x-gzip",
            "deflate",
        )
        # Own unpacking: httpx inflates a chunk of 64 KiB to 64 MiB before anybody can stop it.
        inflate = zlib.decompressobj(zlib.MAX_WBITS | 32) if packed else None
        body = bytearray()
        for chunk in response.iter_raw():
            try:
                body += inflate.decompress(chunk, cap + 1 - len(body)) if inflate else chunk
            except zlib.error:
                return bytes(body[:cap]), True
            if len(body) > cap:
                return bytes(body[:cap]), True
        return bytes(body), inflate is not None and bool(body) and not inflate.eof


@cache
def usual_trust() -> ssl.SSLContext:
    """The usual certificate authorities: reading them takes as long as many requests."""
    return httpx.create_ssl_context(trust_env=False)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
