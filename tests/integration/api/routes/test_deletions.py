"""Deletion of jobs and of single images, over HTTP."""

import hashlib
import os
import time
import types

import pytest
import sqlalchemy as sa

from core.db import tables
from core.db.queries import deletions, invariants
from core.maintenance import retention
from tests.support import factories
from tests.support.api_client import assert_problem

NOWHERE = "00000000-0000-7000-8000-000000000000"


def blob_path(app, number):
    """Return the path of the bytes of an image, made older than any submission that is going on."""
    digest = hashlib.sha256(factories.make_image(number)).hexdigest()
    path = app.extensions["sortbelt"].blob_store.path(digest)
    os.utime(path, (1, 1))
    return path


def row_count(db, table):
    """Return the number of rows of a table."""
    return db.read(lambda conn: conn.execute(sa.select(sa.func.count()).select_from(table.__table__)).scalar())


@pytest.fixture
def job(db, submit_client):
    """A finished job of two images."""
    images = [(f"{number}.png", factories.make_image(number)) for number in (1, 2)]
    made = submit_client.post("/v1/jobs", images=images, data={"job_name": "private"}).json
    factories.complete_claims(db, factories.claim_images(db))
    return made


def test_a_deleted_job_is_gone_with_its_rows_and_bytes(app, db, submit_client, other_client, read_client, job):
    """A receipt stays and is returned again; bytes that another job has too stay; others may not delete it."""
    other_client.post("/v1/jobs", images=[("same.png", factories.make_image(2))])
    own, shared = blob_path(app, 1), blob_path(app, 2)
    url = job["status_url"]
    assert_problem(other_client.request("DELETE", url), 404, "job_not_found")
    assert_problem(read_client.request("DELETE", url), 403, "not_allowed")
    receipt = submit_client.request("DELETE", url)
    assert receipt.status_code == 200, receipt.text
    record = receipt.json
    assert (record["job_id"], record["name"], record["images"], record["deleted_by"]) == (job["id"], "private", 2, "me")
    assert record["emptied_at"] is not None
    assert submit_client.request("DELETE", url).json == record
    assert submit_client.get("/v1/purges").json["purges"] == [record]
    assert_problem(submit_client.get(url), 410, "job_purged")
    assert submit_client.get("/v1/results").json["results"] == []
    assert (row_count(db, tables.Image), row_count(db, tables.Result)) == (1, 0)
    assert (own.exists(), shared.exists()) == (False, True)
    assert_problem(submit_client.request("DELETE", f"/v1/jobs/{NOWHERE}"), 404, "job_not_found")


def test_a_job_that_has_not_ended_is_cancelled_and_deleted(db, submit_client, admin_client):
    """By an admin too; a worker that holds one of its images writes nothing that stays."""
    images = [(f"{number}.png", factories.make_image(number)) for number in range(3)]
    job = submit_client.post("/v1/jobs", images=images).json
    held = factories.claim_images(db, limit=1)
    assert admin_client.request("DELETE", job["status_url"]).json["deleted_by"] == "admin"
    assert factories.complete_claims(db, held) == 0
    assert row_count(db, tables.Image) == row_count(db, tables.Result) == 0
    assert factories.claim_images(db) == []


def test_a_deleted_job_is_complete_when_its_webhook_has_ended(app, db, submit_client):
    """Until then there is nothing to do for it; those behind it are not kept waiting."""
    job = submit_client.post(
        "/v1/jobs", images=[("a.png", factories.make_image(1))], data={"webhook": "https://hooks.example/"}
    ).json
    db.write(deletions.delete_job, job["id"], None, submit_client.id)
    run = (db, app.extensions["sortbelt"].blob_store)

    retention.run_deletions(*run)
    assert row_count(db, tables.Image) == 0
    assert submit_client.get("/v1/purges").json["purges"][0]["emptied_at"] is None
    db.write(lambda conn: conn.execute(sa.update(tables.WebhookDelivery).values(status="delivered")))
    retention.run_deletions(*run)
    assert submit_client.get("/v1/purges").json["purges"][0]["emptied_at"] is not None


def test_a_job_deleted_while_a_worker_holds_an_image_sends_its_webhook(db, submit_client):
    images = [(f"{number}.png", factories.make_image(number)) for number in range(2)]
    job = submit_client.post("/v1/jobs", images=images, data={"webhook": "https://hooks.example/"}).json
    factories.claim_images(db, limit=1)

    assert submit_client.request("DELETE", job["status_url"]).status_code == 200

    assert row_count(db, tables.WebhookDelivery) == 1
    assert db.read(invariants.unfinished_complete_jobs) == 0


def test_a_deletion_neither_rests_nor_does_the_work_of_others(db, submit_client, job, monkeypatch):
    """Its caller waits: jobs that others have deleted are left to the thread that purges."""
    monkeypatch.setattr("core.db.queries.retention.IMAGES_PER_STEP", 1)
    clock = types.SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: pytest.fail("it rests"))
    monkeypatch.setattr(retention, "time", clock)
    other = submit_client.post("/v1/jobs", images=[("other.png", factories.make_image(3))]).json
    db.write(deletions.delete_job, other["id"], None, submit_client.id)
    assert submit_client.request("DELETE", job["status_url"]).json["emptied_at"] is not None
    emptied = {purge["job_id"]: purge["emptied_at"] for purge in submit_client.get("/v1/purges").json["purges"]}
    assert emptied[other["id"]] is None


def test_a_large_job_is_deleted_step_by_step(app, db, submit_client, job, monkeypatch):
    """It is gone at once; the rest follows, whether or not old jobs are purged."""
    monkeypatch.setattr("core.db.queries.retention.IMAGES_PER_STEP", 1)
    db.write(deletions.delete_job, job["id"], None, submit_client.id)
    assert submit_client.get("/v1/purges").json["purges"][0]["emptied_at"] is None
    assert_problem(submit_client.get(job["status_url"]), 410, "job_purged")
    retention.run_deletions(db, app.extensions["sortbelt"].blob_store)
    assert submit_client.get("/v1/purges").json["purges"][0]["emptied_at"] is not None


def test_a_deleted_image_leaves_its_job(app, db, submit_client, other_client, admin_client, job):
    """Its row, result and bytes are gone, the counts no longer have it, and a receipt stays."""
    first, second = submit_client.get(job["results_url"]).json["results"]
    path, url = blob_path(app, 1), f"/v1/images/{first['image_id']}"
    assert_problem(other_client.request("DELETE", url), 404, "image_not_found")
    receipt = submit_client.request("DELETE", url)
    assert receipt.status_code == 200, receipt.text
    assert (receipt.json["job_id"], receipt.json["deleted_by"]) == (job["id"], "me")
    assert submit_client.request("DELETE", url).json == receipt.json
    assert not path.exists()
    assert_problem(submit_client.get(f"{url}/thumbnail"), 410, "image_gone")
    assert submit_client.get(job["results_url"]).json["results"] == [second]
    assert factories.job_counts(db, job["id"]) == {"done": 1}
    assert db.read(invariants.miscounted_jobs) == 0
    admin_client.request("DELETE", f"/v1/images/{second['image_id']}")
    assert submit_client.get(job["status_url"]).json["counts"]["total"] == 0
    assert_problem(submit_client.request("DELETE", "/v1/images/x"), 404, "image_not_found")


def test_a_waiting_image_is_deleted_and_a_held_one_is_not(db, submit_client):
    """409 while a worker holds it; the job ends when its last waiting image is deleted."""
    images = [(f"{number}.png", factories.make_image(number)) for number in (1, 2)]
    job = submit_client.post("/v1/jobs", images=images).json
    (held,) = factories.claim_images(db, limit=1)
    assert_problem(submit_client.request("DELETE", f"/v1/images/{held.image_id}"), 409, "image_running")
    factories.complete_claims(db, [held])
    ids = db.read(lambda conn: conn.execute(sa.select(factories.IMAGES.c.id)).scalars().all())
    (waiting,) = set(ids) - {held.image_id}
    assert submit_client.request("DELETE", f"/v1/images/{waiting}").status_code == 200
    assert submit_client.get(job["status_url"]).json["status"] == "done"
