import socket
import subprocess
import sys
from pathlib import Path

import pytest

from core.db import clock, database, tables
from core.db.queries import claims as claim_queries
from core.db.queries import workers
from migrations import __main__ as migrations

ROOT = Path(__file__).parents[3]


@pytest.fixture
def health_db_url(tmp_path):
    return f"sqlite:///{tmp_path / 'sortbelt.db'}"


@pytest.fixture
def db(health_db_url):
    health_db = database.Database(health_db_url)
    health_db.write(migrations.upgrade)
    yield health_db
    health_db.close()


def check(url):
    environ = {"SORTBELT_DATABASE_URL": url, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "worker.health"]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environ)


def register(db, id_, heartbeat_offset=600):
    """Register a worker with a heartbeat at so many seconds from now; the default stays recent on a busy machine."""
    db.write(workers.register, id_, claim_queries.ModelRef("model", "1", "0" * 64), "cpu")
    heartbeat = tables.Worker.__table__.update().values(heartbeat_at=clock.now(heartbeat_offset))
    db.write(lambda conn: conn.execute(heartbeat))


def test_a_worker_with_a_recent_heartbeat_is_healthy(db, health_db_url):
    register(db, f"{socket.gethostname()}:1:abc")

    assert check(health_db_url).returncode == 0


def test_a_worker_without_a_recent_heartbeat_is_not(db, health_db_url):
    register(db, f"{socket.gethostname()}:1:abc", -tables.WORKER_TTL_SECONDS - 1)

    assert check(health_db_url).returncode == 1


def test_a_worker_on_another_host_does_not_count(db, health_db_url):
    register(db, f"not-{socket.gethostname()}:1:abc")

    assert check(health_db_url).returncode == 1


def test_an_unavailable_database_is_reported_in_a_sentence(tmp_path):
    process = check(f"sqlite:///{tmp_path / 'nowhere' / 'sortbelt.db'}")

    assert process.returncode == 1
    assert process.stderr.startswith("The database does not answer")
    assert "Traceback" not in process.stderr
