import logging
import re
import subprocess
import sys
import threading
import time

import pytest

from core import errors, settings
from core.db import database
from core.storage import local
from core.tracing import spans, tracer
from tests.support import factories

FORM = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]")
ORDERED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNSEEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"  # its sampler has decided against it


def request(headers=None, name="GET /"):
    """A request that comes in now."""
    return tracer.server_span(name, headers or {}, time.time_ns())


def test_switched_off_it_is_the_same_nothing_for_all(db, owner):
    """No span, no header, nothing remembered."""
    tracer.start_or_exit("tests", enabled=False)
    assert not tracer.is_enabled()
    assert tracer.child_span("a") is tracer.child_span("b") is request() is tracer.client_span("c", {}, {})
    with request() as span:
        span.set_attributes({"x": 1}, "another name")
        span.set_error("X")
        tracer.current_span().set_attributes({"x": 1})
        tracer.record_span(spans.FinishedSpan("s", 1, 2), [], {"job": ORDERED})
        assert tracer.traceparent() is None
        id_ = factories.create_job(db, owner, "a")
    assert factories.get_job(db, id_).traceparent is None


def test_switched_off_opentelemetry_is_not_looked_for():
    """It works where the packages are not, and says in one sentence that they are missing where they are wanted."""
    program = """
import sys
class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Nowhere())
from api import app
from core import settings
from core.tracing import tracer
from dispatcher import source_importer, webhook_dispatcher
app.create_app(settings.read({}))
tracer.start_or_exit("tests", enabled=settings.read({}).tracing)
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
settings.read_or_exit()
"""
    options = {"capture_output": True, "text": True, "cwd": factories.__file__.rpartition("/tests/")[0]}
    done = subprocess.run([sys.executable, "-c", program], env={"SORTBELT_TRACING": "1"}, check=False, **options)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "SORTBELT_TRACING" in done.stderr
    assert "pip install 'sortbelt[otel]'" in done.stderr


@pytest.mark.parametrize(("value", "wanted"), [("true", True), ("1", True), ("0", False), ("false", False)])
def test_the_switch_is_a_setting(value, wanted):
    assert settings.read({"SORTBELT_TRACING": value}).tracing is wanted


def test_the_switch_is_no_address():
    """Where to is said by OTEL_EXPORTER_OTLP_ENDPOINT."""
    with pytest.raises(errors.BadSetting, match="SORTBELT_TRACING"):
        settings.read({"SORTBELT_TRACING": "http://localhost:4318"})


def test_what_opentelemetry_cannot_do_ends_the_program_with_a_sentence(monkeypatch, capsys):
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "1")
    with pytest.raises(SystemExit) as caught:
        tracer.start_or_exit("tests", enabled=True)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("sortbelt: an OTEL_… variable is not acceptable: ")


def test_parts_lie_within_what_is_under_way(enabled_tracing, db, owner, tmp_path):
    """Bytes, transaction, and the job remembers the request; what is under way nowhere is no span."""
    db.read(lambda c: c)  # no request
    with request({"traceparent": ORDERED}) as span:
        here = tracer.traceparent()
        local.LocalBlobStore(tmp_path).put([("ab" * 32, b"bytes")])
        id_ = factories.create_job(db, owner, "a")
        span.set_attributes({"more": 1}, "POST /v1/jobs")
    tracer.close()

    (whole,) = enabled_tracing.wait_for_spans("POST /v1/jobs")
    assert FORM.fullmatch(here)
    assert factories.get_job(db, id_).traceparent == here
    assert db.read(factories.jobs.traceparents, [id_]) == {id_: here}
    assert (whole.trace_id, whole.parent_id, whole.attributes) == (*ORDERED.split("-")[1:3], {"more": 1})
    assert enabled_tracing.child_names(whole) == ["blobs.put", "transaction insert_job"]
    assert len(enabled_tracing.spans) == 3


@pytest.mark.parametrize("said", ["", "rubbish", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "ff-" + ORDERED[3:], "é\n"])
def test_a_malformed_traceparent_begins_a_new_trace(enabled_tracing, said):
    with request({"traceparent": said, "tracestate": said}):
        pass
    tracer.close()
    (span,) = enabled_tracing.wait_for_spans("GET /")
    assert span.parent_id == ""


def test_an_exception_is_recorded_by_its_type_only(enabled_tracing, db):
    """Its text may name images. A caller's error is not a failure."""

    def fail(_, error):
        raise error

    with request():
        for error in (errors.UnknownBlob("You have not sent lunch.jpg yet."), ValueError("lunch.jpg")):
            with pytest.raises(type(error)):
                db.read(fail, error)
    tracer.close()
    expected, fault = enabled_tracing.wait_for_spans("transaction fail", 2)
    assert (expected.failed, expected.attributes) == (False, {"error.type": "UnknownBlob"})
    assert (fault.failed, fault.attributes) == (True, {"error.type": "ValueError"})
    assert b"lunch" not in enabled_tracing.raw_body


def test_threads_have_spans_of_their_own(enabled_tracing):
    """The spans of one request do not mix with another's, nor with later ones of its thread."""

    def work(number):
        for _ in range(20):
            assert tracer.traceparent() is None
            with request(name=f"r{number}"), tracer.child_span(f"s{number}"):
                time.sleep(0.001)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tracer.close()
    for number in range(4):
        requests, parts = (
            enabled_tracing.wait_for_spans(f"r{number}", 20),
            enabled_tracing.wait_for_spans(f"s{number}", 20),
        )
        assert {part.parent_id for part in parts} == {one.id for one in requests}


def test_finished_spans_are_recorded_with_their_links(enabled_tracing):
    """Each job once, those that are in no trace not at all, and not without end."""
    many = {f"j{n}": f"00-{n + 1:032x}-{n + 1:016x}-01" for n in range(spans.MAX_LINKS + 50)}
    parts = [spans.FinishedSpan("one", 100, 150, {"n": 1}), spans.FinishedSpan("two", 150, 200, error="Fault")]
    tracer.record_span(
        spans.FinishedSpan("few", 100, 200, {"x": "y"}), parts, {"a": ORDERED, "b": None, "c": "rubbish"}
    )
    tracer.record_span(spans.FinishedSpan("many", 100, 200), [], many)
    tracer.close()

    (few,), (over,) = enabled_tracing.wait_for_spans("few"), enabled_tracing.wait_for_spans("many")
    assert (few.start_ns, few.end_ns, few.attributes) == (100, 200, {"x": "y"})
    assert few.links == [(*ORDERED.split("-")[1:3], {"sortbelt.job.id": "a"})]
    assert enabled_tracing.child_names(few) == ["one", "two"]
    assert [
        part.failed for part in (*enabled_tracing.wait_for_spans("one"), *enabled_tracing.wait_for_spans("two"))
    ] == [False, True]
    assert len(over.links) == spans.MAX_LINKS
    assert len({trace for trace, _, _ in over.links}) == spans.MAX_LINKS


def test_a_batch_is_kept_if_one_of_its_jobs_is(enabled_tracing):
    """Traces are sampled as a whole: nothing is added to a trace that is not sampled."""
    tracer.record_span(spans.FinishedSpan("seen", 1, 2), [], {"a": UNSEEN, "b": ORDERED})
    tracer.record_span(spans.FinishedSpan("unseen", 1, 2), [spans.FinishedSpan("part", 1, 2)], {"a": UNSEEN})
    tracer.record_span(spans.FinishedSpan("unlinked", 1, 2), [], {})
    with request({"traceparent": UNSEEN}):
        assert tracer.traceparent().startswith(UNSEEN[:36])
        assert tracer.traceparent().endswith("-00")
    tracer.close()
    assert {span.name for span in enabled_tracing.spans} == {"seen", "unlinked"}


def test_a_share_of_the_traces_is_kept_where_that_is_wanted(trace_receiver, monkeypatch):
    """By the standard variables: none of what begins here, all that a caller keeps."""
    ours = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0", "OTEL_SERVICE_NAME": "x"}
    for name, value in (trace_receiver.environ() | ours).items():
        monkeypatch.setenv(name, value)
    tracer.start_or_exit("tests", enabled=True)
    with request(name="ours"):
        pass
    with request({"traceparent": ORDERED}, name="theirs"):
        pass
    tracer.close()
    assert [(span.service, span.name) for span in trace_receiver.spans] == [("x", "theirs")]


def test_a_receiver_that_hangs_holds_up_neither_work_nor_the_end(enabled_tracing, caplog):
    """Spans beyond the buffer are dropped, and that is logged once."""
    enabled_tracing.unblocked.clear()
    began = time.monotonic()
    for _ in range(5000):
        with request():
            pass
    worked = time.monotonic() - began
    enabled_tracing.wait_until(lambda: enabled_tracing.request_count, "it was asked")
    began = time.monotonic()
    tracer.close()
    assert worked < 25  # a span that waited for its export would take 3 s
    assert time.monotonic() - began < 29  # the end waits 2 s; a flush takes 30 s by default
    assert enabled_tracing.spans == []


def test_a_collector_that_rejects_spans_is_logged_once(enabled_tracing, caplog):
    enabled_tracing.response_status = 400
    with caplog.at_level(logging.WARNING):
        for expected in range(1, 4):
            with request():
                pass
            enabled_tracing.wait_until(
                lambda expected=expected: enabled_tracing.request_count >= expected, "it was asked"
            )
        enabled_tracing.response_status = 200
        with request():
            pass
        enabled_tracing.wait_for_spans("GET /")
        tracer.close()
    ours = [record.message for record in caplog.records]
    assert len(ours) == 2
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in ours[0]
    assert ours[1] == "Traces are delivered again."


def test_switched_off_it_costs_next_to_nothing():
    """A request has fewer than ten parts, and takes milliseconds."""
    began = time.process_time()
    for _ in range(20_000):
        with tracer.child_span("x", database.Database.read):
            pass
    assert (time.process_time() - began) / 20_000 < 8e-6  # 0.4 µs were measured; a busy machine's CPUs are slower
