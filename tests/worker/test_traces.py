import time

import pytest

from jobs import errors, tracing
from jobs.store import tallies
from tests import otlp
from tests.jobs import making
from worker import traces

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def on(monkeypatch):
    """Tracing, switched on in this process; what it sends."""
    with otlp.listening() as made:
        for name, value in made.environ().items():
            monkeypatch.setenv(name, value)
        tracing.start_or_exit("tests", on=True)
        yield made
        tracing.close()


def test_a_batch_is_linked_once_to_the_trace_of_each_of_its_jobs(on, db, owner):
    """However many of its pictures it holds, and to none where a job was ordered in none."""
    first = making.job(db, owner, "a", "b", "c", traceparent=CALLER)
    second = making.job(db, owner, "d", traceparent=OTHER)
    making.job(db, owner, "e")
    claims = []
    trace = traces.begin(db, "w1", claims)
    with trace.step("claim"):
        claims += making.claim(db)
    with trace.step("decode"):
        time.sleep(0.01)
    fates = [making.fate(claim) for claim in claims[1:]]
    fates += [making.fate(claims[0], error_code="undecodable", error_detail="It holds lunch.")]
    with trace.step("forward"):
        pass
    trace.end(making.MAKER, tallies.Release.LINGER, fates, 4)
    tracing.close()

    (batch,) = on.named("batch")
    assert sorted(batch.links) == sorted(
        (*parent.split("-")[1:3], {"sortbelt.job.id": id_}) for id_, parent in ((first, CALLER), (second, OTHER))
    )
    assert batch.attributes == {
        "sortbelt.batch.size": 5,
        "sortbelt.batch.jobs": 3,
        "sortbelt.batch.failed": 1,
        "sortbelt.batch.written": 4,
        "sortbelt.batch.reason": "linger",
        "sortbelt.model": making.MODEL,
        "sortbelt.model.version": "1",
        "sortbelt.worker": "w1",
    }
    assert on.within(batch) == ["claim", "decode", "forward"]
    (decode,) = on.named("decode")
    assert decode.ended - decode.began >= 10_000_000
    assert batch.began <= decode.began <= decode.ended <= batch.ended
    assert not any(span.failed for span in on.spans)
    assert b"lunch" not in on.raw


def test_who_finds_nothing_to_do_tells_nothing(on, db):
    """An idle worker looks every second."""
    trace = traces.begin(db, "w1", [])
    with trace.step("claim"):
        pass
    tracing.close()
    assert on.spans == []


def test_a_step_that_fails_ends_the_batch_and_says_which_it_was(on, db, owner):
    id_ = making.job(db, owner, "a", traceparent=CALLER)
    claims = making.claim(db)
    trace = traces.begin(db, "w1", claims)
    with trace.step("claim"):
        pass
    with pytest.raises(errors.BlobsUnavailable), trace.step("decode"):
        raise errors.BlobsUnavailable("The store of lunch.jpg does not answer.")
    tracing.close()

    (batch,) = on.named("batch")
    (decode,) = on.named("decode")
    assert (batch.failed, batch.attributes["error.type"]) == (True, "BlobsUnavailable")
    assert (decode.failed, decode.parent) == (True, batch.id)
    assert [link[2]["sortbelt.job.id"] for link in batch.links] == [id_]
    assert b"lunch" not in on.raw


class Away:
    """A database that is away."""

    def read(self, *_):
        """Away."""
        raise errors.DatabaseUnavailable("Away.")


def test_without_a_database_it_is_told_without_its_links(on, db, owner):
    """What becomes of the trace never becomes of the batch."""
    making.job(db, owner, "a", traceparent=CALLER)
    claims = making.claim(db)
    trace = traces.begin(Away(), "w1", claims)
    with trace.step("commit"):
        pass
    trace.end(making.MAKER, tallies.Release.FULL, [making.fate(claims[0])], None)
    tracing.close()
    (batch,) = on.named("batch")
    assert (batch.links, batch.failed) == ([], True)


def test_switched_off_nothing_is_kept(db):
    assert traces.begin(db, "w1", []) is traces.OFF
    with traces.OFF.step("claim"):
        pass
    traces.OFF.end(making.MAKER, tallies.Release.FULL, [], None)
