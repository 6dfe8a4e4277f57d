import time

import pytest
import sqlalchemy as sa

from jobs import bell
from jobs.store import workers
from tests import servers
from tests.jobs import making


def test_livez_needs_no_key_and_looks_at_nothing(app, db):
    """The process answers, whatever else is down."""
    db.write(lambda c: c.execute(sa.text("DROP TABLE results")))
    response = app.test_client().get("/livez")
    assert (response.status_code, response.json) == (200, {"status": "alive"})


def test_ready_means_that_pictures_are_taken_in_and_worked_on(db, reader):
    """Database, blobs and a living worker; any key may ask."""
    db.write(workers.enter, "w1", making.MAKER, "cpu")
    response = reader.get("/readyz")
    assert (response.status_code, response.json["status"]) == (200, "ready")
    checks = response.json["checks"]
    assert set(checks) == {"database", "redis", "blobs", "workers"}
    assert all(set(check) == {"ok", "detail"} and check["ok"] for check in checks.values())
    assert "w1" in checks["workers"]["detail"]


def test_without_a_worker_we_are_not_ready_and_say_how_to_start_one(me):
    """503, and which check it is."""
    response = me.get("/readyz")
    assert (response.status_code, response.json["status"]) == (503, "not ready")
    assert [name for name, check in response.json["checks"].items() if not check["ok"]] == ["workers"]
    assert "python -m worker" in response.json["checks"]["workers"]["detail"]


def test_a_worker_that_is_silent_is_none(db, me):
    """Life is what was shown lately."""
    db.write(workers.enter, "w1", making.MAKER, "cpu")
    old = sa.update(workers.WORKERS).values(seen_at=workers.clock.now(-60))
    db.write(lambda c: c.execute(old))
    assert me.get("/readyz").status_code == 503


def test_workers_that_live_and_get_nothing_done_are_none(db, me):
    """Progress, not a ping: they show life, pictures wait, nothing is done."""
    db.write(workers.enter, "w1", making.MAKER, "cpu")
    long_ago = workers.clock.now(-60)
    still = sa.update(workers.WORKERS).values(started_at=long_ago, progress_at=long_ago)
    db.write(lambda c: c.execute(still))
    response = me.get("/readyz")
    assert response.status_code == 503
    assert "no worker has got anything done" in response.json["checks"]["workers"]["detail"]


def test_without_blobs_we_are_not_ready(db, me, tmp_path):
    """The check that failed says so."""
    db.write(workers.enter, "w1", making.MAKER, "cpu")
    (tmp_path / "blobs").write_text("a file where the folder should be")
    response = me.get("/readyz")
    assert response.status_code == 503
    assert [name for name, check in response.json["checks"].items() if not check["ok"]] == ["blobs"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # it is the same bell on both
def test_redis_is_only_a_bell(app, db, me):
    """Redis gone: still ready, still taking jobs in, and saying so."""
    parts = app.extensions["sortbelt"]
    vars(parts.bell).update(vars(bell.Bell(f"redis://127.0.0.1:{servers.free_port()}/0")))
    db.write(workers.enter, "w1", making.MAKER, "cpu")
    assert me.post("/v1/jobs", images=[("a", making.picture())]).status_code == 202
    deadline = time.monotonic() + 15
    while parts.bell.error is None and time.monotonic() < deadline:
        time.sleep(0.02)
    response = me.get("/readyz")
    assert response.status_code == 200
    assert response.json["checks"]["redis"]["ok"] is False
    assert response.json["checks"]["redis"]["detail"]
