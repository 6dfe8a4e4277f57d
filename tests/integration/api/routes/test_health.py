from pathlib import Path

import pytest
import sqlalchemy as sa

from core.broker import wakeup
from core.db.queries import workers
from tests.support import factories, servers, waiting


def test_livez_needs_no_key_and_checks_nothing(app, db):
    """The process answers, whatever else is down."""
    db.write(lambda conn: conn.execute(sa.text("ALTER TABLE results RENAME TO missing_results")))
    response = app.test_client().get("/livez")
    assert (response.status_code, response.json) == (200, {"status": "alive"})


def test_ready_means_that_images_are_accepted_and_processed(db, read_client):
    """Database, blob store and a live worker; any key may ask."""
    db.write(workers.register, "w1", factories.MODEL_REF, "cpu")
    response = read_client.get("/readyz")
    assert (response.status_code, response.json["status"]) == (200, "ready")
    checks = response.json["checks"]
    assert set(checks) == {"database", "redis", "blobs", "workers"}
    assert all(set(check) == {"ok", "detail"} and check["ok"] for check in checks.values())
    assert "w1" in checks["workers"]["detail"]


def test_without_a_worker_the_server_is_not_ready(submit_client):
    """503 with the failed check, and how to start a worker."""
    response = submit_client.get("/readyz")
    assert (response.status_code, response.json["status"]) == (503, "not ready")
    assert [name for name, check in response.json["checks"].items() if not check["ok"]] == ["workers"]
    assert "python -m worker" in response.json["checks"]["workers"]["detail"]


def test_a_worker_without_a_heartbeat_does_not_count(db, submit_client):
    """Only recent heartbeats count."""
    db.write(workers.register, "w1", factories.MODEL_REF, "cpu")
    old = sa.update(workers.WORKERS).values(heartbeat_at=workers.clock.now(-60))
    db.write(lambda c: c.execute(old))
    assert submit_client.get("/readyz").status_code == 503


def test_workers_without_progress_do_not_count(db, submit_client):
    """They send heartbeats, images are queued, and none is finished."""
    db.write(workers.register, "w1", factories.MODEL_REF, "cpu")
    long_ago = workers.clock.now(-60)
    still = sa.update(workers.WORKERS).values(started_at=long_ago, last_progress_at=long_ago)
    db.write(lambda c: c.execute(still))
    response = submit_client.get("/readyz")
    assert response.status_code == 503
    assert "no worker has made progress" in response.json["checks"]["workers"]["detail"]


def test_without_its_blob_store_the_server_is_not_ready(db, submit_client, tmp_path):
    """The failed check has the reason."""
    db.write(workers.register, "w1", factories.MODEL_REF, "cpu")
    (tmp_path / "blobs").write_text("a file where the folder should be")
    response = submit_client.get("/readyz")
    assert response.status_code == 503
    assert [name for name, check in response.json["checks"].items() if not check["ok"]] == ["blobs"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # wake-ups are the same on both
def test_readiness_does_not_depend_on_redis(app, db, submit_client):
    """Without Redis the server is ready, accepts jobs, and reports that Redis is down."""
    parts = app.extensions["sortbelt"]
    vars(parts.wakeup).update(vars(wakeup.WakeupSender(f"redis://127.0.0.1:{servers.free_port()}/0")))
    db.write(workers.register, "w1", factories.MODEL_REF, "cpu")
    assert submit_client.post("/v1/jobs", images=[("a", factories.make_image())]).status_code == 202
    waiting.wait_until(lambda: parts.wakeup.last_error)
    response = submit_client.get("/readyz")
    assert response.status_code == 200
    assert response.json["checks"]["redis"]["ok"] is False
    assert response.json["checks"]["redis"]["detail"]


def failing_checks(client):
    """Return the checks that fail, with the reasons; the server is then not ready."""
    response = client.get("/readyz")
    failing = {name: check["detail"] for name, check in response.json["checks"].items() if not check["ok"]}
    assert response.status_code == (503 if failing else 200)
    return failing


@pytest.fixture
def live_worker(db):
    """A registered worker."""
    db.write(workers.register, "w1", factories.MODEL_REF, "cpu")


def test_a_crash_loop_of_workers_is_not_ready(db, submit_client):
    """Row 9: each has sent a heartbeat and claims to progress, and none lives long."""
    for number in range(4):
        db.write(workers.register, f"w{number}", factories.MODEL_REF, "cpu")
        assert failing_checks(submit_client) == {}
        lost = {"started_at": workers.clock.now(-30), "heartbeat_at": workers.clock.now(-20)}
        db.write(lambda conn, lost=lost: conn.execute(sa.update(workers.WORKERS).values(lost)))
    db.write(workers.register, "w4", factories.MODEL_REF, "cpu")
    assert "4 were lost in 5 minutes" in failing_checks(submit_client)["workers"]
    steady = sa.update(workers.WORKERS).where(workers.WORKERS.c.id == "w4")
    steady = steady.values(started_at=workers.clock.now(-60), last_progress_at=workers.clock.now())
    db.write(lambda conn: conn.execute(steady))
    assert failing_checks(submit_client) == {}


@pytest.mark.usefixtures("live_worker")
def test_a_blob_store_without_space_is_not_ready(submit_client, monkeypatch):
    """Row 9: creating a file works on a full disk; writing a byte does not."""
    monkeypatch.setattr("core.storage.local.tempfile.TemporaryFile", lambda **_: open("/dev/full", "wb", buffering=0))  # noqa: PTH123, SIM115
    assert "No space left" in failing_checks(submit_client)["blobs"]


@pytest.mark.usefixtures("live_worker")
def test_a_database_that_takes_no_writes_is_not_ready(db, submit_client, monkeypatch):
    """Row 9: it can still be read: its disk is full, or it is a replica."""
    if db.dialect_name == "sqlite":
        monkeypatch.setattr("core.db.database._prepare_sqlite", None)
        sa.event.listen(db.engine, "begin", lambda c: c.exec_driver_sql("PRAGMA max_page_count = 1"))
        sa.event.listen(db.engine, "begin", lambda c: c.exec_driver_sql("PRAGMA query_only = 1"))
    else:
        sa.event.listen(db.engine, "begin", lambda c: c.exec_driver_sql("SET TRANSACTION READ ONLY"))
    assert failing_checks(submit_client).keys() == {"database"}


@pytest.mark.usefixtures("live_worker")
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_deleted_database_file_is_not_ready_and_nothing_is_accepted(db, submit_client):
    """Rows 9 and 10: the rows would be lost with the process."""
    assert failing_checks(submit_client) == {}
    Path(db.engine.url.database).unlink()
    assert "deleted or replaced" in failing_checks(submit_client)["database"]
    response = submit_client.post("/v1/jobs", images=[("a", factories.make_image())])
    assert (response.status_code, response.json["code"]) == (503, "database_unavailable")


@pytest.mark.usefixtures("live_worker")
def test_damage_that_a_query_has_found_is_not_ready(db, submit_client):
    """Row 9: whatever page it is in."""
    db.damage = "database disk image is malformed"
    assert "malformed" in failing_checks(submit_client)["database"]
