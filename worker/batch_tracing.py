"""Batch tracing: a batch has images of many jobs, so it is a trace of its own, linked to those of its jobs."""

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence

from core import errors
from core.db import database
from core.db.queries import claims as claim_queries
from core.db.queries import counters, jobs
from core.tracing import spans, tracer

log = logging.getLogger(__name__)


class BatchTrace:
    """The spans of a batch, until it ends; without tracing they are not exported."""

    def __init__(self, db: database.Database, worker: str, claims: list[claim_queries.Claim]) -> None:
        """Start the trace of a batch whose claims will be appended to this list; without any nothing is exported."""
        self._db = db
        self._worker = worker
        self._claims = claims
        self._spans: list[spans.FinishedSpan] = []

    @contextlib.contextmanager
    def span(self, name: str, started_ns: int | None = None) -> Iterator[None]:
        """Record a span of the batch around a block, beginning now or at this time, in nanoseconds."""
        started_ns, error = started_ns or time.time_ns(), None
        try:
            yield
        except Exception as caught:
            error = type(caught).__name__
            raise
        finally:
            attributes = {"sortbelt.batch.size": len(self._claims)}
            self._spans.append(spans.FinishedSpan(name, started_ns, time.time_ns(), attributes, error))
            if error is not None:
                self._record({}, error)

    def end(
        self,
        model_ref: claim_queries.ModelRef,
        reason: counters.FlushReason,
        outcomes: Sequence[claim_queries.Outcome],
        written: int | None,
    ) -> None:
        """Export the trace; `written` is the number of results, or None if the commit failed."""
        model_attributes = {"sortbelt.model": model_ref.name, "sortbelt.model.version": model_ref.version or ""}
        failed = sum(outcome.error_code is not None for outcome in outcomes)
        counts = {"sortbelt.batch.failed": failed, "sortbelt.batch.written": written or 0}
        self._record(
            {**model_attributes, **counts, "sortbelt.batch.reason": reason.value},
            "not written" if written is None else None,
        )

    def _record(self, attributes: dict[str, str | int], error: str | None) -> None:
        """Export the batch's span and its children; log any error, which must not fail the batch."""
        if not self._claims or not tracer.is_enabled():
            return
        job_ids = sorted({claim.job_id for claim in self._claims})
        try:
            traceparents = self._db.read(jobs.traceparents, job_ids[: spans.MAX_LINKS])
        except errors.DatabaseUnavailable:
            traceparents = {}
        except Exception:
            log.exception("the trace of a batch could not be exported")
            return
        attributes |= {"sortbelt.batch.size": len(self._claims), "sortbelt.batch.jobs": len(job_ids)}
        attributes |= {"sortbelt.worker": self._worker}
        batch_span = spans.FinishedSpan("batch", self._spans[0].start_ns, self._spans[-1].end_ns, attributes, error)
        tracer.record_span(batch_span, self._spans, traceparents)
