"""A webhook receiver on 127.0.0.1: it records requests, and responds as configured."""

import contextlib
import http.server
import threading
from dataclasses import dataclass

from tests.support import waiting


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

    daemon_threads = True

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


class _Handler(http.server.BaseHTTPRequestHandler):
    server: WebhookReceiver

    def log_message(self, *_):
        pass

    def handle(self):
        with contextlib.suppress(ConnectionError):  # the sender may be killed during a request
            super().handle()

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
            self.send_response(status)
            for name, value in {"Content-Length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
        finally:
            with self.server.lock:
                self.server.concurrent -= 1


@contextlib.contextmanager
def run_receiver():
    """Run a receiver during the block."""
    server = WebhookReceiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
