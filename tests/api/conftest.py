"""What the tests of the API share: the application on both databases, people with keys, and the real server."""

import contextlib
import os
import subprocess
import sys

import pytest

from api import app as apps
from jobs import settings, tables
from jobs.store import keys
from tests import servers
from tests.api import asking
from tests.jobs import making


@pytest.fixture
def wanted(database_url, redis_url, tmp_path):
    """The settings of a small server."""
    limits = {"max_body_bytes": 300_000, "max_image_bytes": 50_000}
    return settings.Settings(database_url=database_url, redis_url=redis_url, blobs=str(tmp_path / "blobs"), **limits)


@pytest.fixture
def app(wanted):
    """The application."""
    made = apps.create_app(wanted)
    yield made
    made.extensions["sortbelt"].db.close()


@pytest.fixture
def db(app):
    """The application's own database."""
    return app.extensions["sortbelt"].db


@pytest.fixture
def person(app, db):
    """Makes people: a name and a role give a client that sends their key."""

    def make(name, role=tables.Role.SUBMIT):
        key = keys.make()
        return asking.Person(app.test_client(), key, db.write(keys.create, name, role, key).id)

    return make


@pytest.fixture
def me(person):
    """Somebody who may submit."""
    return person("me")


@pytest.fixture
def other(person):
    """Somebody else who may submit."""
    return person("other")


@pytest.fixture
def reader(person):
    """Somebody who may only look."""
    return person("reader", tables.Role.READ)


@pytest.fixture
def admin(person):
    """Somebody who may do everything."""
    return person("admin", tables.Role.ADMIN)


@pytest.fixture
def done(me, db):
    """A job of mine with three results: two labels and an error."""
    files = [("a.png", making.picture(1)), ("b.png", making.picture(2)), ("bad.txt", b"no picture")]
    job = me.post("/v1/jobs", images=files).json
    making.finish(db, making.claim(db))
    return job


@pytest.fixture(scope="session")
def template(_sqlite_template):
    """A migrated SQLite, to be copied."""
    return _sqlite_template


@pytest.fixture(scope="module")
def server(tmp_path_factory, redis_url, template):
    """The real server as a process of its own, on SQLite: its address and a key."""
    folder = tmp_path_factory.mktemp("server")
    with serve(folder, template, redis_url) as at:
        yield at


@contextlib.contextmanager
def serve(folder, template, redis_url, **more):
    """Run `python -m api` until told to stop."""
    from jobs import database

    url = f"sqlite:///{folder}/sortbelt.db"
    (folder / "sortbelt.db").write_bytes(template.read_bytes())
    db = database.Database(url)
    key = keys.make()
    db.write(keys.create, "me", tables.Role.ADMIN, key)
    db.close()
    port = servers.free_port()
    chosen = {"DATABASE_URL": url, "REDIS_URL": redis_url, "BLOBS": str(folder / "blobs"), "PORT": str(port)}
    chosen |= {"MAX_BODY_BYTES": "300000", "MAX_IMAGE_BYTES": "50000", **more}
    environ = {**os.environ, **{f"SORTBELT_{name}": value for name, value in chosen.items()}}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "api"], env=environ, stdout=log, stderr=log)
    try:
        servers.wait_for_port(port, process=process)
        yield asking.Server(port, key, process, folder / "log")
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
