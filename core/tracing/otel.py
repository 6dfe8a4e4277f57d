"""OpenTelemetry backend of the tracer: spans are exported by a thread of their own, so that callers never wait.

The `OTEL_…` variables of its specification configure it.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.sdk import resources
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.trace import export, sampling
from opentelemetry.trace.propagation import tracecontext

from core import errors
from core.tracing import spans as spans_tracing

EXPORT_TIMEOUT_SECONDS = 3.0  # for one export, unless OTEL_EXPORTER_OTLP_TIMEOUT says otherwise
SHUTDOWN_TIMEOUT_SECONDS = 2.0  # for the remaining spans
TIMEOUT_VARIABLES = {"OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"}
EXPECTED_ERRORS = (
    errors.ClientError,
    errors.TemporarilyRejected,
    errors.ImageFailed,
)  # the caller's errors, not faults
W3C_PROPAGATOR = tracecontext.TraceContextTextMapPropagator()

log = logging.getLogger(__name__)


class OtelBackend:
    """The spans of one process; what the collector does not accept is dropped, the oldest first."""

    def __init__(self, service: str) -> None:
        """Trace as a service of this name, unless OTEL_SERVICE_NAME has another.

        Raises:
            ValueError: an `OTEL_…` variable is invalid.
        """
        base_resource = resources.Resource.create({}).merge(resources.Resource({resources.SERVICE_NAME: service}))
        resource = base_resource.merge(resources.OTELResourceDetector().detect())
        self._provider = sdk.TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.sampler = LinkedSampler(self._provider.sampler)
        timeout = None if TIMEOUT_VARIABLES & os.environ.keys() else EXPORT_TIMEOUT_SECONDS
        exporter = ReportingExporter(trace_exporter.OTLPSpanExporter(timeout=timeout))
        self._provider.add_span_processor(export.BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("sortbelt")

    def close(self) -> None:
        """Export the remaining spans; a collector that does not answer is not waited for."""
        shutdown_thread = threading.Thread(target=self._provider.shutdown, name="trace shutdown", daemon=True)
        shutdown_thread.start()
        shutdown_thread.join(SHUTDOWN_TIMEOUT_SECONDS)

    def child_span(self, name: str) -> AbstractContextManager[spans_tracing.Span] | None:
        """Start a span within the current one of this thread; return None if there is none."""
        if not trace.get_current_span().get_span_context().is_valid:
            return None
        return self._activate(self._tracer.start_span(name))

    def server_span(
        self, name: str, headers: Mapping[str, str], start_ns: int
    ) -> AbstractContextManager[spans_tracing.Span]:
        """See `tracer.server_span`."""
        remote_context = W3C_PROPAGATOR.extract(headers, context.Context())
        return self._activate(self._tracer.start_span(name, remote_context, trace.SpanKind.SERVER, start_time=start_ns))

    def client_span(
        self, name: str, attributes: spans_tracing.Attributes, links: Mapping[str, str | None]
    ) -> AbstractContextManager[spans_tracing.Span]:
        """See `tracer.client_span`."""
        options: Any = {"kind": trace.SpanKind.CLIENT, "attributes": dict(attributes), "links": _to_links(links)}
        return self._activate(self._tracer.start_span(name, context.Context(), **options))

    def record_span(
        self,
        finished_span: spans_tracing.FinishedSpan,
        children: Sequence[spans_tracing.FinishedSpan],
        links: Mapping[str, str | None] | None,
    ) -> None:
        """See `tracer.record_span`."""
        parent_context = None if links is None else context.Context()
        otel_span = self._start_span(finished_span, parent_context, _to_links(links or {}))
        child_context = trace.set_span_in_context(otel_span, context.Context())
        for child in children:
            self._start_span(child, child_context, []).end(child.end_ns)
        otel_span.end(finished_span.end_ns)

    def traceparent(self) -> str | None:
        """See `tracer.traceparent`."""
        carrier: dict[str, str] = {}
        W3C_PROPAGATOR.inject(carrier)
        return carrier.get("traceparent")

    def current_span(self) -> spans_tracing.Span:
        """See `tracer.current_span`."""
        return OtelSpan(trace.get_current_span())

    def _start_span(
        self,
        finished_span: spans_tracing.FinishedSpan,
        parent_context: context.Context | None,
        links: Sequence[trace.Link],
    ) -> trace.Span:
        options: Any = {
            "attributes": dict(finished_span.attributes),
            "links": links,
            "start_time": finished_span.start_ns,
        }
        otel_span = self._tracer.start_span(finished_span.name, parent_context, **options)
        if finished_span.error is not None:
            OtelSpan(otel_span).set_error(finished_span.error)
        return otel_span

    @contextlib.contextmanager
    def _activate(self, otel_span: trace.Span) -> Iterator[spans_tracing.Span]:
        """Make a span the current one of this thread. Exception texts are not recorded: they may name images."""
        wrapper = OtelSpan(otel_span)
        with trace.use_span(otel_span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield wrapper
            except EXPECTED_ERRORS as error:
                wrapper.set_attributes({"error.type": type(error).__name__})
                raise
            except Exception as error:
                wrapper.set_error(type(error).__name__)
                raise


class OtelSpan(spans_tracing.Span):
    """A span of OpenTelemetry."""

    def __init__(self, otel_span: trace.Span) -> None:
        self._otel_span = otel_span

    def set_attributes(self, attributes: spans_tracing.Attributes, name: str | None = None) -> None:
        """See `spans.Span.set_attributes`."""
        self._otel_span.set_attributes(dict(attributes))
        if name is not None:
            self._otel_span.update_name(name)

    def set_error(self, error_type: str) -> None:
        """See `spans.Span.set_error`."""
        self._otel_span.set_attribute("error.type", error_type)
        self._otel_span.set_status(trace.StatusCode.ERROR)


class LinkedSampler(sampling.Sampler):
    """Samples a span with links if one of the linked traces is sampled: a batch appears with its jobs' requests."""

    def __init__(self, default_sampler: sampling.Sampler) -> None:
        self._default_sampler = default_sampler

    def should_sample(self, *args: Any, **kwargs: Any) -> sampling.SamplingResult:
        """Decide by the links if there are any, else by the default sampler."""
        links = kwargs.get("links") or (args[5] if len(args) > 5 else None)
        if not links:
            return self._default_sampler.should_sample(*args, **kwargs)
        is_sampled = any(link.context.trace_flags.sampled for link in links)
        return (sampling.ALWAYS_ON if is_sampled else sampling.ALWAYS_OFF).should_sample(*args, **kwargs)

    def get_description(self) -> str:
        """Return its name."""
        return f"Linked{{{self._default_sampler.get_description()}}}"


class ReportingExporter(export.SpanExporter):
    """Exports spans, and logs once when that begins to fail, and once when it succeeds again."""

    def __init__(self, exporter: export.SpanExporter) -> None:
        self._exporter = exporter
        self._is_delivering = True
        # These log it every few seconds, and for each span.
        for logger_name in ("opentelemetry.exporter", "opentelemetry.sdk._shared_internal"):
            logging.getLogger(logger_name).setLevel(logging.CRITICAL)

    def export(self, spans: Sequence[sdk.ReadableSpan]) -> export.SpanExportResult:
        """Export some spans."""
        result = self._exporter.export(spans)
        is_delivered = result is export.SpanExportResult.SUCCESS
        if is_delivered != self._is_delivering:
            self._is_delivering = is_delivered
            log.warning("Traces are delivered again." if is_delivered else NOT_DELIVERED_MESSAGE)
        return result

    def shutdown(self) -> None:
        """Stop exporting."""
        self._exporter.shutdown()


NOT_DELIVERED_MESSAGE = (
    "Traces are not delivered, and are dropped: the collector at OTEL_EXPORTER_OTLP_ENDPOINT "
    "(default http://localhost:4318) does not accept OTLP over HTTP. Check that variable; all else goes on."
)


def _to_links(traceparents: Mapping[str, str | None]) -> list[trace.Link]:
    """Create links to the traces of jobs, which are stored as their traceparents."""
    links = []
    for job_id, traceparent in list(traceparents.items())[: spans_tracing.MAX_LINKS]:
        remote_span = trace.get_current_span(
            W3C_PROPAGATOR.extract({"traceparent": traceparent or ""}, context.Context())
        )
        if remote_span.get_span_context().is_valid:
            links.append(trace.Link(remote_span.get_span_context(), {"sortbelt.job.id": job_id}))
    return links
