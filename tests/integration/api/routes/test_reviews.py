"""Reviews over HTTP: who may, what is accepted, lists and exports, the queue, statistics and comparisons."""

import csv
import hashlib
import io
import json
import uuid

import pyarrow.parquet
import pytest

from core import enums
from core.db.queries import models, shadows
from tests.integration.core.db.queries.test_models import files, manifest
from tests.support import factories
from tests.support.api_client import assert_problem, fetch_all_pages


@pytest.fixture
def review_client(make_client):
    """A client of the role review."""
    return make_client("ann", enums.Role.REVIEW)


@pytest.fixture
def classified(submit_client, db):
    """Four images of `submit_client` that the live version calls sushi; their results, by image."""
    factories.make_live(db)
    names = [f"{letter}.png" for letter in "abcd"]
    job = submit_client.post("/v1/jobs", images=[(n, factories.make_image(i)) for i, n in enumerate(names)]).json
    for number, claim in enumerate(factories.claim_images(db)):
        factories.complete_claims(db, [claim], confidence=0.6 + number / 10, familiarity=1 - number / 10)
    return {row["image"][0]: row for row in submit_client.get(job["results_url"]).json["results"]}


def put(client, result, **body):
    """Review a result."""
    return client.request("PUT", f"/v1/results/{result['id']}/review", json=body)


def test_a_review_stands_beside_the_label_of_the_model(review_client, submit_client, classified):
    """In the response and in every list; withdrawn, it is gone, and the result is as it was."""
    result = classified["a"]
    assert result["review"] is None
    reviewed = put(review_client, result, label="sandwich", note="on bread").json
    assert (reviewed["label"], reviewed["confidence"]) == ("sushi", 0.6)
    assert reviewed["review"] | {"reviewed_at": ""} == {
        "verdict": "label",
        "label": "sandwich",
        "note": "on bread",
        "reviewed_by": review_client.id,
        "reviewed_at": "",
        "strategy": None,
    }
    for path in (f"/v1/jobs/{result['job_id']}/results", "/v1/results?order=confidence"):
        assert submit_client.get(path).json["results"][0] == reviewed
    assert [row["image"] for row in submit_client.get("/v1/results?reviewed=true").json["results"]] == ["a.png"]
    assert len(submit_client.get("/v1/results?reviewed=false").json["results"]) == 3
    for _ in range(2):
        assert review_client.request("DELETE", f"/v1/results/{result['id']}/review").json == result
    history = review_client.get("/v1/reviews?history=true").json["reviews"]
    assert [row["verdict"] for row in history] == ["withdrawn", "label"]
    assert review_client.get("/v1/reviews").json["reviews"] == []


BAD = [
    ({}, "label"),
    ({"label": None}, "label"),
    ({"verdict": "label"}, "label"),
    ({"verdict": "none_of_these", "label": "sushi"}, "none_of_these"),
    ({"verdict": "withdrawn"}, "verdict"),
    ({"verdict": "Sushi"}, "verdict"),
    ({"label": 7}, "label"),
    ({"label": "a\u0000"}, "label"),
    ({"label": "sushi", "note": "x" * 1001}, "note"),
    ({"label": "sushi", "lable": "x"}, "lable"),
]


@pytest.mark.parametrize(("body", "named"), BAD)
def test_a_malformed_review_is_rejected(review_client, classified, body, named):
    """422 that names the field."""
    assert named in assert_problem(put(review_client, classified["a"], **body), 422, "bad_parameter")
    assert review_client.get("/v1/reviews?history=true").json["reviews"] == []


def test_labels_and_results_that_do_not_exist_are_rejected(review_client, submit_client, classified):
    """Each with its own code."""
    detail = assert_problem(put(review_client, classified["a"], label="sushii"), 422, "unknown_label")
    assert "sandwich" in detail
    for id_ in ("999999999", "0", "-1", "x", "9" * 30):
        assert_problem(put(review_client, {"id": id_}, label="sushi"), 404, "result_not_found")
        assert_problem(review_client.request("DELETE", f"/v1/results/{id_}/review"), 404, "result_not_found")
    job = submit_client.post("/v1/jobs", images=[("bad.txt", b"no")]).json
    (failed,) = submit_client.get(job["results_url"]).json["results"]
    assert_problem(put(review_client, failed, verdict="bad_image"), 409, "nothing_to_review")


def test_roles_that_review(review_client, submit_client, other_client, read_client, admin_client, classified):
    """`review` and `admin` review all results, `submit` its own, `read` none; `review` submits nothing."""
    for client in (review_client, admin_client, submit_client):
        assert put(client, classified["a"], label="sushi").status_code == 200
    assert_problem(put(other_client, classified["a"], label="sushi"), 404, "result_not_found")
    assert_problem(put(read_client, classified["a"], label="sushi"), 403, "not_allowed")
    assert_problem(read_client.get("/v1/reviews/queue"), 403, "not_allowed")
    assert_problem(review_client.post("/v1/jobs", data=factories.make_image()), 403, "not_allowed")
    assert len(read_client.get("/v1/reviews").json["reviews"]) == 1
    assert other_client.get("/v1/reviews").json["reviews"] == []
    assert other_client.get("/v1/reviews/stats").json == {"versions": []}
    url = "https://hooks.example.com/SECRET"
    submit_client.post("/v1/jobs", json={"open": True, "webhook": url})
    assert "SECRET" not in review_client.get("/v1/jobs").text


def test_reviews_are_listed_filtered_and_exported(review_client, classified):
    """The same rows in every format, page by page and in one stream."""
    put(review_client, classified["a"], label="sandwich", note="=1+1")
    put(review_client, classified["b"], verdict="none_of_these")
    put(review_client, classified["c"], label="sushi")
    rows = fetch_all_pages(review_client, "/v1/reviews?limit=1", "reviews")
    assert [row["image"][0] for row in rows] == ["c", "b", "a"]
    assert rows[2]["sha256"] == hashlib.sha256(factories.make_image(0)).hexdigest()
    for query, expected in {
        "label=sushi": "c",
        "verdict=none_of_these": "b",
        f"result={classified['a']['id']}": "a",
        f"reviewed_by={review_client.id}&until=2999-01-01": "cba",
        "strategy=random": "",
        f"model={factories.MODEL}@1": "cba",
    }.items():
        assert [row["image"][0] for row in review_client.get(f"/v1/reviews?{query}").json["reviews"]] == list(expected)
    assert_problem(review_client.get("/v1/reviews?strategy=best"), 422, "bad_parameter")
    for path in ("/v1/reviews?label=sushii", "/v1/reviews?model=other", "/v1/reviews/stats?version=9"):
        value = path.rpartition("=")[2]
        assert f"There is no {path.partition('?')[2].partition('=')[0]} {value!r}; there " in assert_problem(
            review_client.get(path), 422, "bad_parameter"
        )
    assert_problem(review_client.get(f"/v1/reviews?job={uuid.uuid4()}"), 404, "job_not_found")

    def stream(media_type):
        return review_client.get("/v1/reviews", headers={"Accept": media_type}).data

    lines = list(csv.DictReader(io.StringIO(stream("text/csv").decode(), newline="")))
    assert [line["note"] for line in lines] == ["", "", "'=1+1"]
    assert [json.loads(line) for line in stream("application/x-ndjson").splitlines()] == rows
    table = pyarrow.parquet.read_table(io.BytesIO(stream("application/vnd.apache.parquet")))
    assert table["label"].to_pylist() == ["sushi", None, "sandwich"]
    assert table["reviewed_at"].to_pylist()[0].tzinfo is not None


def test_the_queue_gives_each_image_to_one_person(review_client, admin_client, submit_client, other_client, classified):
    """In the order of the strategy; reviewed images leave it, and the review says how it was chosen."""
    first = review_client.get("/v1/reviews/queue?limit=2")
    assert first.headers["Cache-Control"] == "no-store"
    assert first.json["version"] == "1"
    assert [row["image"][0] for row in first.json["results"]] == ["a", "b"]
    assert [row["image"][0] for row in admin_client.get("/v1/reviews/queue").json["results"]] == ["c", "d"]
    assert other_client.get("/v1/reviews/queue").json["results"] == []
    assert put(review_client, classified["a"], label="sushi").json["review"]["strategy"] == "least_confident"
    again = review_client.get("/v1/reviews/queue?strategy=least_confident&model=sushi-or-sandwich@1").json["results"]
    assert [row["image"][0] for row in again] == ["b"]
    assert submit_client.get("/v1/reviews/queue?strategy=unfamiliar").json["results"] == []
    assert_problem(review_client.get("/v1/reviews/queue?model=none"), 404, "model_not_found")
    assert_problem(review_client.get("/v1/reviews/queue?model=sushi-or-sandwich@9"), 404, "model_not_found")
    assert_problem(review_client.get("/v1/reviews/queue?model=A@@"), 422, "bad_parameter")
    assert_problem(review_client.get("/v1/reviews/queue?limit=101"), 422, "bad_parameter")


def test_without_one_live_model_the_model_is_named(review_client, db):
    """The error lists those that are live."""
    detail = assert_problem(review_client.get("/v1/reviews/queue"), 422, "bad_parameter")
    assert "live models: none" in detail


def test_statistics_are_estimated_from_random_reviews(review_client, read_client, classified):
    """Reviews that a person chose are only counted; after a random one there is an estimate."""
    put(review_client, classified["a"], label="sandwich")
    (version,) = read_client.get("/v1/reviews/stats").json["versions"]
    assert (version["reviewed"], version["sampled"], version["accuracy"], version["stage"]) == (1, 0, None, "live")
    assert version["by_strategy"] == {"by_hand": 1}
    for row in review_client.get("/v1/reviews/queue?strategy=random&limit=100").json["results"]:
        put(review_client, row, label="sushi")
    (version,) = read_client.get("/v1/reviews/stats?model=sushi-or-sandwich&version=1").json["versions"]
    assert (version["reviewed"], version["by_outcome"]) == (4, {"right": 3, "wrong": 1})
    assert version["sampled"] >= 3
    assert 'sortbelt_reviewed_accuracy{model="sushi-or-sandwich",version="1"} 1.0' in read_client.get("/metrics").text
    assert version["accuracy"]["low"] < version["accuracy"]["value"] <= 1
    assert version["confusions"][0] | {"in_sample": 0} == {
        "model": "sushi",
        "review": "sandwich",
        "count": 1,
        "in_sample": 0,
    }
    assert_problem(read_client.get("/v1/reviews/stats?model=none"), 422, "bad_parameter")


def test_metrics_count_reviewed_images(review_client, read_client, classified):
    """By version, strategy and outcome; a correction moves an image."""
    put(review_client, classified["a"], label="sandwich")
    put(review_client, classified["a"], label="sushi")
    text = read_client.get("/metrics").text
    labels = 'model="sushi-or-sandwich",outcome="{}",strategy="by_hand",version="1"'
    samples = {line for line in text.splitlines() if line.startswith("sortbelt_reviewed_images{")}
    assert {line.rpartition(" ")[2] for line in samples if 'outcome="right"' in line} == {"1.0"}, (samples, labels)
    assert {line.rpartition(" ")[2] for line in samples if 'outcome="wrong"' in line} == {"0.0"}


def test_a_candidate_is_compared_on_reviewed_images(review_client, db, classified):
    """It is better only if the difference is more than chance."""
    db.write(models.add, manifest("2"), files("2"), None)
    added = db.read(models.get_version, factories.MODEL, "2")
    query = f"/v1/models/compare?a={factories.MODEL}@1&b={factories.MODEL}@2"
    nothing = review_client.get(query).json["reviewed"]
    assert (nothing["compared"], nothing["p_value"], nothing["better"]) == (0, 1.0, None)
    claims = [factories.claim_queries.Claim(int(row["id"]), "", "", "", 1, "me", None) for row in classified.values()]
    db.write(shadows.record, added.id, [factories.outcome(claim, label="sandwich") for claim in claims])
    for row in classified.values():
        put(review_client, row, label="sandwich")
    found = review_client.get(query).json["reviewed"]
    assert (found["compared"], found["a_right"], found["b_right"], found["only_b_right"]) == (4, 0, 4, 4)
    assert (found["p_value"], found["better"]) == (0.125, None)


def test_reviewers_and_owners_get_the_image_itself(
    review_client, submit_client, other_client, read_client, admin_client, classified
):
    """The bytes as submitted, as a download that no browser shows; readers see thumbnails only."""
    path = f"/v1/images/{classified['b']['image_id']}/file"
    for client in (review_client, submit_client, admin_client):
        response = client.get(path)
        assert response.data == factories.make_image(1)
        assert response.mimetype == "application/octet-stream"
        assert response.headers["Content-Disposition"] == "attachment"
        assert "sandbox" in response.headers["Content-Security-Policy"]
    assert_problem(read_client.get(path), 403, "not_allowed")
    assert_problem(other_client.get(path), 404, "image_not_found")
    assert_problem(review_client.get("/v1/images/99999/file"), 404, "image_not_found")


def test_an_image_whose_bytes_have_changed_is_gone(review_client, submit_client, app, classified):
    """It is not delivered as what was reviewed."""
    digest = hashlib.sha256(factories.make_image(1)).hexdigest()
    app.extensions["sortbelt"].blob_store.path(digest).write_bytes(b"other")
    assert_problem(review_client.get(f"/v1/images/{classified['b']['image_id']}/file"), 410, "image_gone")
