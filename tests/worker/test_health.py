import socket
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import clock, database, tables
from jobs.store import work, workers
from migrations import __main__ as migrations

ROOT = Path(__file__).parents[2]


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'sortbelt.db'}"


@pytest.fixture
def db(url):
    opened = database.Database(url)
    opened.write(migrations.upgrade)
    yield opened
    opened.close()


def check(url):
    environ = {"SORTBELT_DATABASE_URL": url, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "worker.health"]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environ)


def enter(db, id_):
    db.write(workers.enter, id_, work.Maker("model", "1", "0" * 64), "cpu")


def test_a_worker_that_shows_life_is_healthy(db, url):
    enter(db, f"{socket.gethostname()}:1:abc")

    assert check(url).returncode == 0


def test_a_worker_that_has_shown_no_life_for_long_is_not(db, url):
    enter(db, f"{socket.gethostname()}:1:abc")
    db.write(lambda c: c.execute(tables.Worker.__table__.update().values(seen_at=clock.now(-tables.LIFE_SECONDS - 1))))

    assert check(url).returncode == 1


def test_another_containers_worker_says_nothing_about_this_one(db, url):
    enter(db, f"not-{socket.gethostname()}:1:abc")

    assert check(url).returncode == 1


def test_a_database_that_does_not_answer_is_told_in_a_sentence(tmp_path):
    done = check(f"sqlite:///{tmp_path / 'nowhere' / 'sortbelt.db'}")

    assert done.returncode == 1
    assert done.stderr.startswith("The database does not answer")
    assert "Traceback" not in done.stderr
