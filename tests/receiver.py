"""A receiver of webhooks on 127.0.0.1: it keeps what it was sent, and answers as it is told."""

import contextlib
import http.server
import threading
import time
from dataclasses import dataclass

SECONDS = 60  # to wait for a webhook: machines are slow


@dataclass(frozen=True)
class Got:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self):
        """Its webhook-id."""
        return self.headers["webhook-id"]


class Receiver(http.server.ThreadingHTTPServer):
    """Answers 204, or what `answers` holds for the next requests: a status, (status, headers), or a function."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/hook"
        self.got = []
        self.answers = []
        self.most_at_once = 0
        self.at_once = 0
        self.lock = threading.Lock()

    def wait(self, count):
        """What it got, once that are so many."""
        until = time.monotonic() + SECONDS
        while len(self.got) < count:
            assert time.monotonic() < until, self.got
            time.sleep(0.01)
        return self.got


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def log_message(self, *_):
        pass

    def handle(self):
        with contextlib.suppress(ConnectionError):  # who sends may be killed in the middle
            super().handle()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.got.append(Got(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            answer = self.server.answers.pop(0) if self.server.answers else 204
            self.server.at_once += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.at_once)
        try:
            if callable(answer):
                answer(self)
                return
            status, headers = answer if isinstance(answer, tuple) else (answer, {})
            self.send_response(status)
            for name, value in {"Content-Length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
        finally:
            with self.server.lock:
                self.server.at_once -= 1


@contextlib.contextmanager
def listening():
    """A receiver that runs."""
    made = Receiver()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        made.shutdown()
        thread.join()
        made.server_close()
