"""The callers' own identifiers: submitted with an image, and returned with its result."""

import csv
import hashlib
import io
import json

import pytest

from tests.support import factories
from tests.support.api_client import assert_problem


def files(*names):
    """Return different images with these names."""
    return [(name, factories.make_image(sum(name.encode()))) for name in names]


def ids(api_client, path):
    """Return the identifier of each image, by name."""
    return {row["image"]: row["custom_id"] for row in api_client.get(path).json["results"]}


def test_a_result_has_the_identifier_of_its_image(submit_client, db):
    """By a form, raw, and by reference; null without one."""
    form = {"custom_ids": json.dumps({"a.png": "order-1 é"})}
    job = submit_client.post("/v1/jobs", images=files("a.png", "b.png"), data=form).json
    raw = submit_client.post(
        "/v1/jobs?name=c.png&custom_id=order-3", data=factories.make_image(3), content_type="image/png"
    ).json
    factories.complete_claims(db, factories.claim_images(db))
    assert ids(submit_client, job["results_url"]) == {"a.png": "order-1 é", "b.png": None}
    assert ids(submit_client, raw["results_url"]) == {"c.png": "order-3"}
    sha256 = hashlib.sha256(files("a.png")[0][1]).hexdigest()
    references = [{"name": "d.png", "sha256": sha256, "custom_id": "order-4"}, {"name": "e.png", "sha256": sha256}]
    open_ = submit_client.post("/v1/jobs", json={"open": True}).json
    assert submit_client.post(f"/v1/jobs/{open_['id']}/images", json={"images": references}).status_code == 202
    form = {"custom_ids": '{"f.png": "order-1 é"}'}
    assert submit_client.post(f"/v1/jobs/{open_['id']}/images", images=files("f.png"), data=form).status_code == 202
    factories.complete_claims(db, factories.claim_images(db))
    assert ids(submit_client, open_["results_url"]) == {"d.png": "order-4", "e.png": None, "f.png": "order-1 é"}


@pytest.fixture
def job_with_custom_ids(submit_client, db):
    """A job of three images, two of them with the same identifier, the third without."""
    form = {"custom_ids": '{"a.png": "order-1", "b.png": "order-1"}'}
    made = submit_client.post("/v1/jobs", images=files("a.png", "b.png", "c.png"), data=form).json
    factories.complete_claims(db, factories.claim_images(db))
    return made


def test_results_are_filtered_by_identifier(submit_client, other_client, job_with_custom_ids):
    """Only the caller's own; also in statistics."""
    path = "/v1/results?custom_id=order-1"
    assert ids(submit_client, path) == {"a.png": "order-1", "b.png": "order-1"}
    assert ids(other_client, path) == {}
    (stat,) = submit_client.get("/v1/stats?custom_id=order-1").json["stats"]
    assert stat["count"] == 2


def test_exports_have_the_identifier(submit_client, job_with_custom_ids):
    """In every format."""
    exported = {
        form: submit_client.get(job_with_custom_ids["results_url"], headers={"Accept": form}).text
        for form in ("text/csv", "application/x-ndjson")
    }
    rows = list(csv.DictReader(io.StringIO(exported["text/csv"])))
    assert [row["custom_id"] for row in rows] == ["order-1", "order-1", ""]
    assert all(row["image_id"].isdecimal() for row in rows)
    lines = [json.loads(line) for line in exported["application/x-ndjson"].splitlines()]
    assert [line["custom_id"] for line in lines] == ["order-1", "order-1", None]
    tasks = submit_client.get(
        job_with_custom_ids["results_url"], headers={"Accept": "application/vnd.label-studio+json"}
    ).json
    assert [task["meta"].get("custom_id") for task in tasks] == ["order-1", "order-1", None]


def test_retries_and_verifications_keep_the_identifier(submit_client, db):
    """They are of the same image."""
    made = submit_client.post("/v1/jobs?custom_id=x", data=factories.make_image(1), content_type="image/png").json
    broken = {"label": None, "confidence": None, "scores": None, "error_code": "x", "error_detail": "y"}
    factories.complete_claims(db, factories.claim_images(db), **broken)
    retried = submit_client.post(f"/v1/jobs/{made['id']}/retry").json
    factories.complete_claims(db, factories.claim_images(db))
    (result,) = submit_client.get(retried["results_url"]).json["results"]
    observed = submit_client.post(f"/v1/results/{result['id']}/verify").json
    factories.complete_claims(db, factories.claim_images(db))
    assert (
        set(ids(submit_client, retried["results_url"]).values())
        == set(ids(submit_client, observed["results_url"]).values())
        == {"x"}
    )


def test_another_identifier_is_another_submission(submit_client):
    """Under one Idempotency-Key."""
    key = {"Idempotency-Key": "k"}

    def submit_with(custom_ids):
        return submit_client.post("/v1/jobs", images=files("a.png"), data={"custom_ids": custom_ids}, headers=key)

    first = submit_with('{"a.png": "1"}')
    assert submit_with('{"a.png": "1"}').json["id"] == first.json["id"]
    assert_problem(submit_with('{"a.png": "2"}'), 422, "idempotency_mismatch")


@pytest.mark.parametrize(
    "custom_ids",
    ["x", "[]", '{"a.png": ""}', '{"a.png": 1}', '{"a.png": "\\u0000"}', '{"a.png": "\\ud800"}', '{"b": "x"}'],
)
def test_malformed_identifiers_are_rejected(submit_client, db, custom_ids):
    """With the name of the field; nothing is accepted."""
    response = submit_client.post("/v1/jobs", images=files("a.png"), data={"custom_ids": custom_ids})
    assert "custom_ids" in assert_problem(response, 422, "bad_parameter")
    long = json.dumps({"a.png": "x" * 256})
    assert_problem(
        submit_client.post("/v1/jobs", images=files("a.png"), data={"custom_ids": long}), 422, "bad_parameter"
    )
    assert factories.image_states(db) == {}
