"""A receiver of traces on 127.0.0.1: it reads OTLP over HTTP, as any collector does, and keeps the spans."""

import contextlib
import gzip
import http.server
import threading
import time
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

SECONDS = 60  # to wait for spans: machines are slow


@dataclass(frozen=True)
class Span:
    """One span, as it was received."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    kind: int
    began: int
    ended: int
    attributes: dict[str, object]
    links: list[tuple[str, str, dict[str, object]]]
    """Trace, span and attributes of each."""
    failed: bool
    events: int = field(default=0)


class Receiver(http.server.ThreadingHTTPServer):
    """Takes all, unless `status` says otherwise; while it `hangs`, it answers nobody."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.spans = []
        self.raw = b""
        self.asked = 0
        self.status = 200
        self.goes_on = threading.Event()
        self.goes_on.set()

    def environ(self):
        """What a process needs to send its spans here, at once."""
        return {"SORTBELT_TRACING": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}

    def named(self, name, count=1):
        """The spans of a name, once there are so many."""
        self.until(lambda: sum(span.name == name for span in self.spans) >= count, name)
        return [span for span in self.spans if span.name == name]

    def within(self, span):
        """The names of what is directly within a span, in order."""
        inner = [one for one in self.spans if one.parent == span.id]
        return [one.name for one in sorted(inner, key=lambda one: one.began)]

    def until(self, true, what):
        """Wait until something is true."""
        deadline = time.monotonic() + SECONDS
        while not true():
            assert time.monotonic() < deadline, (what, sorted({(span.service, span.name) for span in self.spans}))
            time.sleep(0.02)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def log_message(self, *_):
        pass

    def handle(self):
        with contextlib.suppress(ConnectionError):
            super().handle()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked += 1
        self.server.goes_on.wait()
        if self.server.status == 200:
            body = gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body
            self.server.raw += body
            self.server.spans += read(body)
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()


def read(body):
    """The spans of one request."""
    request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
    for resource in request.resource_spans:
        service = _plain(resource.resource.attributes)["service.name"]
        for scope in resource.scope_spans:
            yield from (_span(service, span) for span in scope.spans)


def _span(service, span):
    links = [(link.trace_id.hex(), link.span_id.hex(), _plain(link.attributes)) for link in span.links]
    ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
    times = (span.start_time_unix_nano, span.end_time_unix_nano)
    about = (_plain(span.attributes), links, span.status.code == 2, len(span.events))
    return Span(service, span.name, *ids, span.kind, *times, *about)


def _plain(attributes):
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@contextlib.contextmanager
def listening():
    """One that listens until the end."""
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.goes_on.set()
        server.shutdown()
        thread.join()
        server.server_close()
