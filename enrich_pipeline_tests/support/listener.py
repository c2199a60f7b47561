"""A channel for alerts: an HTTP server that keeps what is posted to it."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Listener:
    """`posted` are the bodies in the order of their arrival; `status` is what it answers."""

    port: int
    posted: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    delay_seconds: float = 0.0

    @property
    def url(self) -> str:
        """Its address for Apprise, with a secret in it."""
        return f"json://user:CANARYPASSWORD@127.0.0.1:{self.port}/CANARYTOKEN"

    @property
    def messages(self) -> list[str]:
        return [body["message"] for body in self.posted]


@contextmanager
def listening() -> Iterator[Listener]:
    """A listener on a free port, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            time.sleep(listener.delay_seconds)
            if listener.status < 300:
                listener.posted.append(json.loads(body))
            self.send_response(listener.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listener = Listener(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield listener
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
