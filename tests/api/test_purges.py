"""What was purged leaves a receipt: that there was a job, when it went, and how much of it there was."""

import sqlalchemy as sa

from jobs import clock, purge
from tests.api.asking import problem, walk
from tests.jobs import making


def purged(app, db, person, *names):
    """A job of these pictures that was purged; its id and the bytes of its pictures."""
    pictures = [(name, making.picture(sum(name.encode()))) for name in names]
    job = person.post("/v1/jobs", images=pictures).json["id"]
    making.finish(db, making.claim(db))
    old = sa.update(making.JOBS).where(making.JOBS.c.id == job).values(finished_at=sa.text("'2020-01-01 00:00:00'"))
    db.write(lambda c: c.execute(old))
    purge.run(db, app.extensions["sortbelt"].blobs, days=30)
    return job, sum(len(data) for _, data in pictures)


def test_a_purge_leaves_a_receipt(app, db, me):
    """Pictures, bytes and the moment; the same in the sentence of the 410."""
    job, size = purged(app, db, me, "a", "b")
    (receipt,) = me.get("/v1/purges").json["purges"]
    assert (receipt["job_id"], receipt["images"], receipt["bytes"], receipt["owner"]) == (job, 2, size, me.id)
    assert receipt["created_at"] <= receipt["purged_at"] <= receipt["emptied_at"]
    assert receipt["model"] == making.MODEL
    detail = problem(me.get(f"/v1/jobs/{job}"), 410, "job_purged")
    when = receipt["purged_at"][:19].replace("T", " ")
    assert detail == f"The job is over; at {when} UTC its 2 pictures ({size:,} bytes) went, with their results."


def test_receipts_are_seen_as_jobs_are(app, db, me, other, reader, admin):
    """One's own; everybody's for who sees all; the latest first, by the page."""
    jobs = [purged(app, db, person, name)[0] for person, name in ((me, "a"), (other, "b"), (me, "c"))]
    me.post("/v1/jobs", images=[("kept", making.picture())])

    def seen(person, limit=1):
        return [row["job_id"] for row in walk(person, f"/v1/purges?limit={limit}", "purges")]

    assert seen(admin) == seen(reader) == jobs[::-1]
    assert seen(me) == [jobs[2], jobs[0]]
    assert seen(other) == [jobs[1]]


def test_one_that_still_goes_says_so(app, db, me):
    """A giant takes many steps: `emptied_at` comes with the last."""
    job, _ = purged(app, db, me, "a")
    db.write(lambda c: c.execute(sa.update(making.JOBS).values(emptied_at=None, purged_at=clock.now())))
    assert [(r["job_id"], r["emptied_at"]) for r in me.get("/v1/purges").json["purges"]] == [(job, None)]
