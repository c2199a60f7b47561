"""One request after another; what comes later is looked for again and again."""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import httpx

from .asking import Call, Deliveries, Later, Night, Request, Values, talk


class Mailbox:
    """Takes deliveries in a thread, by the last part of their address. Nothing is verified.

    `with Mailbox(port) as mailbox:`
    """

    def __init__(self, port: int) -> None:
        self.letters: dict[str, list[Any]] = defaultdict(list)
        letters = self.letters

        class Slot(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # A reply of two small packets would wait for the first one's acknowledgement.
            wbufsize = -1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                letters[self.path.rpartition("/")[2]].append(json.loads(body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

        self._server = Server(("127.0.0.1", port), Slot)
        self.address = f"http://127.0.0.1:{port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def ask(
    night: Night,
    http: httpx.Client,
    mailbox: Mailbox,
    call: Call,
    name: str,
    look_every_seconds: float,
) -> Mapping[str, Values]:
    """Carry one call to its last result. `name` is the call's at the mailbox."""
    conversation = talk(call, f"{mailbox.address}/{name}")
    step = next(conversation)
    while True:
        heard: list[Any] = []
        if isinstance(step, Later):
            time.sleep(look_every_seconds)
        elif isinstance(step, Deliveries):
            while len(mailbox.letters[name]) < step.number:
                time.sleep(look_every_seconds)
            heard = mailbox.letters.pop(name)
        else:
            heard = [_reply(night, http, call.provider, request) for request in step]
        try:
            step = conversation.send(heard)
        except StopIteration as end:
            return dict(end.value)


def _reply(night: Night, http: httpx.Client, provider: str, request: Request) -> Any:
    response = http.request(**night.sent(provider, request))
    return response.raise_for_status().json()
