"""The web page: its headers, and its files, which are all that is public."""

import re

import pytest

from api.routes import web
from tests.support.api_client import assert_problem

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"}


def page(anonymous):
    """The page, as a browser gets it."""
    return anonymous.get("/", headers=BROWSER)


def test_a_browser_gets_the_page(anonymous_client):
    """Without a key: the page asks for one. It links to the documentation."""
    response = page(anonymous_client)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Vary"] == "Accept"
    assert 'href="docs"' in response.text


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "application/json, */*;q=0.5", "image/png"])
def test_other_clients_are_redirected_to_the_documentation(anonymous_client, accept):
    """A client that accepts JSON as well as HTML is not a browser."""
    response = anonymous_client.get("/", headers={"Accept": accept} if accept else {})
    assert (response.status_code, response.headers["Location"]) == (303, "/docs")
    assert response.headers["Vary"] == "Accept"


def test_every_file_of_the_folder_is_served(anonymous_client):
    """Each with its type; the folder and the list are the same."""
    assert {path.name for path in web.STATIC_DIR.iterdir()} == {*web.PUBLIC_FILES, "page.html"}
    types = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    for name in web.PUBLIC_FILES:
        response = anonymous_client.get(f"/static/{name}")
        assert response.status_code == 200
        assert response.headers["Content-Type"] == f"{types[name.rpartition('.')[2]]}; charset=utf-8"
        assert response.data == (web.STATIC_DIR / name).read_bytes()


def test_the_page_loads_and_runs_only_its_own_files(anonymous_client):
    """By its policy, and in fact."""
    for response in (page(anonymous_client), anonymous_client.get("/static/app.js")):
        policy = dict(part.split(" ", 1) for part in response.headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["img-src"] == "'self' blob:"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert policy["require-trusted-types-for"] == "'script'"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
    text = page(anonymous_client).text
    assert "//" not in text
    assert re.findall(r"<script(?! type=\"module\" src=\"static/app.js\"></script>)|<style|style=| on\w+=", text) == []


def test_text_never_becomes_markup():
    """The files use no function that could; and the browser would refuse it."""
    words = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser|https?://"
    )
    for path in web.STATIC_DIR.glob("*.js"):
        assert words.findall(path.read_text(encoding="utf-8")) == [], path.name


def test_every_imported_module_is_served():
    """Each import is a file of the list."""
    for path in web.STATIC_DIR.glob("*.js"):
        imported = re.findall(r'from "\./([\w.]+)"', path.read_text(encoding="utf-8"))
        assert set(imported) <= set(web.PUBLIC_FILES), path.name


def test_an_unchanged_file_is_a_304(anonymous_client):
    """Browsers revalidate at each visit, so that files are as new as the server."""
    for path in ("/", "/static/page.css"):
        first = anonymous_client.get(path, headers=BROWSER)
        assert first.headers["Cache-Control"] == "no-cache"
        again = anonymous_client.get(path, headers={**BROWSER, "If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.data) == (304, b"")
        assert again.headers["ETag"] == first.headers["ETag"]


def test_files_can_only_be_read(anonymous_client):
    """Any other method is rejected."""
    for method in ("POST", "PUT", "DELETE"):
        assert_problem(anonymous_client.request(method, "/static/app.js"), 401, "no_key")


def test_the_files_are_counted_as_one_route(anonymous_client, admin_client):
    """So that twenty files do not make twenty rows of each metric."""
    for name in web.PUBLIC_FILES:
        anonymous_client.get(f"/static/{name}")
    routes = set(re.findall(r'route="([^"]*)"', admin_client.get("/metrics").text))
    assert {route for route in routes if "static" in route} == {"/static/{name}"}


def test_every_key_may_read_itself(submit_client, read_client, admin_client, anonymous_client):
    """That is how the page logs in."""
    for api_client, name, role in (
        (submit_client, "me", "submit"),
        (read_client, "reader", "read"),
        (admin_client, "admin", "admin"),
    ):
        response = api_client.get("/v1/key")
        assert (response.status_code, response.json) == (200, {"id": api_client.id, "name": name, "role": role})
    assert_problem(anonymous_client.get("/v1/key"), 401, "no_key")
