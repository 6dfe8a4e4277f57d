"""Quotas and the queue limit: excess submissions are rejected with a time to retry."""

import hashlib
from pathlib import Path

import pytest

from api import app as apps
from core.db.queries import api_keys, quotas
from tests.support import factories
from tests.support.api_client import ApiClient, assert_problem


def files(*numbers):
    """Return images with names."""
    return [(f"{number}.png", factories.make_image(number)) for number in numbers]


@pytest.fixture
def make_limited_app(app_settings):
    """Create apps on the same database, with limits by name."""
    created = []

    def make(**limits):
        created.append(apps.create_app(app_settings.model_copy(update=limits)))
        return created[-1]

    yield make
    for item in created:
        item.extensions["sortbelt"].db.close()


def at(app, api_client):
    """Return the same client on another app."""
    return ApiClient(app.test_client(), api_client.key, api_client.id)


def refresh(app):
    """Make the next request read the queue again."""
    app.extensions["sortbelt"].eta_cache._refreshed_at = -1e9


def test_a_full_queue_rejects_submissions_without_writing(make_limited_app, submit_client, db, app_settings):
    """503 with Retry-After, for every kind of submission; no row and no blob."""
    app = make_limited_app(max_queued_images=3)
    mine = at(app, submit_client)
    job = mine.post("/v1/jobs", images=files(1, 2, 3)).json
    open_ = mine.post("/v1/jobs", json={"open": True})
    assert open_.status_code == 202
    ways = [
        mine.post("/v1/jobs", images=files(4)),
        mine.post(f"/v1/jobs/{open_.json['id']}/images", images=files(5)),
        mine.post("/v1/jobs", json={"images": [{"name": "again", "sha256": sha256(1)}]}),
    ]
    for response in ways:
        assert "The queue is full" in assert_problem(response, 503, "queue_full")
        assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert factories.image_states(db).keys() == {"1.png", "2.png", "3.png"}
    assert len([path for path in Path(app_settings.blob_store).rglob("*") if path.is_file()]) == 3
    assert mine.get(f"/v1/jobs/{job['id']}").status_code == 200


def sha256(number):
    """Return the digest of an image."""
    return hashlib.sha256(factories.make_image(number)).hexdigest()


def test_a_full_queue_accepts_again_after_results(make_limited_app, submit_client, db):
    """Without a restart."""
    app = make_limited_app(max_queued_images=2)
    mine = at(app, submit_client)
    mine.post("/v1/jobs", images=files(1, 2))
    assert mine.post("/v1/jobs", images=files(3)).status_code == 503
    factories.complete_claims(db, factories.claim_images(db))
    refresh(app)
    assert mine.post("/v1/jobs", images=files(3)).status_code == 202


def test_a_repeat_is_answered_although_the_queue_is_full(make_limited_app, submit_client, db):
    """The same idempotency key, the same names in an open job, the same retry: they add nothing."""
    app = make_limited_app(max_queued_images=2)
    mine = at(app, submit_client)
    key = {"Idempotency-Key": "k"}
    first = mine.post("/v1/jobs", images=files(1), headers=key).json
    job = mine.post("/v1/jobs", json={"open": True}).json
    more = f"/v1/jobs/{job['id']}/images"
    assert mine.post(more, images=files(2)).status_code == 202
    refresh(app)
    again = mine.post("/v1/jobs", images=files(1), headers=key)
    assert (again.status_code, again.json["id"]) == (202, first["id"])
    assert mine.post(more, images=files(2)).status_code == 202
    assert mine.post(more, images=files(2, 3)).status_code == 503
    assert_problem(mine.post("/v1/jobs", images=files(1, 2), headers=key), 422, "idempotency_mismatch")
    assert len(factories.image_states(db)) == 2


def test_a_retry_needs_space_for_all_of_its_images(make_limited_app, submit_client, db):
    """Cancelled images leave the queue at once, and come back with the retry."""
    app = make_limited_app(max_queued_images=3)
    mine = at(app, submit_client)
    job = mine.post("/v1/jobs", images=files(1, 2, 3)).json
    mine.post(f"/v1/jobs/{job['id']}/cancel")
    refresh(app)
    assert mine.post("/v1/jobs", images=files(4)).status_code == 202
    refresh(app)
    assert_problem(mine.post(f"/v1/jobs/{job['id']}/retry"), 503, "queue_full")
    factories.complete_claims(db, factories.claim_images(db))
    refresh(app)
    assert mine.post(f"/v1/jobs/{job['id']}/retry").json["counts"]["total"] == 3


def test_a_retry_needs_space_in_the_queue(make_limited_app, submit_client, db):
    """Except one that was submitted before."""
    app = make_limited_app(max_queued_images=2)
    mine = at(app, submit_client)
    job = mine.post("/v1/jobs", images=files(1)).json
    broken = {"label": None, "confidence": None, "scores": None, "error_code": "x", "error_detail": "y"}
    factories.complete_claims(db, factories.claim_images(db), **broken)
    refresh(app)
    assert mine.post("/v1/jobs", images=files(2, 3)).status_code == 202
    refresh(app)
    path = f"/v1/jobs/{job['id']}/retry"
    assert_problem(mine.post(path), 503, "queue_full")
    factories.complete_claims(db, factories.claim_images(db))
    refresh(app)
    again = mine.post(path).json
    mine.post("/v1/jobs", images=files(4))
    refresh(app)
    assert mine.post(path).json["id"] == again["id"]


def test_the_limit_per_minute_is_announced_and_enforced(app, submit_client, db):
    """RateLimit headers as in the draft; 429 with Retry-After, on another server too."""
    db.write(api_keys.update, submit_client.id, {"images_per_minute": 3, "bytes_per_minute": 10**12})
    taken = submit_client.post("/v1/jobs", images=files(1, 2))
    assert taken.status_code == 202
    policy = '"images";q=3;w=60;qu="images", "bytes";q=1000000000000;w=60;qu="content-bytes"'
    assert taken.headers["RateLimit-Policy"] == policy
    assert taken.headers["RateLimit"] == '"images";r=1;t=40, "bytes";r=1000000000000;t=0'
    refused = submit_client.post("/v1/jobs", images=files(3, 4))
    detail = assert_problem(refused, 429, "rate_limited")
    assert detail.startswith("The request has 2 images; this key has 1 of its 3 per minute left. Retry in ")
    assert 15 <= int(refused.headers["Retry-After"]) <= 20
    assert refused.headers["RateLimit"].startswith('"images";r=1')
    assert len(factories.image_states(db)) == 2


def test_all_servers_share_the_limit_per_minute(make_limited_app, submit_client, db):
    """Two server processes, one count."""
    db.write(api_keys.update, submit_client.id, {"images_per_minute": 2})
    item, other = (at(make_limited_app(), submit_client) for _ in range(2))
    assert item.post("/v1/jobs", images=files(1)).status_code == 202
    assert other.post("/v1/jobs", images=files(2)).status_code == 202
    assert item.post("/v1/jobs", images=files(3)).status_code == 429


def test_the_open_images_of_a_key_are_limited(submit_client, other_client, db):
    """429 for this key only; a request that never fits is 422."""
    db.write(api_keys.update, submit_client.id, {"open_images": 2})
    assert submit_client.post("/v1/jobs", images=files(1, 2)).status_code == 202
    response = submit_client.post("/v1/jobs", images=files(3))
    assert "2 images open" in assert_problem(response, 429, "quota_exceeded")
    assert int(response.headers["Retry-After"]) >= 1
    assert_problem(submit_client.post("/v1/jobs", images=files(4, 5, 6)), 422, "too_many_images")
    assert "RateLimit" not in other_client.post("/v1/jobs", images=files(1)).headers
    factories.complete_claims(db, factories.claim_images(db))
    assert submit_client.post("/v1/jobs", images=files(3)).status_code == 202


def test_settings_are_the_default_quotas_of_keys(make_limited_app, submit_client, db):
    """And a key may be exempt."""
    mine = at(make_limited_app(key_images_per_minute=1), submit_client)
    assert mine.post("/v1/jobs", images=files(1)).status_code == 202
    assert_problem(mine.post("/v1/jobs", images=files(2)), 429, "rate_limited")
    db.write(api_keys.update, submit_client.id, {"images_per_minute": 0})
    assert mine.post("/v1/jobs", images=files(2)).status_code == 202


def test_a_key_that_owes_work_submits_nothing(submit_client, admin_client, db):
    """429 with a time to retry; the headers have the limit."""
    url = f"/v1/keys/{submit_client.id}"
    key = admin_client.request("PATCH", url, json={"work_seconds_per_minute": 30}).json
    assert (key["work_seconds_per_minute"], key["images_per_minute"]) == (30, None)
    accepted = submit_client.post("/v1/jobs", images=files(1))
    assert accepted.headers["RateLimit-Policy"] == '"seconds";q=30;w=60;qu="seconds"'
    db.write(quotas.charge_afterwards, {submit_client.id: quotas.Load(seconds=40)}, quotas.UNSET)
    response = submit_client.post("/v1/jobs", images=files(2))
    assert "none of its 30 seconds of work per minute" in assert_problem(response, 429, "rate_limited")
    assert 15 <= int(response.headers["Retry-After"]) <= 20
    assert admin_client.request("PATCH", url, json={"work_seconds_per_minute": 60}).status_code == 200
    assert submit_client.post("/v1/jobs", images=files(2)).status_code == 202


def test_verifying_a_result_counts_against_the_limit(submit_client, admin_client, db, finished_job):
    """As one image."""
    assert (
        admin_client.request("PATCH", f"/v1/keys/{submit_client.id}", json={"images_per_minute": 1}).status_code == 200
    )
    factories.make_live(db)
    result = submit_client.get(f"/v1/jobs/{finished_job['id']}/results").json["results"][0]["id"]
    assert submit_client.post(f"/v1/results/{result}/verify").status_code == 202
    assert_problem(submit_client.post(f"/v1/results/{result}/verify"), 429, "rate_limited")


def test_limits_hold_without_redis(make_limited_app, submit_client, db):
    """The counts are in the database."""
    mine = at(make_limited_app(key_images_per_minute=1, redis_url="redis://127.0.0.1:1/0"), submit_client)
    assert mine.post("/v1/jobs", images=files(1)).status_code == 202
    assert mine.post("/v1/jobs", images=files(2)).status_code == 429
