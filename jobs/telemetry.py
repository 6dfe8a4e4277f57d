"""What OpenTelemetry does for `tracing`: spans, sent by a thread of their own, so that nobody waits.

Where to, how many and how is said by the `OTEL_…` variables of its specification.
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

from jobs import errors, tracing

SEND_SECONDS = 3.0  # for one try to send, unless OTEL_EXPORTER_OTLP_TIMEOUT says otherwise
LAST_SECONDS = 2.0  # for what is left at the end
TIMEOUTS = {"OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"}
EXPECTED = (errors.Refused, errors.Later, errors.BadPicture)  # the caller's affair, not a fault
W3C = tracecontext.TraceContextTextMapPropagator()

log = logging.getLogger(__name__)


class Telemetry:
    """The spans of one process; what its receiver cannot take is dropped, the oldest first."""

    def __init__(self, service: str) -> None:
        """Trace as a service of this name, unless OTEL_SERVICE_NAME has another.

        Raises:
            ValueError: an `OTEL_…` variable cannot be.
        """
        ours = resources.Resource.create({}).merge(resources.Resource({resources.SERVICE_NAME: service}))
        resource = ours.merge(resources.OTELResourceDetector().detect())
        self._provider = sdk.TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.sampler = Linked(self._provider.sampler)
        timeout = None if TIMEOUTS & os.environ.keys() else SEND_SECONDS
        sender = Sender(trace_exporter.OTLPSpanExporter(timeout=timeout))
        self._provider.add_span_processor(export.BatchSpanProcessor(sender))
        self._tracer = self._provider.get_tracer("sortbelt")

    def close(self) -> None:
        """Send what is left; a receiver that does not answer is not waited for."""
        last = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        last.start()
        last.join(LAST_SECONDS)

    def child(self, name: str) -> AbstractContextManager[tracing.Span] | None:
        """A span within that of this thread; None if there is none."""
        if not trace.get_current_span().get_span_context().is_valid:
            return None
        return self._within(self._tracer.start_span(name))

    def served(self, name: str, headers: Mapping[str, str], began: int) -> AbstractContextManager[tracing.Span]:
        """See `tracing.served`."""
        before = W3C.extract(headers, context.Context())
        return self._within(self._tracer.start_span(name, before, trace.SpanKind.SERVER, start_time=began))

    def sent(
        self, name: str, attributes: tracing.Attributes, links: Mapping[str, str | None]
    ) -> AbstractContextManager[tracing.Span]:
        """See `tracing.sent`."""
        how: Any = {"kind": trace.SpanKind.CLIENT, "attributes": dict(attributes), "links": _links(links)}
        return self._within(self._tracer.start_span(name, context.Context(), **how))

    def record(
        self, whole: tracing.Step, parts: Sequence[tracing.Step], links: Mapping[str, str | None] | None
    ) -> None:
        """See `tracing.record`."""
        before = None if links is None else context.Context()
        span = self._begin(whole, before, _links(links or {}))
        within = trace.set_span_in_context(span, context.Context())
        for part in parts:
            self._begin(part, within, []).end(part.ended)
        span.end(whole.ended)

    def traceparent(self) -> str | None:
        """See `tracing.traceparent`."""
        carrier: dict[str, str] = {}
        W3C.inject(carrier)
        return carrier.get("traceparent")

    def current(self) -> tracing.Span:
        """See `tracing.current`."""
        return Span(trace.get_current_span())

    def _begin(self, step: tracing.Step, before: context.Context | None, links: Sequence[trace.Link]) -> trace.Span:
        how: Any = {"attributes": dict(step.attributes), "links": links, "start_time": step.began}
        span = self._tracer.start_span(step.name, before, **how)
        if step.error is not None:
            Span(span).fail(step.error)
        return span

    @contextlib.contextmanager
    def _within(self, span: trace.Span) -> Iterator[tracing.Span]:
        """A span as that of this thread. What an exception says is not told: it may name pictures."""
        told = Span(span)
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield told
            except EXPECTED as error:
                told.tell({"error.type": type(error).__name__})
                raise
            except Exception as error:
                told.fail(type(error).__name__)
                raise


class Span(tracing.Span):
    """A span of OpenTelemetry."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    def tell(self, attributes: tracing.Attributes, name: str | None = None) -> None:
        """See `tracing.Span.tell`."""
        self._span.set_attributes(dict(attributes))
        if name is not None:
            self._span.update_name(name)

    def fail(self, kind: str) -> None:
        """See `tracing.Span.fail`."""
        self._span.set_attribute("error.type", kind)
        self._span.set_status(trace.StatusCode.ERROR)


class Linked(sampling.Sampler):
    """What is linked to traces is kept if one of them is: who sees a job's request sees its batches too."""

    def __init__(self, usual: sampling.Sampler) -> None:
        self._usual = usual

    def should_sample(self, *args: Any, **kwargs: Any) -> sampling.SamplingResult:
        """By the links if there are any, else as usual."""
        links = kwargs.get("links") or (args[5] if len(args) > 5 else None)
        if not links:
            return self._usual.should_sample(*args, **kwargs)
        kept = any(link.context.trace_flags.sampled for link in links)
        return (sampling.ALWAYS_ON if kept else sampling.ALWAYS_OFF).should_sample(*args, **kwargs)

    def get_description(self) -> str:
        """Its name."""
        return f"Linked{{{self._usual.get_description()}}}"


class Sender(export.SpanExporter):
    """Sends spans, and says once when they do not arrive, and once when they do again."""

    def __init__(self, exporter: export.SpanExporter) -> None:
        self._exporter = exporter
        self._arrive = True
        # These would say it every few seconds, and for each span.
        for chatty in ("opentelemetry.exporter", "opentelemetry.sdk._shared_internal"):
            logging.getLogger(chatty).setLevel(logging.CRITICAL)

    def export(self, spans: Sequence[sdk.ReadableSpan]) -> export.SpanExportResult:
        """Send some."""
        result = self._exporter.export(spans)
        arrive = result is export.SpanExportResult.SUCCESS
        if arrive != self._arrive:
            self._arrive = arrive
            log.warning("Traces arrive again." if arrive else NOT_HEARD)
        return result

    def shutdown(self) -> None:
        """Send no more."""
        self._exporter.shutdown()


NOT_HEARD = (
    "Traces do not arrive, and are dropped: the receiver that OTEL_EXPORTER_OTLP_ENDPOINT names "
    "(http://localhost:4318 if it names none) does not take them by OTLP over HTTP. All else goes on."
)


def _links(wanted: Mapping[str, str | None]) -> list[trace.Link]:
    """Links to the traces of jobs, which are remembered by their traceparents."""
    links = []
    for job_id, traceparent in list(wanted.items())[: tracing.MOST_LINKS]:
        before = trace.get_current_span(W3C.extract({"traceparent": traceparent or ""}, context.Context()))
        if before.get_span_context().is_valid:
            links.append(trace.Link(before.get_span_context(), {"sortbelt.job.id": job_id}))
    return links
