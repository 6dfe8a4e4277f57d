"""The OpenAPI document: complete, and true to the behaviour of the server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from api.http import rate_limit_headers
from api.openapi import spec
from tests.integration.api.conftest import run_api_server
from tests.support import factories, servers

REPOSITORY = Path(__file__).parent.parent.parent.parent.parent


@pytest.fixture
def openapi_document(anonymous_client):
    """The document of the app."""
    response = anonymous_client.get("/openapi.json")
    assert response.status_code == 200
    return response.json


def operations(said):
    """Yield every operation of a document: (method, path, operation)."""
    for path, methods in said["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_every_route_is_described(app, openapi_document):
    """Each method of each route, except those of the documentation and the page."""
    described = {operation["operationId"] for _, _, operation in operations(openapi_document)}
    assert described == {rule.endpoint for rule in app.url_map.iter_rules()} - {
        *("docs.page", "docs.openapi", "swagger_ui.page", "swagger_ui.asset", "web.start", "web.asset")
    }


def test_every_operation_has_an_example_and_problems(openapi_document, subtests):
    """With curl, and with the key where one is needed."""
    for method, path, operation in operations(openapi_document):
        with subtests.test(method, path=path):
            example = operation["x-codeSamples"][0]["source"]
            assert example.startswith("curl ")
            assert ("$KEY" in example) == (operation.get("security") != [])
            assert operation["summary"].endswith((".", ":"))
            problems = [code for code in operation["responses"] if code >= "400"]
            assert problems
            assert ("401" in problems) == (operation.get("security") != [])


def test_limits_are_announced_where_the_document_says_so(openapi_document):
    """The RateLimit headers of each operation that lists them."""
    documented = {
        operation["operationId"]
        for _, _, operation in operations(openapi_document)
        if any("RateLimit" in response.get("headers", {}) for response in operation["responses"].values())
    }
    assert documented == rate_limit_headers.LIMITED_ENDPOINTS


def test_every_reference_and_link_resolves(openapi_document):
    """Each $ref has its schema, each link its operation."""
    names = {operation["operationId"] for _, _, operation in operations(openapi_document)}
    schemas = openapi_document["components"]["schemas"]

    def look(value):
        if isinstance(value, dict):
            if "$ref" in value:
                assert value["$ref"].rpartition("/")[2] in schemas
            for item in value.get("links", {}).values():
                assert item["operationId"] in names
            for inner in value.values():
                look(inner)
        elif isinstance(value, list):
            for inner in value:
                look(inner)

    look(openapi_document)


def test_the_page_is_self_contained(anonymous_client, openapi_document):
    """No script, no other host, no key; all operations, and a quick start."""
    response = anonymous_client.get("/docs")
    assert response.status_code == 200
    assert response.mimetype == "text/html"
    assert "<script" not in response.text
    assert "//" not in response.text.replace("http://localhost", "").replace("https://example.com/hook", "")
    for _, path, operation in operations(openapi_document):
        assert path in response.text
        assert f'id="{operation["operationId"]}"' in response.text
    for step in ("# submit", "# poll", "# read", "Content-Type: image/jpeg", '{"open": true}', "sha256", "webhook="):
        assert step in response.text


def test_problems_are_described_with_their_status(openapi_document):
    """A code is listed under the status that the error has."""
    from api.http.problems import STATUS_BY_CODE

    for _, _, operation in operations(openapi_document):
        for status, response in operation["responses"].items():
            if spec.PROBLEM_MEDIA_TYPE in response.get("content", {}):
                codes = [code.strip("`") for code in response["description"].split(", ")]
                assert all(STATUS_BY_CODE.get(code, int(status)) == int(status) for code in codes), (status, codes)


# The walk can send images, and then takes a request for invalid because of a header of its own, or of an identifier
# that the hooks have replaced; test_custom_ids.py and test_unknown_fields.py send such requests.
CHECKS = """[[operations]]
include-operation-id = ["jobs.submit", "jobs.add"]
checks.negative_data_rejection.enabled = false
"""


def run_schemathesis(server, folder, *options):
    """Run schemathesis against a server."""
    command = [Path(sys.executable).parent / "schemathesis", "run", f"http://127.0.0.1:{server.port}/openapi.json"]
    command += ["--header", f"Authorization: Bearer {server.key}", "--max-examples", "8", "--seed", "1", "--no-color"]
    (Path(folder) / "schemathesis.toml").write_text(CHECKS)
    hooks = {"SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks", "PYTHONPATH": str(REPOSITORY)}
    environ = servers.unmeasured(os.environ | hooks)
    done = subprocess.run(
        [*command, *options], cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=1100
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "returned only 401" not in done.stdout
    assert "Unresolvable" not in done.stdout
    assert b"Traceback" not in server.log.read_bytes()


@pytest.mark.timeout(1200)  # thousands of requests, on a machine that may be busy
def test_schemathesis_finds_no_failure(tmp_path, redis_url, database_template):
    """Its default checks, over examples, edge cases, random calls and chains of linked calls.

    But it may not revoke keys: the one that it uses would be among them; nor delete what other calls need; it would
    wait for the end of events; and it has no bundles. Its wrong keys are not limited: a fast machine sends too many.
    """
    limits = {"SOURCES": "photos=s3://photos", "MAX_FAILED_AUTH_PER_MINUTE": "0"}
    with run_api_server(tmp_path, database_template, redis_url, **limits) as server:
        factories.register_immortal_worker(f"sqlite:///{tmp_path}/sortbelt.db")
        known = factories.make_image()
        status, _ = server.send_raw(server.request_head(Content_Type="image/png", Content_Length=len(known)), known)
        assert status == 202
        without = ("keys.revoke", "jobs.delete", "images.delete", "selections.delete", "jobs.events", "models.add")
        run_schemathesis(server, tmp_path, *(option for name in without for option in ("--exclude-operation-id", name)))
