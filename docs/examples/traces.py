"""Receive traces and print them: `python docs/examples/traces.py [PORT]`.

It speaks OTLP over HTTP, like Jaeger, Tempo and collectors; `pip install "sortbelt[otel]"` installs what it needs.
"""

import http.server
import sys

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

INTERNAL = trace_pb2.Span.SPAN_KIND_INTERNAL


class Receiver(http.server.BaseHTTPRequestHandler):
    """Print each received span: trace, service, name, duration, job and links."""

    def do_POST(self) -> None:
        """Print the spans of one export request."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        for exported in trace_service_pb2.ExportTraceServiceRequest.FromString(body).resource_spans:
            (service,) = (a.value.string_value for a in exported.resource.attributes if a.key == "service.name")
            spans = exported.scope_spans[0].spans
            for span in sorted(spans, key=lambda span: (span.start_time_unix_nano, is_child(span))):
                print(line(service, span), flush=True)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print no access log."""


def is_child(span: trace_pb2.Span) -> bool:
    """Return whether a span is a step of another one of the same service."""
    return bool(span.parent_span_id) and span.kind == INTERNAL


def line(service: str, span: trace_pb2.Span) -> str:
    """Format one span as one line."""
    seconds = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
    name = ("  " if is_child(span) else "") + span.name
    details = [f"job {a.value.string_value}" for a in span.attributes if a.key == "sortbelt.job.id"]
    details += [f"linked to {link.trace_id.hex()[:8]}" for link in span.links]
    return f"{span.trace_id.hex()[:8]} {service:16} {name:28} {seconds * 1000:8.1f} ms  {' '.join(details)}".rstrip()


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 4318
    print(f"Waiting for traces on port {port} of this machine …", flush=True)
    http.server.HTTPServer(("127.0.0.1", port), Receiver).serve_forever()  # one at a time: threads would mix lines
