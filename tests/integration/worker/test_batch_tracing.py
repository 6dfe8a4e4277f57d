import time

import pytest

from core import errors
from core.db.queries import counters
from core.tracing import tracer
from tests.support import factories
from worker import batch_tracing

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_batch_is_linked_once_to_the_trace_of_each_of_its_jobs(enabled_tracing, db, owner):
    """However many of its images it has; jobs submitted outside a trace are not linked."""
    first = factories.create_job(db, owner, "a", "b", "c", traceparent=CALLER)
    second = factories.create_job(db, owner, "d", traceparent=OTHER)
    factories.create_job(db, owner, "e")
    claims = []
    trace = batch_tracing.BatchTrace(db, "w1", claims)
    with trace.span("claim"):
        claims += factories.claim_images(db)
    with trace.span("decode"):
        time.sleep(0.01)
    outcomes = [factories.outcome(claim) for claim in claims[1:]]
    outcomes += [factories.outcome(claims[0], error_code="undecodable", error_detail="It shows lunch.")]
    with trace.span("forward"):
        pass
    trace.end(factories.MODEL_REF, counters.FlushReason.LINGER, outcomes, 4)
    tracer.close()

    (batch,) = enabled_tracing.wait_for_spans("batch")
    assert sorted(batch.links) == sorted(
        (*parent.split("-")[1:3], {"sortbelt.job.id": id_}) for id_, parent in ((first, CALLER), (second, OTHER))
    )
    assert batch.attributes == {
        "sortbelt.batch.size": 5,
        "sortbelt.batch.jobs": 3,
        "sortbelt.batch.failed": 1,
        "sortbelt.batch.written": 4,
        "sortbelt.batch.reason": "linger",
        "sortbelt.model": factories.MODEL,
        "sortbelt.model.version": "1",
        "sortbelt.worker": "w1",
    }
    assert enabled_tracing.child_names(batch) == ["claim", "decode", "forward"]
    (decode,) = enabled_tracing.wait_for_spans("decode")
    assert decode.end_ns - decode.start_ns >= 10_000_000
    assert batch.start_ns <= decode.start_ns <= decode.end_ns <= batch.end_ns
    assert not any(span.failed for span in enabled_tracing.spans)
    assert b"lunch" not in enabled_tracing.raw_body


def test_a_claim_without_images_is_not_traced(enabled_tracing, db):
    """An idle worker polls every second."""
    trace = batch_tracing.BatchTrace(db, "w1", [])
    with trace.span("claim"):
        pass
    tracer.close()
    assert enabled_tracing.spans == []


def test_a_failed_span_ends_the_trace_and_names_the_error(enabled_tracing, db, owner):
    id_ = factories.create_job(db, owner, "a", traceparent=CALLER)
    claims = factories.claim_images(db)
    trace = batch_tracing.BatchTrace(db, "w1", claims)
    with trace.span("claim"):
        pass
    with pytest.raises(errors.BlobsUnavailable), trace.span("decode"):
        raise errors.BlobsUnavailable("The store of lunch.jpg does not answer.")
    tracer.close()

    (batch,) = enabled_tracing.wait_for_spans("batch")
    (decode,) = enabled_tracing.wait_for_spans("decode")
    assert (batch.failed, batch.attributes["error.type"]) == (True, "BlobsUnavailable")
    assert (decode.failed, decode.parent_id) == (True, batch.id)
    assert [link[2]["sortbelt.job.id"] for link in batch.links] == [id_]
    assert b"lunch" not in enabled_tracing.raw_body


class UnavailableDatabase:
    """A database that does not answer."""

    def read(self, *_):
        """Raise."""
        raise errors.DatabaseUnavailable("Away.")


def test_without_a_database_the_trace_is_exported_without_links(enabled_tracing, db, owner):
    """A failure of the trace does not fail the batch."""
    factories.create_job(db, owner, "a", traceparent=CALLER)
    claims = factories.claim_images(db)
    trace = batch_tracing.BatchTrace(UnavailableDatabase(), "w1", claims)
    with trace.span("commit"):
        pass
    trace.end(factories.MODEL_REF, counters.FlushReason.FULL, [factories.outcome(claims[0])], None)
    tracer.close()
    (batch,) = enabled_tracing.wait_for_spans("batch")
    assert (batch.links, batch.failed) == ([], True)


def test_without_tracing_nothing_is_recorded(db, owner):
    """Not even the traces of the jobs are read."""
    factories.create_job(db, owner, "a", traceparent=CALLER)
    claims = factories.claim_images(db)
    trace = batch_tracing.BatchTrace(None, "w1", claims)
    with trace.span("claim"):
        pass
    trace.end(factories.MODEL_REF, counters.FlushReason.FULL, [factories.outcome(claims[0])], 1)
