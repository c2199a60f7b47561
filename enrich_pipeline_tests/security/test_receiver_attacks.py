"""Strangers at the receiver: guessing tokens, flooding, holding connections, smuggling, bombs."""

import gzip
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from random import Random

import httpx
import pytest
from sqlalchemy import URL, Engine, text

from enrich_pipeline.store import inbox
from enrich_pipeline.webhooks import server

from ..campaigns import mutations
from ..support.lab import Bench, Lab, contacts, only

KNOWN = "k" * 64


@pytest.fixture
def port(database: URL, engine: Engine) -> Iterator[int]:
    """A receiver, and one call whose token is KNOWN."""
    with engine.begin() as conn:
        conn.execute(
            text("""
                insert into enrichment.calls (provider, call_group, partition_date, batch,
                    spend_date, run_id, persons, hold_micro, prices, usd_micro_per_credit,
                    lease_until, token_hash)
                values ('pronto', 'email', current_date, 0, current_date, 'r', 1, 0, '{}', 1,
                    now(), sha256(convert_to(:token, 'UTF8')))
            """),
            {"token": KNOWN},
        )
    with server.serving(database, ("pronto", "apollo"), "127.0.0.1", 0) as port:
        yield port


@pytest.fixture
def client(port: int) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False) as client:
        yield client


def kept(engine: Engine) -> dict[str, int]:
    with engine.connect() as conn:
        query = text("select coalesce(reason, state), count(*) from enrichment.inbox group by 1")
        return {word: n for word, n in conn.execute(query)}


def test_guessing_tokens_fills_nothing_and_teaches_nothing(
    client: httpx.Client, engine: Engine
) -> None:
    """Every answer is the same to the byte; tokens are looked up by their hash, never compared."""
    random = Random(1)

    def guess(number: int) -> tuple[int, bytes, tuple[str, ...]]:
        token = KNOWN[:-1] + "x" if number % 2 else f"{random.getrandbits(256):064x}"
        reply = client.post(f"/webhooks/pronto/{token}", content=f"{number}".encode())
        return reply.status_code, reply.content, tuple(sorted(reply.headers))

    with ThreadPoolExecutor(16) as pool:
        answers = set(pool.map(guess, range(inbox.MAX_STRANGERS + 300)))
    genuine = client.post(f"/webhooks/pronto/{KNOWN}", content=b"{}")
    answers.add((genuine.status_code, genuine.content, tuple(sorted(genuine.headers))))
    assert len(answers) == 1
    assert kept(engine) == {inbox.UNKNOWN: inbox.MAX_STRANGERS, "new": 1}


def test_a_leaked_token_fills_the_inbox_only_so_far(
    client: httpx.Client, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "MAX_PER_CALL", 20)
    for number in range(50):
        reply = client.post(f"/webhooks/pronto/{KNOWN}", content=f"{number}".encode())
        assert reply.status_code == 200
    assert kept(engine) == {"new": 20}


def test_silent_and_trickling_connections_keep_nobody_out(
    port: int, client: httpx.Client, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_WITHIN_SECONDS", 1.0)
    with ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            for _ in range(200)
        ]
        for connection in slow[100:]:
            connection.sendall(b"POST /webhooks/pronto/x HTTP/1.1\r\nHost: x\r\nX-A: ")
        started = time.monotonic()
        assert client.post(f"/webhooks/pronto/{KNOWN}", content=b"{}").status_code == 200
        assert time.monotonic() - started < 1.0
        for connection in slow[100:]:
            connection.sendall(b"a")
        for connection in slow:
            try:
                assert connection.recv(100) == b""
            except ConnectionResetError:
                continue
        assert time.monotonic() - started < 10.0
    assert kept(engine) == {"new": 1}


def test_a_second_request_on_a_connection_may_not_trickle_either(
    port: int, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_WITHIN_SECONDS", 0.5)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /health HT")
        started = time.monotonic()
        with suppress(ConnectionResetError):
            assert connection.recv(100) == b""
        assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: -1",
        b"Content-Length: 99999999999999999999999999",
        b"X-Long: " + b"a" * 100_000,
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: eHg=\r\n"
        b"Sec-WebSocket-Version: 13\r\nContent-Length: 0",
    ],
    ids=["both-lengths", "two-lengths", "negative", "huge", "long-head", "websocket"],
)
def test_requests_that_mean_two_things_are_never_a_delivery(
    port: int, engine: Engine, head: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_WITHIN_SECONDS", 1.0)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        target = f"POST /webhooks/pronto/{KNOWN} HTTP/1.1\r\nHost: x\r\n".encode()
        answer = b""
        with suppress(ConnectionResetError):
            connection.sendall(target + head + b"\r\n\r\n0\r\n\r\nGET /webhooks/probe/")
            answer = connection.recv(1000)
    assert not answer.startswith(b"HTTP/1.1 5")
    assert kept(engine) == {}


@pytest.fixture
def lab(bench: Bench, database: URL) -> Iterator[Lab]:
    own = {**only({"work_email": ["pronto"]}), "providers": {"pronto": {"await_seconds": 0.1}}}
    with bench.lab(database, own) as lab:
        yield lab


def test_bombs_under_a_true_token_are_set_aside_and_the_answer_that_follows_counts(
    lab: Lab,
) -> None:
    """Deep JSON, packed zeros, and every text that means harm: none stops the sweep."""
    lab.sandbox.faults(
        {"provider": "pronto", "kind": "lose_webhook", "probability": 1, "times": None}
    )
    lab.night(contacts(range(2)))
    with lab.context() as ctx:
        call_id = lab.one("select call_id from enrichment.calls")
        url = ctx.webhook_url("pronto", call_id)
    assert url is not None
    bombs = [
        b"[" * 65_000,
        b'{"a":' * 13_000,
        b"[" * 32_000 + b"]" * 32_000,
        gzip.compress(b"\0" * 30_000_000)[:65_000],
        b'{"status":"finished","custom":{"ref":' + b"9" * 60_000 + b"}}",
        *(f'{{"custom":{{"ref":"{word}"}}}}'.encode() for word in mutations.STATEMENTS),
    ]
    for bomb in bombs:
        assert httpx.post(url, content=bomb, trust_env=False).status_code == 200
    lab.sweep()
    assert lab.sql("select state, count(*) from enrichment.inbox group by 1") == [
        ("quarantined", len(bombs))
    ]
    keys = lab.sql(
        "select l.item_key, right(c.contact_id, 4)::int from enrichment.charge_lines as l "
        "join enrichment.contacts as c using (person_id)"
    )
    for key, number in keys:
        ref = {"ref": f"{key}.{call_id}"}
        found = {"status": "finished", "custom": ref, "email_status": "deliverable"}
        lab.deliver(call_id, {**found, "email": contacts([number])[0]["email"]})
    lab.sweep()
    lab.assert_exact()
