import pytest

from jobs.store import invariants, work
from tests.jobs import making

LUNCH = making.picture(1)


@pytest.fixture
def known(db, me):
    """A picture of mine that was classified by the weights that are live."""
    making.live(db)
    job = me.post("/v1/jobs", images=[("lunch.png", LUNCH)]).json
    making.finish(db, making.claim(db), making.environment(db, device="NVIDIA H200"))
    return job


def result(person, job):
    """The only result of a job."""
    (one,) = person.get(job["results_url"]).json["results"]
    return one


def test_the_same_bytes_are_answered_at_once(db, me, known):
    """Under another name, with the same label, marked as cached, and no worker has seen them."""
    job = me.post("/v1/jobs", images=[("again.png", LUNCH)]).json
    assert (job["status"], job["counts"]["done"]) == ("done", 1)
    assert making.claim(db) == []
    first, again = result(me, known), result(me, job)
    assert again["cached"]
    assert not first["cached"]
    assert again["image"] == "again.png"
    for field in ("label", "confidence", "scores", "model", "environment"):
        assert again[field] == first[field]
    assert again["environment"]["device"] == "NVIDIA H200"
    assert (first["worker"], again["worker"]) == ("me", None)
    assert db.read(invariants.miscounted_jobs) == db.read(invariants.ended_without_result) == 0


def test_among_new_pictures_only_those_wait(db, me, known):
    """Each by itself, in a closed job and in an open one."""
    files = [("a", LUNCH), ("b", making.picture(2)), ("c", b"no picture")]
    job = me.post("/v1/jobs", images=files).json
    assert [job["counts"][name] for name in ("done", "queued", "failed")] == [1, 1, 1]
    opened = me.post("/v1/jobs", json={"open": True}).json
    counts = me.post(opened["images_url"], images=files).json["counts"]
    assert [counts[name] for name in ("done", "queued", "failed")] == [1, 1, 1]
    assert [claim.name for claim in making.claim(db)] == ["b", "b"]
    assert db.read(invariants.miscounted_jobs) == 0


def test_nobody_learns_what_others_have(db, other, known):
    """Another's same bytes are new."""
    assert other.post("/v1/jobs", images=[("a", LUNCH)]).json["counts"]["queued"] == 1


def test_other_weights_classify_anew(db, me, known):
    """What an older version said is not what this one says."""
    making.live(db, work.Maker(making.MODEL, "2", "1" * 64))
    assert me.post("/v1/jobs", images=[("a", LUNCH)]).json["counts"]["queued"] == 1


def test_a_failure_is_not_remembered(db, me):
    """It may go better now."""
    making.live(db)
    me.post("/v1/jobs", images=[("a", LUNCH)])
    making.finish(db, making.claim(db), label=None, error_code="timed_out", error_detail="Too slow.")
    assert me.post("/v1/jobs", images=[("a", LUNCH)]).json["counts"]["queued"] == 1


def test_who_wants_it_done_anew_says_so(db, me, known):
    """fresh=true: no answer from memory."""
    job = me.post("/v1/jobs", images=[("a", LUNCH)], data={"fresh": "true"}).json
    assert job["counts"]["queued"] == 1
