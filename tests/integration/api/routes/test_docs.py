"""The documentation page: its commands run_quick_start, its links resolve, and everything on it is described."""

import html
import json
import re
import subprocess
from typing import Any

import pydantic
import pytest

from api.openapi import error_codes, examples
from api.routes import docs, images
from api.schemas import job_responses, result_responses
from api.services import metrics_exporter
from core import enums, errors
from tests.support import factories
from tests.support.api_client import assert_problem


@pytest.fixture
def docs_page(anonymous_client):
    """The page."""
    return anonymous_client.get("/docs").text


@pytest.fixture
def openapi_document(anonymous_client):
    """The document."""
    return anonymous_client.get("/openapi.json").json


def blocks(page):
    """Return the content of each code block."""
    return [html.unescape(block) for block in re.findall(r"<pre[^>]*>(.*?)</pre>", page, re.DOTALL)]


def test_links_of_the_page_resolve_and_anchors_are_unique(docs_page):
    """Enumerations, schemas, codes and operations."""
    places = re.findall(r'\bid="([^"]*)"', docs_page)
    assert len(places) == len(set(places))
    assert set(re.findall(r'href="#([^"]*)"', docs_page)) <= set(places)
    assert {"JobStatus", "Role", "ScanStatus", "DeliveryStatus", "Job", "error-no_key"} <= set(places)
    assert not {"str", "bytes"} & set(places)


def test_texts_are_escaped():
    """Only backticks become markup."""
    shown = docs.render_prose("`a<b` & <script>`&lt;` 'x'")
    assert shown == "<code>a&lt;b</code> &amp; &lt;script&gt;<code>&amp;lt;</code> &#39;x&#39;"


def test_backticks_are_left_in_code_only(docs_page):
    """On the page they are code elements."""
    assert "`" not in re.sub(r"<pre.*?</pre>", "", docs_page, flags=re.DOTALL)


def test_the_examples_have_the_fields_of_real_responses(docs_page, submit_client, finished_job):
    """With valid types; and the page shows them."""
    for shape, example, real in (
        (job_responses.Job, examples.job(), submit_client.get(f"/v1/jobs/{finished_job['id']}").json),
        (result_responses.Results, examples.results(), submit_client.get(finished_job["results_url"]).json),
    ):
        pydantic.TypeAdapter(shape).validate_python(json.loads(json.dumps(example)))
        assert fields(example) == fields(real)
    shown = {block for block in blocks(docs_page) if block.startswith("{")}
    assert shown == {json.dumps(item, indent=2) for item in (examples.job("http://localhost/"), examples.results())}
    good, bad = examples.results()["results"]
    assert sum(good["scores"].values()) == pytest.approx(1)
    assert good["confidence"] == good["scores"][good["label"]]
    assert bad["error"]["code"] in errors.IMAGE_ERRORS


def fields(answer: dict[str, Any]) -> set[str]:
    """Return the names in a response, and in the first row of its list."""
    inner = [row for rows in answer.values() if isinstance(rows, list) for row in rows[:1]]
    return set(answer) | {name for row in inner for name in row}


def run_quick_start(page, folder, server, key):
    """Run the quick start of the page against a server."""
    start = re.sub(r"^KEY=.*$", f"KEY={key}", blocks(page)[0], flags=re.MULTILINE)
    start = re.sub(r"^URL=.*$", f"URL=http://127.0.0.1:{server.port}", start, flags=re.MULTILINE)
    return subprocess.run(["bash", "-c", start], cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def test_the_quick_start_leads_to_results(docs_page, server, tmp_path):
    """Two files that are not images end at once; the job is polled, and both formats are read."""
    for name in ("lunch.jpg", "dinner.jpg"):
        (tmp_path / name).write_bytes(b"not an image")
    ran = run_quick_start(docs_page, tmp_path, server, server.key)
    assert ran.returncode == 0, ran.stderr
    job = json.loads((tmp_path / "job.json").read_text())
    assert f"job: {job['id']}\n" in ran.stdout
    assert job["status"] == "failed"
    assert ran.stdout.count("unsupported_format") == 4
    assert "image,job_id,status" in ran.stdout


def test_the_quick_start_shows_errors(docs_page, server, tmp_path):
    """A wrong key and a missing file: the reason is shown, and no job is created."""
    missing = run_quick_start(docs_page, tmp_path, server, server.key)
    assert "curl: (26)" in missing.stderr
    for name in ("lunch.jpg", "dinner.jpg"):
        (tmp_path / name).write_bytes(factories.make_image())
    wrong = run_quick_start(docs_page, tmp_path, server, "sb_wrong")
    assert '"no_key"' in wrong.stderr
    for ran in (missing, wrong):
        assert ran.returncode != 0
        assert ran.stdout == ""
        assert "not created: see the response above" in ran.stderr


def test_every_field_parameter_and_header_is_described(openapi_document):
    """None of them is left to be guessed."""
    for name, shape in openapi_document["components"]["schemas"].items():
        for field, schema in shape.get("properties", {}).items():
            assert schema.get("description"), (name, field)
    for path, operations in openapi_document["paths"].items():
        for operation in operations.values():
            assert all(parameter.get("description") for parameter in operation["parameters"]), path
            for content in operation.get("requestBody", {}).get("content", {}).values():
                schema = content["schema"]
                if not schema.keys() & {"$ref", "description"}:
                    assert all(item["description"] for item in schema["properties"].values())


def test_every_response_is_described_and_busy_ones_have_retry_after(openapi_document):
    """By what it contains, not by its operation."""
    submit = openapi_document["paths"]["/v1/jobs"]["post"]["responses"]
    assert submit["202"]["description"] == "the accepted job, which may not have ended yet"
    assert {"Location", "Retry-After"} <= set(submit["202"]["headers"])
    assert all("Retry-After" in submit[status]["headers"] for status in ("429", "503"))
    for operations in openapi_document["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                assert answer["description"] not in ("", "OK", "None", "Not Modified", operation["summary"]), status


def test_every_code_has_its_meaning_on_the_page(openapi_document, docs_page):
    """Those of requests with their status, and those of images."""
    payload = openapi_document["components"]["schemas"]["Problem"]["properties"]["code"]["x-codes"]
    assert {"not_found", "method_not_allowed", "no_key", "queue_full", "undecodable"} <= set(payload)
    assert all(item["meaning"].endswith(".") and 400 <= item["status"] < 600 for item in payload.values())
    assert all(f'id="error-{code}"' in docs_page for code in payload)
    assert all(f'id="image-{code}"' in docs_page for code in errors.IMAGE_ERRORS)
    assert set(metrics_exporter.INTERNAL_ERRORS) | images.UNDECODABLE_CODES <= set(errors.IMAGE_ERRORS)
    assert all(errors.IMAGE_ERRORS[status.value] for status in (enums.Status.CANCELLED, enums.Status.EXPIRED))
    assert error_codes.meanings()["unknown_blob"] == errors.UnknownBlob.__doc__


def test_every_enumerated_value_has_its_meaning(openapi_document, docs_page):
    """Also the six of a job, which are not those of an image."""
    for kind in (enums.JobStatus, enums.Role, enums.ScanStatus, enums.DeliveryStatus):
        shape = openapi_document["components"]["schemas"][kind.__name__]
        assert shape["x-enumDescriptions"] == kind.descriptions()
        assert all(value in shape["description"] for value in kind)
        assert all(str(docs.render_prose(meaning)) in docs_page for meaning in kind.descriptions().values())
    assert set(enums.JobStatus) == set(enums.Status)


def test_invalid_images_are_handled_as_documented(submit_client, openapi_document):
    """Accepted in a form and in an open job; rejected as the raw body of a submission only."""
    for bad, status, code in ((b"not an image", 415, "unsupported_format"), (b"", 422, "empty")):
        raw = {"data": bad, "content_type": "image/jpeg"}
        assert_problem(submit_client.post("/v1/jobs", **raw), status, code)
        mixed = submit_client.post("/v1/jobs", images=[("a.jpg", bad), ("b.png", factories.make_image())])
        assert (mixed.status_code, mixed.json["counts"]["failed"]) == (202, 1)
        job = submit_client.post("/v1/jobs", json={"open": True}).json
        assert submit_client.post(job["images_url"], **raw).status_code == 202
        (result,) = submit_client.get(job["results_url"]).json["results"]
        assert (result["error"]["code"], result["image"]) == (code, "image")
    add = openapi_document["paths"]["/v1/jobs/{job_id}/images"]["post"]["responses"]
    never = {"unsupported_format", "empty", "too_large", "undecodable", "unknown_model", "idempotency_mismatch"}
    assert not never & {code for answer in add.values() for code in answer.get("x-codes", ())}


def test_the_page_shows_the_limits_of_this_server(docs_page):
    """From its settings."""
    assert "300,000 bytes" in docs_page
    assert "50,000 bytes" in docs_page
    assert "JPEG, PNG, GIF, BMP, WebP, TIFF, HEIC, AVIF, JPEG XL" in docs_page
