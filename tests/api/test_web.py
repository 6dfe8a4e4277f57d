"""The page: what it is served with, and that its files are all that is open."""

import re

import pytest

from api import web
from tests.api.asking import Person, problem

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"}


@pytest.fixture
def nobody(app):
    """Somebody without a key."""
    return Person(app.test_client(), None)


def page(nobody):
    """The page, as a browser gets it."""
    return nobody.get("/", headers=BROWSER)


def test_a_browser_gets_the_page(nobody):
    """Without a key: it asks for one itself. The manual is one click away."""
    response = page(nobody)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Vary"] == "Accept"
    assert 'href="docs"' in response.text


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "application/json, */*;q=0.5", "image/png"])
def test_whatever_else_asks_is_led_to_the_manual(nobody, accept):
    """A client that takes JSON as readily as a page has no use for a page."""
    response = nobody.get("/", headers={"Accept": accept} if accept else {})
    assert (response.status_code, response.headers["Location"]) == (303, "/docs")
    assert response.headers["Vary"] == "Accept"


def test_every_file_of_the_page_is_served_and_no_other_lies_there(nobody):
    """Each with its type; the folder and the list are the same."""
    assert {path.name for path in web.FOLDER.iterdir()} == {*web.FILES, "page.html"}
    types = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    for name in web.FILES:
        response = nobody.get(f"/static/{name}")
        assert response.status_code == 200
        assert response.headers["Content-Type"] == f"{types[name.rpartition('.')[2]]}; charset=utf-8"
        assert response.data == (web.FOLDER / name).read_bytes()


def test_the_page_loads_nothing_from_elsewhere_and_runs_nothing_that_stands_in_it(nobody):
    """By its policy, and in fact."""
    for response in (page(nobody), nobody.get("/static/app.js")):
        policy = dict(part.split(" ", 1) for part in response.headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["img-src"] == "'self' blob:"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert policy["require-trusted-types-for"] == "'script'"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
    text = page(nobody).text
    assert "//" not in text
    assert re.findall(r"<script(?! type=\"module\" src=\"static/app.js\"></script>)|<style|style=| on\w+=", text) == []


def test_no_text_becomes_markup():
    """No file has a word by which it could; the browser would refuse it besides."""
    words = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser|https?://"
    )
    for path in web.FOLDER.glob("*.js"):
        assert words.findall(path.read_text(encoding="utf-8")) == [], path.name


def test_every_module_that_is_imported_is_served():
    """Each import leads to a file of the list."""
    for path in web.FOLDER.glob("*.js"):
        imported = re.findall(r'from "\./([\w.]+)"', path.read_text(encoding="utf-8"))
        assert set(imported) <= set(web.FILES), path.name


def test_what_a_browser_has_is_not_sent_again(nobody):
    """It asks each time, so that no file is older than the server; and gets 304 for what is the same."""
    for path in ("/", "/static/page.css"):
        first = nobody.get(path, headers=BROWSER)
        assert first.headers["Cache-Control"] == "no-cache"
        again = nobody.get(path, headers={**BROWSER, "If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.data) == (304, b"")
        assert again.headers["ETag"] == first.headers["ETag"]


def test_files_can_only_be_read(nobody):
    """Any other method is refused."""
    for method in ("POST", "PUT", "DELETE"):
        problem(nobody.ask(method, "/static/app.js"), 401, "no_key")


def test_the_files_are_counted_as_one_route(nobody, admin):
    """A page of twenty files makes no twenty rows of each metric."""
    for name in web.FILES:
        nobody.get(f"/static/{name}")
    routes = set(re.findall(r'route="([^"]*)"', admin.get("/metrics").text))
    assert {route for route in routes if "static" in route} == {"/static/{name}"}


def test_everybody_may_ask_whose_key_theirs_is(me, reader, admin, nobody):
    """That is how the page logs in, and learns what to offer."""
    for person, name, role in ((me, "me", "submit"), (reader, "reader", "read"), (admin, "admin", "admin")):
        response = person.get("/v1/key")
        assert (response.status_code, response.json) == (200, {"id": person.id, "name": name, "role": role})
    problem(nobody.get("/v1/key"), 401, "no_key")
