"""A webhook receiver on 127.0.0.1: it records requests, and responds as configured."""

import http.server
import threading
from dataclasses import dataclass

from tests.support import servers, waiting


@dataclass(frozen=True)
class ReceivedRequest:
    """One received request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self):
        """The value of its webhook-id header."""
        return self.headers["webhook-id"]


class WebhookReceiver(http.server.ThreadingHTTPServer):
    """Responds with a 204, or with the next item of `responses`: a status, (status, headers), or a function."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/hook"
        self.requests = []
        self.responses = []
        self.max_concurrent = 0
        self.concurrent = 0
        self.lock = threading.Lock()

    def wait(self, count):
        """Wait for `count` requests; return all of them."""
        waiting.wait_until(lambda: len(self.requests) >= count, describe=lambda: self.requests)
        return self.requests


class _Handler(servers.QuietHandler):
    server: WebhookReceiver

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.requests.append(
                ReceivedRequest(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
            )
            response = self.server.responses.pop(0) if self.server.responses else 204
            self.server.concurrent += 1
            self.server.max_concurrent = max(self.server.max_concurrent, self.server.concurrent)
        try:
            if callable(response):
                response(self)
                return
            status, headers = response if isinstance(response, tuple) else (response, {})
            self.answer(status, headers=headers)
        finally:
            with self.server.lock:
                self.server.concurrent -= 1


def run_receiver():
    """Run a receiver during the block."""
    return servers.serving(WebhookReceiver())
