import pytest

from core.db.queries import claims as claim_queries
from core.db.queries import invariants
from tests.support import factories

LUNCH = factories.make_image(1)


@pytest.fixture
def classified_image(db, submit_client):
    """An image of `submit_client` that the live weights have classified."""
    factories.make_live(db)
    job = submit_client.post("/v1/jobs", images=[("lunch.png", LUNCH)]).json
    factories.complete_claims(db, factories.claim_images(db), factories.create_environment(db, device="NVIDIA H200"))
    return job


def result(api_client, job):
    """Return the only result of a job."""
    (item,) = api_client.get(job["results_url"]).json["results"]
    return item


def test_the_same_bytes_have_a_result_at_once(db, submit_client, classified_image):
    """Under another name, with the same label, marked as cached, and without a worker."""
    job = submit_client.post("/v1/jobs", images=[("again.png", LUNCH)]).json
    assert (job["status"], job["counts"]["done"]) == ("done", 1)
    assert factories.claim_images(db) == []
    first, again = result(submit_client, classified_image), result(submit_client, job)
    assert again["cached"]
    assert not first["cached"]
    assert again["image"] == "again.png"
    for field in ("label", "confidence", "scores", "familiarity", "model", "environment"):
        assert again[field] == first[field]
    assert again["familiarity"] == 0.5
    assert again["environment"]["device"] == "NVIDIA H200"
    assert (first["worker"], again["worker"]) == ("me", None)
    assert db.read(invariants.miscounted_jobs) == db.read(invariants.final_images_without_result) == 0


def test_only_new_images_are_queued(db, submit_client, classified_image):
    """Each by itself, in a closed job and in an open one."""
    files = [("a", LUNCH), ("b", factories.make_image(2)), ("c", b"not an image")]
    job = submit_client.post("/v1/jobs", images=files).json
    assert [job["counts"][name] for name in ("done", "queued", "failed")] == [1, 1, 1]
    opened = submit_client.post("/v1/jobs", json={"open": True}).json
    counts = submit_client.post(opened["images_url"], images=files).json["counts"]
    assert [counts[name] for name in ("done", "queued", "failed")] == [1, 1, 1]
    assert [claim.name for claim in factories.claim_images(db)] == ["b", "b"]
    assert db.read(invariants.miscounted_jobs) == 0


def test_results_of_another_key_are_not_reused(db, other_client, classified_image):
    """The same bytes of another key are new."""
    assert other_client.post("/v1/jobs", images=[("a", LUNCH)]).json["counts"]["queued"] == 1


def test_other_weights_classify_again(db, submit_client, classified_image):
    """A result of an older version does not count."""
    factories.make_live(db, claim_queries.ModelRef(factories.MODEL, "2", "1" * 64))
    assert submit_client.post("/v1/jobs", images=[("a", LUNCH)]).json["counts"]["queued"] == 1


def test_a_failure_is_not_cached(db, submit_client):
    """It may succeed the next time."""
    factories.make_live(db)
    submit_client.post("/v1/jobs", images=[("a", LUNCH)])
    factories.complete_claims(
        db, factories.claim_images(db), label=None, error_code="timed_out", error_detail="Too slow."
    )
    assert submit_client.post("/v1/jobs", images=[("a", LUNCH)]).json["counts"]["queued"] == 1


def test_fresh_bypasses_the_cache(db, submit_client, classified_image):
    """With fresh=true."""
    job = submit_client.post("/v1/jobs", images=[("a", LUNCH)], data={"fresh": "true"}).json
    assert job["counts"]["queued"] == 1
