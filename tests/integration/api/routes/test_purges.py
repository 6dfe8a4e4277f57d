"""The purge log: which jobs were removed, when, and how much."""

import sqlalchemy as sa

from core.db import clock
from core.maintenance import retention
from tests.support import factories
from tests.support.api_client import assert_problem, fetch_all_pages


def purged(app, db, api_client, *names):
    """Purge a job of these images; return its id and the bytes of its images."""
    images = [(name, factories.make_image(sum(name.encode()))) for name in names]
    job = api_client.post("/v1/jobs", images=images).json["id"]
    factories.complete_claims(db, factories.claim_images(db))
    old = (
        sa.update(factories.JOBS).where(factories.JOBS.c.id == job).values(finished_at=sa.text("'2020-01-01 00:00:00'"))
    )
    db.write(lambda c: c.execute(old))
    retention.run_purge(db, app.extensions["sortbelt"].blob_store, days=30)
    return job, sum(len(data) for _, data in images)


def test_a_purge_is_logged(app, db, submit_client):
    """Images, bytes and the time; the same in the message of the 410."""
    job, size = purged(app, db, submit_client, "a", "b")
    (receipt,) = submit_client.get("/v1/purges").json["purges"]
    assert (receipt["job_id"], receipt["images"], receipt["bytes"], receipt["owner"]) == (
        job,
        2,
        size,
        submit_client.id,
    )
    assert receipt["created_at"] <= receipt["purged_at"] <= receipt["emptied_at"]
    assert receipt["model"] == factories.MODEL
    detail = assert_problem(submit_client.get(f"/v1/jobs/{job}"), 410, "job_purged")
    when = receipt["purged_at"][:19].replace("T", " ")
    removed = f"its 2 images ({size:,} bytes) and their results were removed at {when} UTC."
    assert detail == f"The job is finished; {removed} Submit the images again to classify them."


def test_purge_records_are_visible_like_jobs(app, db, submit_client, other_client, read_client, admin_client):
    """The caller's own, or all for global readers; latest first, in pages."""
    jobs = [
        purged(app, db, api_client, name)[0]
        for api_client, name in ((submit_client, "a"), (other_client, "b"), (submit_client, "c"))
    ]
    submit_client.post("/v1/jobs", images=[("kept", factories.make_image())])

    def observed(api_client, limit=1):
        return [row["job_id"] for row in fetch_all_pages(api_client, f"/v1/purges?limit={limit}", "purges")]

    assert observed(admin_client) == observed(read_client) == jobs[::-1]
    assert observed(submit_client) == [jobs[2], jobs[0]]
    assert observed(other_client) == [jobs[1]]


def test_a_purge_in_progress_has_no_end(app, db, submit_client):
    """A large job takes several steps: `emptied_at` comes with the last one."""
    job, _ = purged(app, db, submit_client, "a")
    db.write(lambda c: c.execute(sa.update(factories.JOBS).values(purge_completed_at=None, purged_at=clock.now())))
    assert [(r["job_id"], r["emptied_at"]) for r in submit_client.get("/v1/purges").json["purges"]] == [(job, None)]
