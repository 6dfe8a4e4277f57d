"""Fixtures of the API tests: the app on both databases, clients with keys, and the real server."""

import contextlib
import os
import subprocess
import sys

import pytest
from werkzeug import routing

from api import app as apps
from core import enums, settings
from core.db.queries import api_keys
from tests.support import api_client, factories, servers


@pytest.fixture(autouse=True, scope="session")
def _url_builders_compiled_once():
    """Compile the URL builders of each route once: every app has the same, and they take most of its creation."""
    compile_builder, builders = routing.Rule._compile_builder, {}

    def compile_once(rule, append_unknown=True):
        key = (rule.rule, tuple(rule._trace), repr(rule.defaults), append_unknown)
        if key not in builders:  # they are functions of the rule, which is their first argument
            builders[key] = compile_builder(rule, append_unknown)
        return builders[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(routing.Rule, "_compile_builder", compile_once)
        yield


@pytest.fixture
def app_settings(database_url, redis_url, tmp_path):
    """The settings of a small server."""
    limits = {"max_body_bytes": 300_000, "max_image_bytes": 50_000}
    return settings.Settings(
        database_url=database_url, redis_url=redis_url, blob_store=str(tmp_path / "blobs"), **limits
    )


@pytest.fixture
def app(app_settings):
    """The application."""
    application = apps.create_app(app_settings)
    yield application
    application.extensions["sortbelt"].db.close()


@pytest.fixture
def db(app):
    """The database of the app."""
    return app.extensions["sortbelt"].db


@pytest.fixture
def make_client(app, db):
    """Create clients: a name and a role give one that sends its own key."""

    def make(key_name, role=enums.Role.SUBMIT):
        key = api_keys.generate()
        return api_client.ApiClient(app.test_client(), key, db.write(api_keys.create, key_name, role, key).id)

    return make


@pytest.fixture
def anonymous_client(app):
    """A client without a key."""
    return api_client.ApiClient(app.test_client(), None)


@pytest.fixture
def submit_client(make_client):
    """A client of the role submit."""
    return make_client("me")


@pytest.fixture
def other_client(make_client):
    """Another client of the role submit."""
    return make_client("other")


@pytest.fixture
def read_client(make_client):
    """A client of the role read."""
    return make_client("reader", enums.Role.READ)


@pytest.fixture
def admin_client(make_client):
    """A client of the role admin."""
    return make_client("admin", enums.Role.ADMIN)


@pytest.fixture
def finished_job(submit_client, db):
    """A job of `submit_client` with three results: two labels and an error."""
    files = [("a.png", factories.make_image(1)), ("b.png", factories.make_image(2)), ("bad.txt", b"not an image")]
    job = submit_client.post("/v1/jobs", images=files).json
    factories.complete_claims(db, factories.claim_images(db))
    return job


@pytest.fixture(scope="session")
def database_template(_sqlite_template):
    """A migrated SQLite database, to be copied."""
    return _sqlite_template


@pytest.fixture(scope="module")
def server(tmp_path_factory, redis_url, database_template):
    """The real server in its own process, on SQLite: its address and a key."""
    data_dir = tmp_path_factory.mktemp("server")
    with run_api_server(data_dir, database_template, redis_url, measured=True) as live_server:
        yield live_server


@contextlib.contextmanager
def run_api_server(
    data_dir, template_file, redis_url, program=("-m", "api"), tracer=(), *, measured=False, **extra_settings
):
    """Run `python -m api`, or another program, until the context ends; `tracer` is the start of its command line.

    Its coverage is measured for the tests of the server itself only: that takes a third of its CPU time.
    """
    from core.db import database

    url = f"sqlite:///{data_dir}/sortbelt.db"
    (data_dir / "sortbelt.db").write_bytes(template_file.read_bytes())
    db = database.Database(url)
    key = api_keys.generate()
    db.write(api_keys.create, "me", enums.Role.ADMIN, key)
    db.close()
    port = servers.free_port()
    setting_values = {
        "DATABASE_URL": url,
        "REDIS_URL": redis_url,
        "BLOB_STORE": str(data_dir / "blobs"),
        "PORT": str(port),
    }
    setting_values |= {"MAX_BODY_BYTES": "300000", "MAX_IMAGE_BYTES": "50000", **extra_settings}
    environ = os.environ if measured else servers.unmeasured(os.environ)
    environ = environ | {f"SORTBELT_{name}": value for name, value in setting_values.items()}
    with (data_dir / "log").open("wb") as log:
        process = subprocess.Popen([*tracer, sys.executable, *program], env=environ, stdout=log, stderr=log)
    try:
        servers.wait_for_port(port, process=process)
        yield api_client.ApiServer(port, key, process, data_dir / "log")
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
