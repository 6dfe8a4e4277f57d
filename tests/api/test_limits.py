"""No more is taken in than there is room for; whoever is sent away learns when to come again."""

import hashlib
from pathlib import Path

import pytest

from api import app as apps
from jobs.store import keys
from tests.api.asking import Person, problem
from tests.jobs import making


def files(*numbers):
    """Pictures with names."""
    return [(f"{number}.png", making.picture(number)) for number in numbers]


@pytest.fixture
def small(wanted):
    """Makes a small server of the same database: its limits by name."""
    made = []

    def make(**limits):
        made.append(apps.create_app(wanted.model_copy(update=limits)))
        return made[-1]

    yield make
    for one in made:
        one.extensions["sortbelt"].db.close()


def at(app, person):
    """The same person at another server."""
    return Person(app.test_client(), person.key, person.id)


def fresh(app):
    """Have the server look at the queue again at once."""
    app.extensions["sortbelt"].outlook._looked_at = -1e9


def test_a_full_queue_takes_nothing_in_and_writes_nothing(small, me, db, wanted):
    """503 with Retry-After, for every way in; and no row, no blob."""
    app = small(max_queued_images=3)
    mine = at(app, me)
    job = mine.post("/v1/jobs", images=files(1, 2, 3)).json
    open_ = mine.post("/v1/jobs", json={"open": True})
    assert open_.status_code == 202
    ways = [
        mine.post("/v1/jobs", images=files(4)),
        mine.post(f"/v1/jobs/{open_.json['id']}/images", images=files(5)),
        mine.post("/v1/jobs", json={"images": [{"name": "again", "sha256": sha256(1)}]}),
    ]
    for response in ways:
        assert "The queue is full" in problem(response, 503, "queue_full")
        assert 1 <= int(response.headers["Retry-After"]) <= 60
    assert making.images(db).keys() == {"1.png", "2.png", "3.png"}
    assert len([path for path in Path(wanted.blobs).rglob("*") if path.is_file()]) == 3
    assert mine.get(f"/v1/jobs/{job['id']}").status_code == 200


def sha256(number):
    """The digest of a picture."""
    return hashlib.sha256(making.picture(number)).hexdigest()


def test_a_full_queue_takes_in_again_as_results_come(small, me, db):
    """Nothing has to be restarted."""
    app = small(max_queued_images=2)
    mine = at(app, me)
    mine.post("/v1/jobs", images=files(1, 2))
    assert mine.post("/v1/jobs", images=files(3)).status_code == 503
    making.finish(db, making.claim(db))
    fresh(app)
    assert mine.post("/v1/jobs", images=files(3)).status_code == 202


def test_a_repeat_of_what_was_taken_in_is_answered_whatever_waits(small, me, db):
    """The same order under its key, the same names in an open job, the same retry: they add nothing."""
    app = small(max_queued_images=2)
    mine = at(app, me)
    key = {"Idempotency-Key": "k"}
    first = mine.post("/v1/jobs", images=files(1), headers=key).json
    job = mine.post("/v1/jobs", json={"open": True}).json
    more = f"/v1/jobs/{job['id']}/images"
    assert mine.post(more, images=files(2)).status_code == 202
    fresh(app)
    again = mine.post("/v1/jobs", images=files(1), headers=key)
    assert (again.status_code, again.json["id"]) == (202, first["id"])
    assert mine.post(more, images=files(2)).status_code == 202
    assert mine.post(more, images=files(2, 3)).status_code == 503
    problem(mine.post("/v1/jobs", images=files(1, 2), headers=key), 422, "idempotency_mismatch")
    assert len(making.images(db)) == 2


def test_a_retry_finds_the_queue_full_too(small, me, db):
    """But one that was ordered before is answered."""
    app = small(max_queued_images=2)
    mine = at(app, me)
    job = mine.post("/v1/jobs", images=files(1)).json
    broken = {"label": None, "confidence": None, "scores": None, "error_code": "x", "error_detail": "y"}
    making.finish(db, making.claim(db), **broken)
    fresh(app)
    assert mine.post("/v1/jobs", images=files(2, 3)).status_code == 202
    fresh(app)
    path = f"/v1/jobs/{job['id']}/retry"
    problem(mine.post(path), 503, "queue_full")
    making.finish(db, making.claim(db))
    fresh(app)
    again = mine.post(path).json
    mine.post("/v1/jobs", images=files(4))
    fresh(app)
    assert mine.post(path).json["id"] == again["id"]


def test_a_key_s_minute_is_told_and_then_over(app, me, db):
    """RateLimit headers as the draft has them; 429 with Retry-After, and another server knows of it too."""
    db.write(keys.change, me.id, {"images_per_minute": 3, "bytes_per_minute": 10**12})
    taken = me.post("/v1/jobs", images=files(1, 2))
    assert taken.status_code == 202
    policy = '"images";q=3;w=60;qu="images", "bytes";q=1000000000000;w=60;qu="content-bytes"'
    assert taken.headers["RateLimit-Policy"] == policy
    assert taken.headers["RateLimit"] == '"images";r=1;t=40, "bytes";r=1000000000000;t=0'
    refused = me.post("/v1/jobs", images=files(3, 4))
    assert "3 pictures a minute" in problem(refused, 429, "rate_limited")
    assert 15 <= int(refused.headers["Retry-After"]) <= 20
    assert refused.headers["RateLimit"].startswith('"images";r=1')
    assert len(making.images(db)) == 2


def test_the_minute_is_one_for_all_servers(small, me, db):
    """Two processes that serve, one count."""
    db.write(keys.change, me.id, {"images_per_minute": 2})
    one, other = (at(small(), me) for _ in range(2))
    assert one.post("/v1/jobs", images=files(1)).status_code == 202
    assert other.post("/v1/jobs", images=files(2)).status_code == 202
    assert one.post("/v1/jobs", images=files(3)).status_code == 429


def test_what_a_key_has_open_is_limited(me, other, db):
    """429 for it, and nobody else notices; so much as never fits is 422."""
    db.write(keys.change, me.id, {"open_images": 2})
    assert me.post("/v1/jobs", images=files(1, 2)).status_code == 202
    response = me.post("/v1/jobs", images=files(3))
    assert "2 pictures open" in problem(response, 429, "quota_exceeded")
    assert int(response.headers["Retry-After"]) >= 1
    problem(me.post("/v1/jobs", images=files(4, 5, 6)), 422, "too_many_images")
    assert "RateLimit" not in other.post("/v1/jobs", images=files(1)).headers
    making.finish(db, making.claim(db))
    assert me.post("/v1/jobs", images=files(3)).status_code == 202


def test_settings_are_the_quotas_of_keys_that_have_none(small, me, db):
    """And a key may be exempt."""
    mine = at(small(key_images_per_minute=1), me)
    assert mine.post("/v1/jobs", images=files(1)).status_code == 202
    problem(mine.post("/v1/jobs", images=files(2)), 429, "rate_limited")
    db.write(keys.change, me.id, {"images_per_minute": 0})
    assert mine.post("/v1/jobs", images=files(2)).status_code == 202


def test_looking_again_at_a_result_is_limited_too(me, admin, db, done):
    """One picture is one picture."""
    assert admin.ask("PATCH", f"/v1/keys/{me.id}", json={"images_per_minute": 1}).status_code == 200
    making.live(db)
    result = me.get(f"/v1/jobs/{done['id']}/results").json["results"][0]["id"]
    assert me.post(f"/v1/results/{result}/verify").status_code == 202
    problem(me.post(f"/v1/results/{result}/verify"), 429, "rate_limited")


def test_a_redis_that_is_away_changes_no_limit(small, me, db):
    """Counts are in the database: without Redis they hold as they do with it."""
    mine = at(small(key_images_per_minute=1, redis_url="redis://127.0.0.1:1/0"), me)
    assert mine.post("/v1/jobs", images=files(1)).status_code == 202
    assert mine.post("/v1/jobs", images=files(2)).status_code == 429
