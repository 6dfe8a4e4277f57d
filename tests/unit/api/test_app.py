"""The app takes shortcuts through Flask, which hold as long as only the app itself has hooks."""

import pytest

from api import app as apps
from core import settings


@pytest.fixture(name="app")
def fixture_app(tmp_path):
    """An app whose database and Redis are never asked."""
    return apps.create_app(
        settings.Settings(database_url=f"sqlite:///{tmp_path}/none.db", blob_store=str(tmp_path / "blobs"))
    )


def test_blueprints_have_no_hooks_and_there_are_no_sessions(app):
    """`suspension.App` calls those of the app only, and saves no session."""
    hooks = (app.before_request_funcs, app.after_request_funcs, app.url_value_preprocessors, app.teardown_request_funcs)
    assert {name for functions in hooks for name, listed in functions.items() if listed} <= {None}
    assert app.secret_key is None


@pytest.mark.parametrize(
    ("method", "path", "status", "header"),
    [
        ("GET", "/livez", 200, None),
        ("OPTIONS", "/livez", 200, ("Allow", "GET, HEAD, OPTIONS")),
        ("POST", "/livez", 401, None),
        ("GET", "/none", 401, None),
        ("GET", "//livez", 401, None),
        ("GET", "/", 303, ("Location", "/base/docs")),
    ],
)
def test_a_view_is_found_by_path_and_method(app, method, path, status, header):
    """Whatever the host, and below a prefix."""
    environ = {"HTTP_HOST": "some_service:8080", "SCRIPT_NAME": "/base"}
    response = app.test_client().open(path, method=method, environ_overrides=environ)
    assert response.status_code == status
    if header is not None:
        name, value = header
        assert sorted(response.headers[name].split(", ")) == sorted(value.split(", "))
