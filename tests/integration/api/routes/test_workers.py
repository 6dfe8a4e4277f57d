"""`GET /v1/workers`: which workers are alive, and what they hold."""

from core.db.queries import workers
from tests.support import factories
from tests.support.api_client import assert_problem


def test_live_workers_are_listed_with_the_images_that_they_hold(db, read_client, submit_client):
    """For those who see the jobs of all keys."""
    db.write(workers.register, "w1", factories.MODEL_REF, "cpu")
    db.write(workers.heartbeat, "w1", 7, batch_sizes={factories.MODEL_REF.name: 16})
    factories.create_job(db, submit_client.id, "a", "b")
    factories.claim_images(db, worker="w1")

    (worker,) = read_client.get("/v1/workers").json["workers"]

    assert (worker["id"], worker["state"], worker["running"], worker["images"]) == ("w1", "working", 2, 7)
    assert worker["batch_sizes"] == {factories.MODEL_REF.name: 16}
    assert worker["models"] == {factories.MODEL_REF.name: factories.MODEL_REF.version}
    assert_problem(submit_client.get("/v1/workers"), 403, "not_allowed")
