"""An OTLP receiver on 127.0.0.1: it accepts traces over HTTP, as any collector does, and records the spans."""

import contextlib
import gzip
import http.server
import threading
from dataclasses import dataclass, field

import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from core.tracing import tracer
from tests.support import servers, waiting


@dataclass(frozen=True)
class Span:
    """One received span."""

    service: str
    name: str
    trace_id: str
    id: str
    parent_id: str
    kind: int
    start_ns: int
    end_ns: int
    attributes: dict[str, object]
    links: list[tuple[str, str, dict[str, object]]]
    """(trace id, span id, attributes) of each link."""
    failed: bool
    event_count: int = field(default=0)


class OtlpReceiver(http.server.ThreadingHTTPServer):
    """Records all spans; responds with `response_status`, and not before `unblocked` is set."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.spans = []
        self.raw_body = b""
        self.request_count = 0
        self.response_status = 200
        self.unblocked = threading.Event()
        self.unblocked.set()

    def environ(self):
        """Return the variables that make a process export its spans here without delay."""
        return {"SORTBELT_TRACING": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}

    def wait_for_spans(self, name, count=1):
        """Wait for `count` spans of a name; return all of them."""
        self.wait_until(lambda: sum(span.name == name for span in self.spans) >= count, name)
        return [span for span in self.spans if span.name == name]

    def child_names(self, span):
        """Return the names of a span's children, in order of their start."""
        children = [child for child in self.spans if child.parent_id == span.id]
        return [child.name for child in sorted(children, key=lambda child: child.start_ns)]

    def wait_until(self, condition, description):
        """Wait until a condition holds; fail with the description and the spans received so far."""
        waiting.wait_until(
            condition, describe=lambda: (description, sorted({(span.service, span.name) for span in self.spans}))
        )


class _Handler(servers.QuietHandler):
    server: OtlpReceiver

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.request_count += 1
        self.server.unblocked.wait()
        if self.server.response_status == 200:
            body = gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body
            self.server.raw_body += body
            self.server.spans += parse_spans(body)
        self.answer(self.server.response_status)


def parse_spans(body):
    """Yield the spans of one export request."""
    request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
    for resource in request.resource_spans:
        service = _to_dict(resource.resource.attributes)["service.name"]
        for scope in resource.scope_spans:
            yield from (_to_span(service, span) for span in scope.spans)


def _to_span(service, span):
    links = [(link.trace_id.hex(), link.span_id.hex(), _to_dict(link.attributes)) for link in span.links]
    ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
    times = (span.start_time_unix_nano, span.end_time_unix_nano)
    details = (_to_dict(span.attributes), links, span.status.code == 2, len(span.events))
    return Span(service, span.name, *ids, span.kind, *times, *details)


def _to_dict(attributes):
    return {attribute.key: getattr(attribute.value, attribute.value.WhichOneof("value")) for attribute in attributes}


@contextlib.contextmanager
def run_receiver():
    """Run a receiver during the block."""
    with servers.serving(OtlpReceiver()) as server:
        try:
            yield server
        finally:
            server.unblocked.set()


@pytest.fixture
def trace_receiver():
    """Run a receiver."""
    with run_receiver() as receiver:
        yield receiver


@pytest.fixture
def enabled_tracing(trace_receiver, monkeypatch):
    """Enable tracing in this process; return the receiver of its spans."""
    for name, value in trace_receiver.environ().items():
        monkeypatch.setenv(name, value)
    tracer.start_or_exit("tests", enabled=True)
    yield trace_receiver
    tracer.close()
