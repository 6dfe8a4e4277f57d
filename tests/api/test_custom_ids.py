"""Identifiers of the callers' own: given with a picture, and found again with its result."""

import csv
import hashlib
import io
import json

import pytest

from tests.api.asking import problem
from tests.jobs import making


def files(*names):
    """Pictures of these names, each another one."""
    return [(name, making.picture(sum(name.encode()))) for name in names]


def ids(person, path):
    """The identifier of each picture, by name."""
    return {row["image"]: row["custom_id"] for row in person.get(path).json["results"]}


def test_a_picture_keeps_its_identifier_to_its_result(me, db):
    """By a form, raw, and by reference; and what has none has none."""
    form = {"custom_ids": json.dumps({"a.png": "order-1 é"})}
    job = me.post("/v1/jobs", images=files("a.png", "b.png"), data=form).json
    raw = me.post("/v1/jobs?name=c.png&custom_id=order-3", data=making.picture(3), content_type="image/png").json
    making.finish(db, making.claim(db))
    assert ids(me, job["results_url"]) == {"a.png": "order-1 é", "b.png": None}
    assert ids(me, raw["results_url"]) == {"c.png": "order-3"}
    sha256 = hashlib.sha256(files("a.png")[0][1]).hexdigest()
    references = [{"name": "d.png", "sha256": sha256, "custom_id": "order-4"}, {"name": "e.png", "sha256": sha256}]
    open_ = me.post("/v1/jobs", json={"open": True}).json
    assert me.post(f"/v1/jobs/{open_['id']}/images", json={"images": references}).status_code == 202
    form = {"custom_ids": '{"f.png": "order-1 é"}'}
    assert me.post(f"/v1/jobs/{open_['id']}/images", images=files("f.png"), data=form).status_code == 202
    making.finish(db, making.claim(db))
    assert ids(me, open_["results_url"]) == {"d.png": "order-4", "e.png": None, "f.png": "order-1 é"}


@pytest.fixture
def job(me, db):
    """A job of three pictures, two of them with one identifier, the third without."""
    form = {"custom_ids": '{"a.png": "order-1", "b.png": "order-1"}'}
    made = me.post("/v1/jobs", images=files("a.png", "b.png", "c.png"), data=form).json
    making.finish(db, making.claim(db))
    return made


def test_results_are_found_by_it(me, other, job):
    """Only one's own; also when counted."""
    path = "/v1/results?custom_id=order-1"
    assert ids(me, path) == {"a.png": "order-1", "b.png": "order-1"}
    assert ids(other, path) == {}
    (stat,) = me.get("/v1/stats?custom_id=order-1").json["stats"]
    assert stat["count"] == 2


def test_exports_have_it(me, job):
    """Every form."""
    exported = {
        form: me.get(job["results_url"], headers={"Accept": form}).text for form in ("text/csv", "application/x-ndjson")
    }
    rows = list(csv.DictReader(io.StringIO(exported["text/csv"])))
    assert [row["custom_id"] for row in rows] == ["order-1", "order-1", ""]
    assert all(row["image_id"].isdecimal() for row in rows)
    lines = [json.loads(line) for line in exported["application/x-ndjson"].splitlines()]
    assert [line["custom_id"] for line in lines] == ["order-1", "order-1", None]
    tasks = me.get(job["results_url"], headers={"Accept": "application/vnd.label-studio+json"}).json
    assert [task["meta"].get("custom_id") for task in tasks] == ["order-1", "order-1", None]


def test_what_is_tried_or_looked_at_again_keeps_it(me, db):
    """A retry and a second look are of the same picture."""
    made = me.post("/v1/jobs?custom_id=x", data=making.picture(1), content_type="image/png").json
    broken = {"label": None, "confidence": None, "scores": None, "error_code": "x", "error_detail": "y"}
    making.finish(db, making.claim(db), **broken)
    retried = me.post(f"/v1/jobs/{made['id']}/retry").json
    making.finish(db, making.claim(db))
    (result,) = me.get(retried["results_url"]).json["results"]
    seen = me.post(f"/v1/results/{result['id']}/verify").json
    making.finish(db, making.claim(db))
    assert set(ids(me, retried["results_url"]).values()) == set(ids(me, seen["results_url"]).values()) == {"x"}


def test_another_identifier_is_another_order(me):
    """Under one Idempotency-Key."""
    key = {"Idempotency-Key": "k"}

    def order(given):
        return me.post("/v1/jobs", images=files("a.png"), data={"custom_ids": given}, headers=key)

    first = order('{"a.png": "1"}')
    assert order('{"a.png": "1"}').json["id"] == first.json["id"]
    problem(order('{"a.png": "2"}'), 422, "idempotency_mismatch")


@pytest.mark.parametrize(
    "given", ["x", "[]", '{"a.png": ""}', '{"a.png": 1}', '{"a.png": "\\u0000"}', '{"a.png": "\\ud800"}', '{"b": "x"}']
)
def test_malformed_identifiers_are_refused(me, db, given):
    """A sentence that names the field; nothing was taken in."""
    response = me.post("/v1/jobs", images=files("a.png"), data={"custom_ids": given})
    assert "custom_ids" in problem(response, 422, "bad_parameter")
    long = json.dumps({"a.png": "x" * 256})
    problem(me.post("/v1/jobs", images=files("a.png"), data={"custom_ids": long}), 422, "bad_parameter")
    assert making.images(db) == {}
