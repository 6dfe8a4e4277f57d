"""The viewer of the API at /docs/try/: its files, which are all that is public."""

from api.routes import swagger_ui
from tests.support.api_client import assert_problem


def test_the_viewer_loads_without_a_key_and_from_this_server_only(anonymous_client):
    """Every file of its folder, with its license and a policy that allows no other host; other paths need a key."""
    assert {path.name for path in swagger_ui.FOLDER.iterdir()} == {*swagger_ui.FILES, "viewer.html"}
    for name in ("", *swagger_ui.FILES):
        response = anonymous_client.get(f"/docs/try/{name}")
        assert response.status_code == 200
        assert response.headers["Content-Security-Policy"] == swagger_ui.CONTENT_SECURITY_POLICY
        assert "http" not in response.headers["Content-Security-Policy"]
    page = anonymous_client.get("/docs/try/").text
    assert all(f'"{name}"' in page for name in ("swagger-ui.css", "swagger-ui-bundle.js", "viewer.js"))
    assert anonymous_client.get("/docs/try/swagger-ui-bundle.js").mimetype == "text/javascript"
    assert 'href="docs/try/"' in anonymous_client.get("/docs").text
    assert_problem(anonymous_client.get("/docs/try/viewer.html"), 401, "no_key")
