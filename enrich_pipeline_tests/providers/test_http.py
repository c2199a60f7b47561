"""Rules of the HTTP client over real sockets: what is proven unsent, what is lost or refused."""

import contextlib
import gzip
import inspect
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrich_pipeline.domain.errors import ConfigurationError
from enrich_pipeline.providers import http as client_module
from enrich_pipeline.providers.http import (
    NEVER_SENT,
    REPLY_LOST,
    NeverSent,
    ProviderClient,
    ReplyLost,
    encode,
    exchange_error,
    validate_base_url,
)
from enrich_pipeline.providers.protocol import HttpRequest

KEY = "canary-key-4242"
POST = HttpRequest("POST", "/v1/things", json={"b": 1, "a": ["é"]})

Handler = Callable[[socket.socket], None]


class Server:
    """A TCP server that answers each connection with `handler` and keeps what it received."""

    def __init__(self, handler: Handler) -> None:
        self.received: list[bytes] = []
        self.connections = 0
        self._handler = handler
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while request := read_request(connection):
                self.received.append(request)
                self._handler(connection)

    def close(self) -> None:
        self._socket.close()


def read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return data
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


@contextlib.contextmanager
def serving(handler: Handler) -> Iterator[Server]:
    server = Server(handler)
    try:
        yield server
    finally:
        server.close()


def answering(status: str, body: bytes = b"", *headers: str) -> Handler:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    reply = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
    return lambda connection: connection.sendall(reply)


def client(url: str, **changes: float | int) -> ProviderClient:
    settings: dict[str, float | int] = {"connect_timeout": 2.0, "timeout": 2.0} | changes
    return ProviderClient(url, {"X-API-KEY": KEY}, **settings)  # type: ignore[arg-type]


def all_subclasses(cls: type[Exception]) -> set[type[Exception]]:
    return {cls}.union(*(all_subclasses(sub) for sub in cls.__subclasses__()))


def test_every_exception_class_of_httpx_is_named_once() -> None:
    exported = {
        value
        for _, value in inspect.getmembers(httpx, inspect.isclass)
        if issubclass(value, Exception)
    }
    whole_tree = {
        cls
        for root in exported
        for cls in all_subclasses(root)
        if cls.__module__.startswith("httpx")
    }
    assert whole_tree == NEVER_SENT | REPLY_LOST
    assert not NEVER_SENT & REPLY_LOST


def test_only_failures_before_a_connection_is_usable_prove_that_nothing_was_sent() -> None:
    assert {
        httpx.ConnectError,
        httpx.ConnectTimeout,
        httpx.PoolTimeout,
        httpx.UnsupportedProtocol,
    } == NEVER_SENT


@pytest.mark.parametrize("error", [ValueError("x"), OSError(9, "x"), ssl.SSLError(1, "x")])
def test_an_unheard_of_exception_is_a_lost_reply(error: Exception) -> None:
    assert isinstance(exchange_error(error), ReplyLost)


def test_a_response_comes_back_with_lower_case_headers_and_exact_body() -> None:
    handler = answering("200 OK", b'{"ok":1}', "Content-Type: application/json", "X-Left: 7")
    with serving(handler) as server, client(server.url) as sender:
        response = sender.send(POST, deadline_seconds=5)
    assert (response.status, response.body, response.truncated) == (200, b'{"ok":1}', False)
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-left"] == "7"


def test_the_stored_bytes_are_what_leaves() -> None:
    with serving(answering("200 OK")) as server, client(server.url + "/api") as sender:
        sender.send(POST, deadline_seconds=5)
        sender.send(POST, body=b'{"stored": true}', deadline_seconds=5)
        sender.send(
            HttpRequest("GET", "/x", params={"u": "https://a.b/?c=d&e"}), deadline_seconds=5
        )
    first, second, third = server.received
    assert first.startswith(b"POST /api/v1/things HTTP/1.1\r\n")
    assert first.endswith(b'\r\n\r\n{"a":["\\u00e9"],"b":1}')
    assert b"Content-Type: application/json\r\n" in first
    assert second.endswith(b'\r\n\r\n{"stored": true}')
    assert third.startswith(b"GET /api/x?u=https%3A%2F%2Fa.b%2F%3Fc%3Dd%26e HTTP/1.1\r\n")
    assert b"Content-Type" not in third


def test_connection_refused_never_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with client(f"http://127.0.0.1:{port}") as sender, pytest.raises(NeverSent) as caught:
        sender.send(POST, deadline_seconds=5)
    assert caught.value.code == "connect_error"


def test_unknown_host_never_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    with client("https://api.provider.example") as sender, pytest.raises(NeverSent):
        sender.send(POST, deadline_seconds=5)


def test_failed_tls_never_sent() -> None:
    with serving(answering("200 OK")) as server:
        url = server.url.replace("http://", "https://")
        with client(url, connect_timeout=1.0) as sender, pytest.raises(NeverSent):
            sender.send(POST, deadline_seconds=5)


def test_a_full_pool_never_sent() -> None:
    release = threading.Event()

    def hold(connection: socket.socket) -> None:
        release.wait(10)
        answering("200 OK")(connection)

    with (
        serving(hold) as server,
        client(server.url, max_connections=1, connect_timeout=0.3, timeout=10) as sender,
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(sender.send, POST, deadline_seconds=10)
        wait_for(lambda: bool(server.received))
        with pytest.raises(NeverSent) as caught:
            sender.send(POST, deadline_seconds=10)
        release.set()
        assert first.result().status == 200
    assert caught.value.code == "no_free_connection"
    assert len(server.received) == 1


def test_a_deadline_that_passes_in_the_queue_for_a_connection_never_sent() -> None:
    release = threading.Event()

    def hold(connection: socket.socket) -> None:
        release.wait(10)
        answering("200 OK")(connection)

    with (
        serving(hold) as server,
        client(server.url, max_connections=1, connect_timeout=9, timeout=10) as sender,
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(sender.send, POST, deadline_seconds=10)
        wait_for(lambda: bool(server.received))
        with pytest.raises(NeverSent):
            sender.send(POST, deadline_seconds=0.3)
        release.set()
        assert first.result().status == 200


def test_a_name_that_resolves_into_the_own_network_gets_no_byte(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(answering("200 OK")) as server:
        real = socket.getaddrinfo

        def rebound(_host: str, _port: int, *rest: object, **more: object) -> object:
            return real("127.0.0.1", server.port, *rest, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(socket, "getaddrinfo", rebound)
        with client("https://api.provider.example") as sender, pytest.raises(NeverSent):
            sender.send(POST, deadline_seconds=5)
        time.sleep(0.05)
        assert server.connections == 1
        assert server.received == []


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    connection.close()


def cut(connection: socket.socket) -> None:
    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"half":')
    connection.close()


@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(lambda connection: connection.close(), id="closed without a word"),
        pytest.param(reset, id="reset"),
        pytest.param(cut, id="cut in the body"),
        pytest.param(
            lambda connection: connection.sendall(b"\x00\xffgarbage\r\n\r\n"), id="no HTTP"
        ),
    ],
)
def test_a_broken_reply_is_lost_and_not_sent_again(handler: Handler) -> None:
    with serving(handler) as server, client(server.url) as sender:
        with pytest.raises(ReplyLost):
            sender.send(POST, deadline_seconds=5)
        time.sleep(0.05)
        assert len(server.received) == 1


def test_a_silent_server_is_a_lost_reply() -> None:
    with (
        serving(lambda _: time.sleep(2)) as server,
        client(server.url, timeout=0.2) as sender,
        pytest.raises(ReplyLost) as caught,
    ):
        sender.send(POST, deadline_seconds=5)
    assert caught.value.code == "read_timeout"


@pytest.mark.parametrize("prefix", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_dripping_server_is_stopped_by_the_deadline(prefix: bytes) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(prefix)
        for _ in range(100):
            connection.sendall(b"x")
            time.sleep(0.05)

    with serving(drip) as server, client(server.url, timeout=2) as sender:
        started = time.monotonic()
        with pytest.raises(ReplyLost):
            sender.send(POST, deadline_seconds=0.5)
        assert time.monotonic() - started < 1.5


def test_a_deadline_that_has_passed_sends_nothing() -> None:
    with serving(answering("200 OK")) as server, client(server.url) as sender:
        with pytest.raises(NeverSent):
            sender.send(POST, deadline_seconds=0)
        assert server.received == []


def test_a_redirect_is_returned_and_not_followed() -> None:
    with serving(answering("200 OK")) as other:
        handler = answering("302 Found", b"", f"Location: {other.url}/latest/meta-data")
        with serving(handler) as server, client(server.url) as sender:
            assert sender.send(POST, deadline_seconds=5).status == 302
        assert other.connections == 0


def test_a_reply_above_the_cap_is_cut_and_says_so() -> None:
    with (
        serving(answering("200 OK", b"x" * 1001)) as server,
        client(server.url, max_body_bytes=1000) as sender,
    ):
        response = sender.send(POST, deadline_seconds=5)
    assert (len(response.body), response.truncated) == (1000, True)


def test_a_reply_of_exactly_the_cap_is_whole() -> None:
    with (
        serving(answering("200 OK", b"x" * 1000)) as server,
        client(server.url, max_body_bytes=1000) as sender,
    ):
        response = sender.send(POST, deadline_seconds=5)
    assert (len(response.body), response.truncated) == (1000, False)


def test_a_packed_reply_is_unpacked() -> None:
    packed = gzip.compress(b'{"ok":true}')
    handler = answering("200 OK", packed, "Content-Encoding: gzip")
    with serving(handler) as server, client(server.url) as sender:
        response = sender.send(POST, deadline_seconds=5)
    assert (response.body, response.truncated) == (b'{"ok":true}', False)


@pytest.mark.parametrize(
    "packed",
    [gzip.compress(b"x" * 5000, mtime=0)[:-12], b"\x1f\x8bnot gzip"],
    ids=["cut off", "not gzip"],
)
def test_a_packed_reply_that_breaks_off_is_never_taken_for_whole(packed: bytes) -> None:
    handler = answering("200 OK", packed, "Content-Encoding: gzip")
    with serving(handler) as server, client(server.url) as sender:
        assert sender.send(POST, deadline_seconds=5).truncated


def test_a_packed_bomb_is_stopped_at_the_cap() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    handler = answering("200 OK", bomb, "Content-Encoding: gzip")
    with (
        serving(handler) as server,
        client(server.url, max_body_bytes=100_000) as sender,
    ):
        response = sender.send(POST, deadline_seconds=10)
    assert (len(response.body), response.truncated) == (100_000, True)


def test_stacked_encodings_are_not_unpacked() -> None:
    twice = gzip.compress(gzip.compress(b"x" * 1000))
    handler = answering("200 OK", twice, "Content-Encoding: gzip, gzip")
    with serving(handler) as server, client(server.url) as sender:
        assert sender.send(POST, deadline_seconds=5).body == twice


def test_a_connection_closed_while_idle_is_not_reused() -> None:
    def once(connection: socket.socket) -> None:
        answering("200 OK")(connection)
        connection.close()

    with serving(once) as server, client(server.url) as sender:
        for _ in range(5):
            assert sender.send(POST, deadline_seconds=5).status == 200
            time.sleep(0.02)
        assert len(server.received) == server.connections == 5


def test_connections_are_reused_and_the_deadline_of_one_exchange_does_not_bind_the_next() -> None:
    with serving(answering("200 OK")) as server, client(server.url) as sender:
        sender.send(POST, deadline_seconds=1)
        time.sleep(1.1)
        assert sender.send(POST, deadline_seconds=5).status == 200
        assert server.connections == 1


def test_cookies_are_not_sent_back() -> None:
    with (
        serving(answering("200 OK", b"", "Set-Cookie: a=b")) as server,
        client(server.url) as sender,
    ):
        sender.send(POST, deadline_seconds=5)
        sender.send(POST, deadline_seconds=5)
    assert b"ookie" not in server.received[1]


def test_many_threads_share_one_client() -> None:
    with (
        serving(answering("200 OK", b"ok")) as server,
        client(server.url, max_connections=3, timeout=10, connect_timeout=10) as sender,
        ThreadPoolExecutor(8) as pool,
    ):
        # Enough to lose some replies, were the connections in one pool that all threads search.
        results = list(pool.map(lambda _: sender.send(POST, deadline_seconds=10), range(1500)))
    assert {response.body for response in results} == {b"ok"}
    assert len(server.received) == 1500
    assert server.connections <= 3


@pytest.mark.parametrize("path", ["v1", "@evil.example/", ".evil.example/x", ":1@evil.example/x"])
def test_a_path_cannot_leave_the_base_url(path: str) -> None:
    with serving(answering("200 OK")) as server, client(server.url) as sender:
        with pytest.raises(NeverSent):
            sender.send(HttpRequest("GET", path), deadline_seconds=5)
        assert server.connections == 0


def test_keys_appear_in_no_repr_exception_or_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    seen = []
    with serving(cut) as server, client(server.url) as sender:
        seen.append(repr(sender))
        with pytest.raises(ReplyLost) as caught:
            sender.send(
                HttpRequest("POST", "/x", params={"token": KEY}, json=1), deadline_seconds=5
            )
    error: BaseException | None = caught.value
    while error is not None:
        seen.append(f"{error!r} {error.args} {vars(error)}")
        error = error.__cause__ or error.__context__
    assert len(seen) == 2
    assert KEY not in "".join(seen) + caplog.text
    assert "HTTP Request" not in caplog.text


@pytest.mark.parametrize("key", ["line\nbreak", "", "trailing ", "clé", "nul\0"])
def test_a_key_that_http_cannot_carry_is_refused_without_quoting_it(key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ProviderClient("https://api.provider.example", {"X-API-KEY": key})
    assert "X-API-KEY" in str(caught.value)
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.provider.example/v1",
        "https://app.provider.example:8443",
        "http://127.0.0.1:8080/pronto",
        "http://localhost:9/x",
        "http://[::1]:8080",
        "https://127.0.0.1:1/",
        "https://8.8.8.8/v1",
    ],
)
def test_safe_base_urls_are_accepted(url: str) -> None:
    validate_base_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.provider.example",
        "file:///etc/passwd",
        "ftp://api.provider.example",
        "http://api.provider.example",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://127.0.0.1@evil.example",
        "https://user:pass@api.provider.example",
        "https://169.254.169.254/latest",
        "https://10.0.0.1",
        "https://[::ffff:10.0.0.1]",
        "https://api.provider.example?key=1",
        "https://api.provider.example#x",
        "https://api.provider.example:99999",
        "https://[broken",
        "https:///nohost",
        "https://api.provider.example\\@127.0.0.1",
        "https://api.provider.example\n",
    ],
)
def test_unsafe_base_urls_are_refused_by_the_name_of_the_setting(url: str) -> None:
    with pytest.raises(ConfigurationError, match="ENRICH_PRONTO_BASE_URL"):
        validate_base_url(url, setting="ENRICH_PRONTO_BASE_URL")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), json_values, min_size=1))
def test_encoding_is_deterministic_compact_and_reversible(content: dict[str, object]) -> None:
    shuffled = dict(reversed(list(content.items())))
    encoded = encode(HttpRequest("POST", "/", json=content))
    assert encoded == encode(HttpRequest("POST", "/", json=shuffled))
    assert json.loads(encoded.decode()) == content


def test_lone_surrogates_are_encoded_as_valid_utf8() -> None:
    assert encode(HttpRequest("POST", "/", json=["\ud800"])).decode() == '["\\ud800"]'


def test_no_environment_variable_changes_where_a_request_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(answering("200 OK")) as proxy, serving(answering("204 No Content")) as server:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv("NO_PROXY", "")
        with client(server.url) as sender:
            assert sender.send(POST, deadline_seconds=5).status == 204
        assert proxy.connections == 0


def test_idle_connections_are_kept_only_shortly() -> None:
    assert client_module.KEEPALIVE_SECONDS <= 5
