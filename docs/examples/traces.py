"""A receiver of traces that prints them, to see what there is: `python docs/examples/traces.py [PORT]`.

It reads OTLP over HTTP, as Jaeger, Tempo and every collector do; `pip install "sortbelt[otel]"` brings what it needs.
"""

import http.server
import sys

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

INNER = trace_pb2.Span.SPAN_KIND_INTERNAL


class Receiver(http.server.BaseHTTPRequestHandler):
    """Prints each span that it is sent: its trace, who did what, for how long, and what it is linked to."""

    def do_POST(self) -> None:
        """Take some spans."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        for sent in trace_service_pb2.ExportTraceServiceRequest.FromString(body).resource_spans:
            (service,) = (one.value.string_value for one in sent.resource.attributes if one.key == "service.name")
            for span in sorted(
                sent.scope_spans[0].spans, key=lambda one: (one.start_time_unix_nano, one.kind == INNER)
            ):
                print(line(service, span), flush=True)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Only spans are worth a line."""


def line(service: str, span: trace_pb2.Span) -> str:
    """One span in one line."""
    seconds = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
    name = ("  " if span.parent_span_id and span.kind == INNER else "") + span.name
    about = [f"job {one.value.string_value}" for one in span.attributes if one.key == "sortbelt.job.id"]
    about += [f"linked to {link.trace_id.hex()[:8]}" for link in span.links]
    return f"{span.trace_id.hex()[:8]} {service:16} {name:28} {seconds * 1000:8.1f} ms  {' '.join(about)}".rstrip()


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 4318
    print(f"Waiting for traces on port {port} of this machine …", flush=True)
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Receiver).serve_forever()
