"""The document says what is so: a tool that reads nothing else finds no call that behaves otherwise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from api import document
from tests.api.asking import Person
from tests.api.conftest import serve
from tests.jobs import making

REPOSITORY = Path(__file__).parent.parent.parent


@pytest.fixture
def said(app):
    """The document of the application."""
    response = Person(app.test_client(), None).get("/openapi.json")
    assert response.status_code == 200
    return response.json


def operations(said):
    """Every call of the document: (method, path, operation)."""
    for path, methods in said["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_every_route_is_described(app, said):
    """Each method of each route, but those that describe."""
    described = {operation["operationId"] for _, _, operation in operations(said)}
    assert described == {rule.endpoint for rule in app.url_map.iter_rules()} - {
        *("docs.page", "docs.openapi", "web.start", "web.asset")
    }


def test_every_call_has_an_example_and_says_what_goes_wrong(said, subtests):
    """With curl, and with the key where one is needed; each problem in the one shape."""
    for method, path, operation in operations(said):
        with subtests.test(method, path=path):
            example = operation["x-codeSamples"][0]["source"]
            assert example.startswith("curl ")
            assert ("$KEY" in example) == (operation.get("security") != [])
            assert operation["summary"].endswith((".", ":"))
            problems = [code for code in operation["responses"] if code >= "400"]
            assert problems
            assert ("401" in problems) == (operation.get("security") != [])


def test_every_reference_and_link_leads_somewhere(said):
    """No $ref to nothing, no link to an operation that is not there."""
    names = {operation["operationId"] for _, _, operation in operations(said)}
    schemas = said["components"]["schemas"]

    def look(value):
        if isinstance(value, dict):
            if "$ref" in value:
                assert value["$ref"].rpartition("/")[2] in schemas
            for one in value.get("links", {}).values():
                assert one["operationId"] in names
            for inner in value.values():
                look(inner)
        elif isinstance(value, list):
            for inner in value:
                look(inner)

    look(said)


def test_the_page_needs_nothing_but_itself(app, said):
    """No script, no other host, no key; and every call is on it, with what a newcomer needs at the top."""
    response = Person(app.test_client(), None).get("/docs")
    assert response.status_code == 200
    assert response.mimetype == "text/html"
    assert "<script" not in response.text
    assert "//" not in response.text.replace("http://localhost", "").replace("https://example.com/hook", "")
    for _, path, operation in operations(said):
        assert path in response.text
        assert f'id="{operation["operationId"]}"' in response.text
    for step in ("# submit", "# poll", "# read", "Content-Type: image/jpeg", '{"open": true}', "sha256", "webhook="):
        assert step in response.text


def test_problems_are_described_with_the_status_that_they_have(said):
    """A code stands under the status that the errors module gives it."""
    from api.errors import STATUS

    for _, _, operation in operations(said):
        for status, response in operation["responses"].items():
            if document.PROBLEM in response.get("content", {}):
                codes = [code.strip("`") for code in response["description"].split(", ")]
                assert all(STATUS.get(code, int(status)) == int(status) for code in codes), (status, codes)


def examine(server, folder, *options):
    """Run schemathesis against a server, with what chains of calls may do."""
    command = [Path(sys.executable).parent / "schemathesis", "run", f"http://127.0.0.1:{server.port}/openapi.json"]
    command += ["--header", f"Authorization: Bearer {server.key}", "--max-examples", "8", "--seed", "1", "--no-color"]
    environ = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.api.schemathesis_hooks", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [*command, *options], cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "returned only 401" not in done.stdout
    assert "Unresolvable" not in done.stdout
    assert b"Traceback" not in server.log.read_bytes()


@pytest.mark.timeout(400)
def test_schemathesis_finds_nothing_to_object_to(tmp_path, redis_url, template):
    """Its default checks, over examples, edge cases, random calls and chains of linked calls.

    But it may not revoke keys: the one that it uses would be among them; it would wait for the end of events; and it
    has no bundles.
    """
    with serve(tmp_path, template, redis_url, SOURCES="photos=s3://photos") as server:
        making.immortal_worker(f"sqlite:///{tmp_path}/sortbelt.db")
        known = making.picture()
        status, _ = server.exchange(server.head(Content_Type="image/png", Content_Length=len(known)), known)
        assert status == 202
        without = ("keys.revoke", "jobs.events", "models.add")
        examine(server, tmp_path, *(option for name in without for option in ("--exclude-operation-id", name)))
