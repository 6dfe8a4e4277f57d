import logging
import re
import subprocess
import sys
import threading
import time

import pytest

from jobs import blobs, database, errors, settings, tracing
from tests import otlp
from tests.jobs import making

FORM = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]")
ORDERED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNSEEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"  # its sampler has decided against it


@pytest.fixture
def receiver():
    """A receiver of traces."""
    with otlp.listening() as made:
        yield made


@pytest.fixture
def on(receiver, monkeypatch):
    """Tracing, switched on in this process; what it sends."""
    for name, value in receiver.environ().items():
        monkeypatch.setenv(name, value)
    tracing.start_or_exit("tests", on=True)
    yield receiver
    tracing.close()


def request(headers=None, name="GET /"):
    """A request that comes in now."""
    return tracing.served(name, headers or {}, time.time_ns())


def test_switched_off_it_is_the_same_nothing_for_all(db, owner):
    """No span, no header, nothing remembered."""
    tracing.start_or_exit("tests", on=False)
    assert not tracing.is_on()
    assert tracing.span("a") is tracing.span("b") is request() is tracing.sent("c", {}, {})
    with request() as span:
        span.tell({"x": 1}, "another name")
        span.fail("X")
        tracing.current().tell({"x": 1})
        tracing.record(tracing.Step("s", 1, 2), [], {"job": ORDERED})
        assert tracing.traceparent() is None
        id_ = making.job(db, owner, "a")
    assert making.view(db, id_).traceparent is None


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
from jobs import courier, settings, tracing
app.create_app(settings.read({}))
tracing.start_or_exit("tests", on=settings.read({}).tracing)
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
settings.read_or_exit()
"""
    options = {"capture_output": True, "text": True, "cwd": making.__file__.rpartition("/tests/")[0]}
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
        tracing.start_or_exit("tests", on=True)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("sortbelt: an OTEL_… variable is not acceptable: ")


def test_parts_lie_within_what_is_under_way(on, db, owner, tmp_path):
    """Bytes, transaction, and the job remembers the request; what is under way nowhere is no span."""
    db.read(lambda c: c)  # no request
    with request({"traceparent": ORDERED}) as span:
        here = tracing.traceparent()
        blobs.Folder(tmp_path).put([("ab" * 32, b"bytes")])
        id_ = making.job(db, owner, "a")
        span.tell({"more": 1}, "POST /v1/jobs")
    tracing.close()

    (whole,) = on.named("POST /v1/jobs")
    assert FORM.fullmatch(here)
    assert making.view(db, id_).traceparent == here
    assert db.read(making.jobs.traceparents, [id_]) == {id_: here}
    assert (whole.trace, whole.parent, whole.attributes) == (*ORDERED.split("-")[1:3], {"more": 1})
    assert on.within(whole) == ["blobs.put", "transaction create"]
    assert len(on.spans) == 3


@pytest.mark.parametrize("said", ["", "rubbish", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "ff-" + ORDERED[3:], "é\n"])
def test_a_malformed_traceparent_begins_a_new_trace(on, said):
    with request({"traceparent": said, "tracestate": said}):
        pass
    tracing.close()
    (span,) = on.named("GET /")
    assert span.parent == ""


def test_an_exception_is_told_by_its_kind_alone(on, db):
    """Its text may name pictures. What is the caller's affair is no failure."""

    def fail(_, error):
        raise error

    with request():
        for error in (errors.UnknownBlob("You have not sent lunch.jpg yet."), ValueError("lunch.jpg")):
            with pytest.raises(type(error)):
                db.read(fail, error)
    tracing.close()
    expected, fault = on.named("transaction fail", 2)
    assert (expected.failed, expected.attributes) == (False, {"error.type": "UnknownBlob"})
    assert (fault.failed, fault.attributes) == (True, {"error.type": "ValueError"})
    assert b"lunch" not in on.raw


def test_threads_have_spans_of_their_own(on):
    """What one request does is not taken for another's, nor is what follows it in its thread."""

    def work(number):
        for _ in range(20):
            assert tracing.traceparent() is None
            with request(name=f"r{number}"), tracing.span(f"s{number}"):
                time.sleep(0.001)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tracing.close()
    for number in range(4):
        requests, parts = on.named(f"r{number}", 20), on.named(f"s{number}", 20)
        assert {part.parent for part in parts} == {one.id for one in requests}


def test_what_is_over_is_told_with_its_links(on):
    """Each job once, those that are in no trace not at all, and not without end."""
    many = {f"j{n}": f"00-{n + 1:032x}-{n + 1:016x}-01" for n in range(tracing.MOST_LINKS + 50)}
    parts = [tracing.Step("one", 100, 150, {"n": 1}), tracing.Step("two", 150, 200, error="Fault")]
    tracing.record(tracing.Step("few", 100, 200, {"x": "y"}), parts, {"a": ORDERED, "b": None, "c": "rubbish"})
    tracing.record(tracing.Step("many", 100, 200), [], many)
    tracing.close()

    (few,), (over,) = on.named("few"), on.named("many")
    assert (few.began, few.ended, few.attributes) == (100, 200, {"x": "y"})
    assert few.links == [(*ORDERED.split("-")[1:3], {"sortbelt.job.id": "a"})]
    assert on.within(few) == ["one", "two"]
    assert [part.failed for part in (*on.named("one"), *on.named("two"))] == [False, True]
    assert len(over.links) == tracing.MOST_LINKS
    assert len({trace for trace, _, _ in over.links}) == tracing.MOST_LINKS


def test_a_batch_is_kept_if_one_of_its_jobs_is(on):
    """Whoever samples sees whole stories: to what is linked to no trace that is kept, nothing is added."""
    tracing.record(tracing.Step("seen", 1, 2), [], {"a": UNSEEN, "b": ORDERED})
    tracing.record(tracing.Step("unseen", 1, 2), [tracing.Step("part", 1, 2)], {"a": UNSEEN})
    tracing.record(tracing.Step("unlinked", 1, 2), [], {})
    with request({"traceparent": UNSEEN}):
        assert tracing.traceparent().startswith(UNSEEN[:36])
        assert tracing.traceparent().endswith("-00")
    tracing.close()
    assert {span.name for span in on.spans} == {"seen", "unlinked"}


def test_a_share_of_the_traces_is_kept_where_that_is_wanted(receiver, monkeypatch):
    """By the standard variables: none of what begins here, all that a caller keeps."""
    ours = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0", "OTEL_SERVICE_NAME": "x"}
    for name, value in (receiver.environ() | ours).items():
        monkeypatch.setenv(name, value)
    tracing.start_or_exit("tests", on=True)
    with request(name="ours"):
        pass
    with request({"traceparent": ORDERED}, name="theirs"):
        pass
    tracing.close()
    assert [(span.service, span.name) for span in receiver.spans] == [("x", "theirs")]


def test_a_receiver_that_hangs_holds_up_neither_work_nor_the_end(on, caplog):
    """What it does not take is dropped beyond a bound, and said once."""
    on.goes_on.clear()
    began = time.monotonic()
    for _ in range(5000):
        with request():
            pass
    worked = time.monotonic() - began
    on.until(lambda: on.asked, "it was asked")
    began = time.monotonic()
    tracing.close()
    assert worked < 2.5  # a try to send takes 3 s
    assert time.monotonic() - began < 3.5  # and the end waits 2
    assert on.spans == []


def test_a_receiver_that_refuses_is_told_of_once(on, caplog):
    on.status = 400
    with caplog.at_level(logging.WARNING):
        for expected in range(1, 4):
            with request():
                pass
            on.until(lambda expected=expected: on.asked >= expected, "it was asked")
        on.status = 200
        with request():
            pass
        on.named("GET /")
        tracing.close()
    ours = [record.message for record in caplog.records]
    assert len(ours) == 2
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" in ours[0]
    assert ours[1] == "Traces arrive again."


def test_switched_off_it_costs_next_to_nothing():
    """A request has fewer than ten parts, and takes milliseconds."""
    began = time.process_time()
    for _ in range(20_000):
        with tracing.span("x", database.Database.read):
            pass
    assert (time.process_time() - began) / 20_000 < 8e-6  # 0.4 µs were measured; a busy machine's CPUs are slower
