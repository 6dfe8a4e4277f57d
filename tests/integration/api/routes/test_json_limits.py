"""JSON bodies over their limit: rejected before anything parses them."""

import json

import pytest

from api.http import requests
from tests.support.api_client import assert_problem

SUBMISSION_PATHS = ["/v1/jobs", "/v1/jobs/{job}/images"]
PATHS = [*SUBMISSION_PATHS, "/v1/blobs/check", "/v1/keys", "/v1/models/m/promote"]


@pytest.fixture
def app_settings(app_settings):
    """A server that accepts larger bodies than JSON may be."""
    return app_settings.model_copy(update={"max_body_bytes": 64_000_000})


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # the limit is the same on both
@pytest.mark.parametrize("content_type", ["application/json", "application/x+json; charset=utf-8", "text/plain"])
@pytest.mark.parametrize("path", PATHS)
def test_json_over_its_limit_is_rejected(admin_client, path, content_type):
    """413 with the limit, on all routes that read JSON; what is not called JSON is not read as an image either."""
    job = admin_client.post("/v1/jobs", json={"open": True}).json
    max_bytes = 30_000_000 if path in SUBMISSION_PATHS else requests.MAX_JSON_BYTES
    body = json.dumps({"sha256": ["x" * 64] * (max_bytes // 64)})
    assert len(body) > max_bytes
    path = path.replace("{job}", job["id"])
    response = admin_client.post(path, data=body, content_type=content_type)
    if content_type == "text/plain" and path.startswith("/v1/jobs"):
        assert_problem(response, 422, "no_images")
    else:
        detail = assert_problem(response, 413, "body_too_large")
        assert f"{max_bytes:,} bytes" in detail
        assert ("fewer images" in detail) == (path.startswith("/v1/jobs"))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("count", [100_001, 2_000_000])
def test_json_has_few_values(admin_client, path, count):
    """More take seconds, in which no other thread runs; above 3 MB only images in base64 are accepted anyway."""
    path = path.replace("{job}", admin_client.post("/v1/jobs", json={"open": True}).json["id"])
    body = '{"images": [], "metadata": {"a": [' + "0," * count + "0]}}"
    response = admin_client.post(path, data=body, content_type="application/json")
    if path in PATHS[2:] and len(body) > requests.MAX_JSON_BYTES:
        assert_problem(response, 413, "body_too_large")
    else:
        assert "more than 100,000 values" in assert_problem(response, 422, "bad_parameter")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("origin", "place", "code"),
    [
        ("sha256", "0" * 64, "unknown_blob"),
        ("url", "https://a.example/" + "w_1,h_1/".ljust(50, "x") * 40, "bad_parameter"),  # fetching is off
        ("data", "data:image/jpeg;base64," + "/9j/" * 2_000, None),
    ],
)
def test_the_largest_submissions_have_fewer_values(admin_client, origin, place, code):
    """A thousand images with names and ids of full length, which may have commas too, and 16 kB of metadata."""
    names = [f"{n:04}" + "one,".ljust(51, "x") * 20 for n in range(1_000)]
    images = [{"name": name, "custom_id": name[:255], origin: place} for name in names]
    body = json.dumps({"images": images, "metadata": {"a": [0] * 5_000}})
    response = admin_client.post("/v1/jobs", data=body, content_type="application/json")
    if code is None:
        assert (response.status_code, response.json["counts"]["total"]) == (202, 1_000)
    else:
        assert "values" not in assert_problem(response, 422, code)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("path", SUBMISSION_PATHS)
def test_images_are_counted_before_they_are_validated(admin_client, path):
    """And the fields of each: an error for each of a million values takes seconds, and gigabytes of memory."""
    path = path.replace("{job}", admin_client.post("/v1/jobs", json={"open": True}).json["id"])
    many = admin_client.post(path, json={"images": [0] * 1_001})
    assert "1,001 images; send at most 1,000" in assert_problem(many, 422, "too_many_images")
    fields = {f"field{number}": number for number in range(1_000)}
    wide = admin_client.post(path, json={"images": [fields]})
    assert "images[0]" in assert_problem(wide, 422, "bad_parameter")
    assert [fault["pointer"] for fault in wide.json["errors"]] == ["#/images/0"]
    assert "it has 1,000 fields" in wide.json["detail"]
    few = admin_client.post(path, json={"images": [{"name": "a", "sha": "x"}]})
    assert "does not know the field 'sha' in images[0]" in assert_problem(few, 422, "bad_parameter")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_route_without_a_body_does_not_parse_large_json(admin_client):
    """It would have to, to reject its fields."""
    job = admin_client.post("/v1/jobs", json={"open": True}).json
    body = json.dumps({"a": "x" * requests.MAX_JSON_BYTES})
    response = admin_client.post(f"/v1/jobs/{job['id']}/seal", data=body, content_type="application/json")
    assert_problem(response, 413, "body_too_large")
    response = admin_client.post(f"/v1/jobs/{job['id']}/seal", data="{", content_type="application/json")
    assert response.status_code == 200


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_json_below_its_limit_is_read(admin_client):
    """Also a large body."""
    digests = [f"{number:064x}" for number in range(1000)]
    body = json.dumps({"sha256": digests}) + " " * 2_000_000
    response = admin_client.post("/v1/blobs/check", data=body, content_type="application/json")
    assert response.json == {"known": [], "missing": digests}
