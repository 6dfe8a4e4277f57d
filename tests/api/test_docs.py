"""The page is true and whole: its commands run, its links lead somewhere, and nothing on it lacks its words."""

import html
import json
import re
import subprocess
from typing import Any

import pydantic
import pytest

from api import codes, docs, examples, exposition, images, shapes
from jobs import errors, tables
from tests.api.asking import Person, problem
from tests.jobs import making


@pytest.fixture
def page(app):
    """The page."""
    return Person(app.test_client(), None).get("/docs").text


@pytest.fixture
def said(app):
    """The document."""
    return Person(app.test_client(), None).get("/openapi.json").json


def blocks(page):
    """What stands in each block of code."""
    return [html.unescape(block) for block in re.findall(r"<pre[^>]*>(.*?)</pre>", page, re.DOTALL)]


def test_no_link_of_the_page_is_dead_and_no_place_is_there_twice(page):
    """Enumerations, shapes, codes and calls."""
    places = re.findall(r'\bid="([^"]*)"', page)
    assert len(places) == len(set(places))
    assert set(re.findall(r'href="#([^"]*)"', page)) <= set(places)
    assert {"JobStatus", "Role", "ScanStatus", "DeliveryStatus", "Job", "error-no_key"} <= set(places)
    assert not {"str", "bytes"} & set(places)


def test_what_is_said_is_text_whatever_is_in_it():
    """Only backticks become markup."""
    shown = docs.prose("`a<b` & <script>`&lt;` 'x'")
    assert shown == "<code>a&lt;b</code> &amp; &lt;script&gt;<code>&amp;lt;</code> &#39;x&#39;"


def test_no_backtick_is_left_but_in_code(page):
    """They are for the document; on the page there is code instead."""
    assert "`" not in re.sub(r"<pre.*?</pre>", "", page, flags=re.DOTALL)


def test_the_examples_look_like_real_answers(page, me, done):
    """The same fields, of the kinds that are promised; and the page has them."""
    for shape, example, real in (
        (shapes.Job, examples.job(), me.get(f"/v1/jobs/{done['id']}").json),
        (shapes.Results, examples.results(), me.get(done["results_url"]).json),
    ):
        pydantic.TypeAdapter(shape).validate_python(json.loads(json.dumps(example)))
        assert fields(example) == fields(real)
    shown = {block for block in blocks(page) if block.startswith("{")}
    assert shown == {json.dumps(one, indent=2) for one in (examples.job("http://localhost/"), examples.results())}
    good, bad = examples.results()["results"]
    assert sum(good["scores"].values()) == pytest.approx(1)
    assert good["confidence"] == good["scores"][good["label"]]
    assert bad["error"]["code"] in errors.PICTURES


def fields(answer: dict[str, Any]) -> set[str]:
    """The names in an answer, and in the first row of a list."""
    inner = [row for rows in answer.values() if isinstance(rows, list) for row in rows[:1]]
    return set(answer) | {name for row in inner for name in row}


def run(page, folder, server, key):
    """Run what the page tells a newcomer first, against a server."""
    start = re.sub(r"^KEY=.*$", f"KEY={key}", blocks(page)[0], flags=re.MULTILINE)
    start = re.sub(r"^URL=.*$", f"URL=http://127.0.0.1:{server.port}", start, flags=re.MULTILINE)
    return subprocess.run(["bash", "-c", start], cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def test_the_first_commands_lead_from_nothing_to_results(page, server, tmp_path):
    """Two files that are no pictures end at once; the job is found and waited for, and both forms are read."""
    for name in ("lunch.jpg", "dinner.jpg"):
        (tmp_path / name).write_bytes(b"no picture")
    ran = run(page, tmp_path, server, server.key)
    assert ran.returncode == 0, ran.stderr
    job = json.loads((tmp_path / "job.json").read_text())
    assert f"job: {job['id']}\n" in ran.stdout
    assert job["status"] == "failed"
    assert ran.stdout.count("unsupported_format") == 4
    assert "image,job_id,status" in ran.stdout


def test_the_first_commands_say_what_is_wrong(page, server, tmp_path):
    """A wrong key and a missing file: the reason is shown, and there is no job."""
    missing = run(page, tmp_path, server, server.key)
    assert "curl: (26)" in missing.stderr
    for name in ("lunch.jpg", "dinner.jpg"):
        (tmp_path / name).write_bytes(making.picture())
    wrong = run(page, tmp_path, server, "sb_wrong")
    assert '"no_key"' in wrong.stderr
    for ran in (missing, wrong):
        assert ran.returncode != 0
        assert ran.stdout == ""
        assert "there is none: see the answer above" in ran.stderr


def test_every_field_parameter_and_header_says_what_it_is(said):
    """None of them is left to be guessed."""
    for name, shape in said["components"]["schemas"].items():
        for field, schema in shape.get("properties", {}).items():
            assert schema.get("description"), (name, field)
    for path, operations in said["paths"].items():
        for operation in operations.values():
            assert all(parameter.get("description") for parameter in operation["parameters"]), path
            for content in operation.get("requestBody", {}).get("content", {}).values():
                schema = content["schema"]
                assert schema.get("description") or all(one["description"] for one in schema["properties"].values())


def test_an_answer_says_what_it_is_and_a_busy_one_when_to_come_back(said):
    """Not what the call does; what else may be answered is told too."""
    submit = said["paths"]["/v1/jobs"]["post"]["responses"]
    assert submit["202"]["description"] == "the job, which was taken in and may not have ended yet"
    assert {"Location", "Retry-After"} <= set(submit["202"]["headers"])
    assert all("Retry-After" in submit[status]["headers"] for status in ("429", "503"))
    for operations in said["paths"].values():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                assert answer["description"] not in ("", "OK", "None", "Not Modified", operation["summary"]), status


def test_every_code_has_its_meaning_on_the_page(said, page):
    """Those of requests with their status, and those of pictures."""
    told = said["components"]["schemas"]["Problem"]["properties"]["code"]["x-codes"]
    assert {"not_found", "method_not_allowed", "no_key", "queue_full", "undecodable"} <= set(told)
    assert all(one["meaning"].endswith(".") and 400 <= one["status"] < 600 for one in told.values())
    assert all(f'id="error-{code}"' in page for code in told)
    assert all(f'id="picture-{code}"' in page for code in errors.PICTURES)
    assert set(exposition.OURS) | images.HOPELESS <= set(errors.PICTURES)
    assert all(errors.PICTURES[status.value] for status in (tables.Status.CANCELLED, tables.Status.EXPIRED))
    assert codes.meanings()["unknown_blob"] == errors.UnknownBlob.__doc__


def test_every_value_has_its_meaning(said, page):
    """Also the six of a job, which are not those of a picture."""
    for kind in (tables.JobStatus, tables.Role, tables.ScanStatus, tables.DeliveryStatus):
        shape = said["components"]["schemas"][kind.__name__]
        assert shape["x-enumDescriptions"] == kind.meanings()
        assert all(value in shape["description"] for value in kind)
        assert all(str(docs.prose(meaning)) in page for meaning in kind.meanings().values())
    assert set(tables.JobStatus) == set(tables.Status)


def test_a_bad_picture_fares_as_the_page_says(me, said):
    """Taken in a form, and when it is added; refused as the raw body of an order; nowhere else can that be answered."""
    for bad, status, code in ((b"no picture", 415, "unsupported_format"), (b"", 422, "empty")):
        raw = {"data": bad, "content_type": "image/jpeg"}
        problem(me.post("/v1/jobs", **raw), status, code)
        beside = me.post("/v1/jobs", images=[("a.jpg", bad), ("b.png", making.picture())])
        assert (beside.status_code, beside.json["counts"]["failed"]) == (202, 1)
        job = me.post("/v1/jobs", json={"open": True}).json
        assert me.post(job["images_url"], **raw).status_code == 202
        (result,) = me.get(job["results_url"]).json["results"]
        assert (result["error"]["code"], result["image"]) == (code, "image")
    add = said["paths"]["/v1/jobs/{job_id}/images"]["post"]["responses"]
    never = {"unsupported_format", "empty", "too_large", "undecodable", "unknown_model", "idempotency_mismatch"}
    assert not never & {code for answer in add.values() for code in answer.get("x-codes", ())}


def test_the_limits_are_those_of_this_server(page):
    """Of its settings."""
    assert "300,000 bytes" in page
    assert "50,000 bytes" in page
    assert "JPEG, PNG, GIF, BMP, WEBP, TIFF" in page
