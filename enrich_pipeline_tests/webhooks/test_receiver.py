"""Rules of the receiver, over real HTTP and a real database: store, answer, process nothing."""

import hashlib
import http.client
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from sqlalchemy import URL, Engine, text

from enrich_pipeline.domain.errors import EnrichError
from enrich_pipeline.store import inbox
from enrich_pipeline.webhooks import app, embedded, server

TOKEN = "a" * 64
PROVIDERS = ("pronto", "apollo")


@pytest.fixture
def port(database: URL) -> Iterator[int]:
    with server.serving(database, PROVIDERS, "127.0.0.1", 0) as port:
        yield port


@pytest.fixture
def client(port: int) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False) as client:
        yield client


def stored(engine: Engine) -> list[Any]:
    with engine.connect() as connection:
        query = text("select provider, token_hash, body, deliveries, state from enrichment.inbox")
        return list(connection.execute(query))


def counts(engine: Engine, in_all: int) -> list[int]:
    """How often each delivery came, once `in_all` are counted."""
    deadline = time.monotonic() + 10
    while True:
        found = sorted(row.deliveries for row in stored(engine))
        if sum(found) >= in_all or time.monotonic() > deadline:
            return found
        time.sleep(0.01)


def test_a_delivery_is_stored_verbatim_beside_the_hash_of_its_token(
    client: httpx.Client, engine: Engine
) -> None:
    body = b'{ "id" : 1,\n "x": "\xc3\xa9" }'
    assert client.post(f"/webhooks/pronto/{TOKEN}", content=body).status_code == 200
    (row,) = stored(engine)
    assert (row.provider, row.body) == ("pronto", body)
    assert row.token_hash == hashlib.sha256(TOKEN.encode()).digest()


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", b"{}"),
        ("application/x-www-form-urlencoded", b"payload=%7B%7D"),
        ("", b"\x00\xff not text"),
        ("application/json", b"{" * 20_000),
        ("application/json", b"<html>"),
    ],
)
def test_whatever_its_type_a_body_is_stored_and_never_read(
    client: httpx.Client, engine: Engine, content_type: str, body: bytes
) -> None:
    reply = client.post(
        f"/webhooks/apollo/{TOKEN}", content=body, headers={"content-type": content_type}
    )
    assert reply.status_code == 200
    assert [row.body for row in stored(engine)] == [body]


def test_a_compressed_body_is_not_unpacked(client: httpx.Client, engine: Engine) -> None:
    body = b"\x1f\x8b\x08 not even gzip"
    headers = {"content-encoding": "gzip"}
    assert client.post(f"/webhooks/pronto/{TOKEN}", content=body, headers=headers).is_success
    assert [row.body for row in stored(engine)] == [body]


def test_a_repeated_delivery_is_answered_alike_and_counted(
    client: httpx.Client, engine: Engine
) -> None:
    replies = [client.post(f"/webhooks/pronto/{TOKEN}", content=b"{}") for _ in range(3)]
    assert {(reply.status_code, reply.content) for reply in replies} == {(200, b'{"status":"ok"}')}
    assert counts(engine, 3) == [3]


def test_deliveries_at_the_same_moment_are_all_stored_once(
    client: httpx.Client, engine: Engine
) -> None:
    def post(number: int) -> int:
        body = str(number % 20).encode()
        return client.post(f"/webhooks/pronto/{TOKEN}", content=body).status_code

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(post, range(200))) == {200}
    assert counts(engine, 200) == [10] * 20


def test_an_unknown_provider_is_not_found_and_nothing_is_stored(
    client: httpx.Client, engine: Engine
) -> None:
    assert client.post(f"/webhooks/nobody/{TOKEN}", content=b"{}").status_code == 404
    assert stored(engine) == []


@pytest.mark.parametrize("token", ["short", "with%20space" * 4, "x" * 300, "%2e%2e%2f" * 5])
def test_what_cannot_be_a_token_is_answered_and_not_stored(
    client: httpx.Client, engine: Engine, token: str
) -> None:
    assert client.post(f"/webhooks/pronto/{token}", content=b"{}").status_code in (200, 404)
    assert stored(engine) == []


def test_strangers_cannot_fill_the_database(
    client: httpx.Client, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "MAX_STRANGERS", 5)
    replies = [client.post(f"/webhooks/pronto/{n:064d}", content=b"{}") for n in range(12)]
    assert {reply.status_code for reply in replies} == {200}
    assert len(stored(engine)) == 5


@pytest.mark.parametrize("size", [app.MAX_BODY_BYTES, app.MAX_BODY_BYTES + 1])
def test_a_body_is_stored_up_to_the_limit_and_refused_beyond(
    client: httpx.Client, engine: Engine, size: int
) -> None:
    reply = client.post(f"/webhooks/pronto/{TOKEN}", content=b"x" * size)
    fits = size <= app.MAX_BODY_BYTES
    assert reply.status_code == (200 if fits else 413)
    assert len(stored(engine)) == (1 if fits else 0)


def test_a_body_without_length_is_cut_off_while_it_streams(port: int, engine: Engine) -> None:
    """A sender that says nothing about the length, and would send a hundred megabytes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.putrequest("POST", f"/webhooks/pronto/{TOKEN}")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    sent = 0
    try:
        while sent < 100_000_000:
            connection.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            sent += 65536
    except OSError:
        pass
    else:
        pytest.fail("the receiver took it all")
    assert sent < 20_000_000
    assert stored(engine) == []
    connection.close()


def test_a_sender_that_trickles_is_cut_off(
    port: int, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "BODY_WITHIN_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as slow:
        head = f"POST /webhooks/pronto/{TOKEN} HTTP/1.1\r\nHost: x\r\nContent-Length: 100"
        slow.sendall(f"{head}\r\n\r\n{{".encode())
        assert slow.recv(100).startswith(b"HTTP/1.1 408")
    assert stored(engine) == []


def test_only_an_announced_probe_leaves_a_trace(client: httpx.Client, engine: Engine) -> None:
    with engine.begin() as connection:
        for nonce in ("n" * 32, "m" * 32):
            inbox.expect_probe(connection, nonce)
    assert client.get(f"/webhooks/probe/{'s' * 32}").status_code == 200
    for method, nonce in (("GET", "n" * 32), ("POST", "m" * 32)):
        assert client.request(method, f"/webhooks/probe/{nonce}").status_code == 200
    assert client.get("/webhooks/probe/x").status_code == 404
    with engine.connect() as connection:
        query = text("select nonce from enrichment.receiver_probes order by nonce")
        assert list(connection.execute(query).scalars()) == ["m" * 32, "n" * 32]
        assert inbox.has_probe(connection, "n" * 32)
        assert inbox.has_probe(connection, "m" * 32)


def test_other_methods_and_paths_are_refused(client: httpx.Client) -> None:
    assert client.get(f"/webhooks/pronto/{TOKEN}").status_code == 405
    assert client.get("/webhooks").status_code == 404
    assert client.get("/health").status_code == 200


def test_while_the_database_is_down_senders_are_asked_to_come_again(database: URL) -> None:
    nowhere = database.set(database="does_not_exist")
    with (
        server.serving(nowhere, PROVIDERS, "127.0.0.1", 0) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        for reply in (
            client.post(f"/webhooks/pronto/{TOKEN}", content=b"{}"),
            client.get("/health"),
        ):
            assert reply.status_code == 503
            assert reply.headers["retry-after"] == "30"


def test_neither_token_nor_body_is_ever_logged(
    client: httpx.Client, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("httpcore").setLevel(logging.WARNING)
    client.post(f"/webhooks/pronto/{TOKEN}", content=b'{"email": "canary@example.com"}')
    client.post(f"/webhooks/pronto/{TOKEN}", content=b"x" * 70_000)
    output = "".join(capfd.readouterr()) + caplog.text
    assert TOKEN not in output
    assert "canary" not in output


def test_an_answer_comes_at_once_while_a_row_is_locked_and_a_repetition_is_counted_later(
    client: httpx.Client, engine: Engine
) -> None:
    client.post(f"/webhooks/pronto/{TOKEN}", content=b"locked")
    with engine.begin() as connection:
        connection.execute(text("select 1 from enrichment.inbox for update"))
        waiting = threading.Thread(
            target=client.post, args=(f"/webhooks/pronto/{TOKEN}",), kwargs={"content": b"locked"}
        )
        waiting.start()
        started = time.monotonic()
        assert client.post(f"/webhooks/pronto/{TOKEN}", content=b"free").status_code == 200
        assert time.monotonic() - started < 1.0
        waiting.join(10)
        assert not waiting.is_alive()
    assert counts(engine, 3) == [1, 2]


def test_two_receivers_on_one_port_are_refused_with_one_line(port: int, database: URL) -> None:
    with (
        pytest.raises(EnrichError, match=rf"cannot listen on 127.0.0.1:{port}"),
        server.serving(database, PROVIDERS, "127.0.0.1", port),
    ):
        pass


def test_a_receiver_is_brought_along_only_for_a_loopback_address_where_nothing_listens(
    port: int, database: URL, engine: Engine
) -> None:
    assert not embedded.is_needed(None)
    assert not embedded.is_needed("https://hooks.example.com")
    assert not embedded.is_needed(f"http://127.0.0.1:{port}")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    assert not embedded.is_needed(f"http://127.0.0.1:{free}/behind/a/proxy")
    assert embedded.is_needed(f"http://localhost:{free}")
    with embedded.receiving(database, PROVIDERS, f"http://127.0.0.1:{free}") as started:
        assert started
        url = f"http://127.0.0.1:{free}/webhooks/pronto/{TOKEN}"
        assert httpx.post(url, content=b"{}", trust_env=False).status_code == 200
        with embedded.receiving(database, PROVIDERS, f"http://127.0.0.1:{free}") as again:
            assert not again
    assert len(stored(engine)) == 1
    assert embedded.is_needed(f"http://127.0.0.1:{free}")
