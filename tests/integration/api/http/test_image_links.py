"""Signed links to thumbnails, which need no key."""

import hashlib
import hmac
import json
import time
from urllib import parse

import pytest

from api.http import image_links
from core.db.queries import api_keys
from tests.support import factories, modules
from tests.support.api_client import assert_problem

ACCEPT = {"Accept": "application/vnd.label-studio+json; images=links"}


@pytest.fixture
def link(db, submit_client):
    """The link to an image of a job, as an export has it."""
    job = submit_client.post("/v1/jobs", images=[("lunch.png", factories.make_image(1))]).json
    factories.complete_claims(db, factories.claim_images(db))
    (task,) = json.loads(submit_client.get(job["results_url"], headers=ACCEPT).data)
    assert task["meta"]["image"] == "lunch.png"
    return task["data"]["image"]


def path_of(link, **changes):
    """Return path and query of a link, with other values of some parameters."""
    parts = parse.urlsplit(link)
    return f"{parts.path}?{parse.urlencode(dict(parse.parse_qsl(parts.query)) | changes)}"


def test_a_link_shows_the_thumbnail_without_a_key(anonymous_client, link):
    response = anonymous_client.get(path_of(link))

    assert (response.status_code, response.mimetype) == (200, "image/jpeg")
    assert_problem(anonymous_client.get(parse.urlsplit(link).path.replace("linked", "thumbnail")), 401, "no_key")


def test_a_link_is_for_one_image_and_until_its_end_only(anonymous_client, submit_client, other_client, link):
    """Whatever is changed in it; the answer does not say what was wrong."""
    path, _, query = path_of(link).partition("?")
    number = int(path.split("/")[3])
    changed = [
        path_of(link, expires=9_999_999_999),
        path_of(link, signature="0" * 64),
        path_of(link, key=other_client.id),
        f"/v1/images/{number + 1}/linked?{query}",
    ]
    for one in changed:
        assert_problem(anonymous_client.get(one), 403, "invalid_link")


def test_an_expired_link_is_rejected(anonymous_client, submit_client, monkeypatch, link):
    later = time.time() + image_links.VALID_SECONDS + 1
    monkeypatch.setattr(image_links, "time", modules.with_changes(time, time=lambda: later))

    assert_problem(anonymous_client.get(path_of(link)), 403, "invalid_link")


def test_what_the_holder_of_a_key_knows_signs_no_link(anonymous_client, other_client, db, link):
    """Neither its webhook secret, which receivers know too, nor its digest: ids of images can be counted through."""
    number, expires = int(path_of(link).split("/")[3]), int(time.time()) + 1000
    secret = other_client.get("/v1/webhooks/secret").json["secret"]
    for key in (secret, secret.removeprefix("whsec_"), other_client.id, hashlib.sha256(b"key").hexdigest()):
        for message in (f"image link\n{number}\n{expires}", f"image link\n{other_client.id}\n{number}\n{expires}"):
            signature = hmac.new(key.encode(), message.encode(), hashlib.sha256).hexdigest()
            forged = path_of(link, key=other_client.id, expires=expires, signature=signature)
            assert_problem(anonymous_client.get(forged), 403, "invalid_link")


def test_a_link_shows_only_what_its_key_may_see(anonymous_client, app, db, other_client, link):
    """Also if the server signed it."""
    number = int(path_of(link).split("/")[3])
    with app.test_request_context():
        sign = image_links.signer(db, other_client.id)
    assert_problem(anonymous_client.get(path_of(sign(number))), 404, "image_not_found")


def test_a_link_of_a_revoked_key_is_rejected(anonymous_client, submit_client, db, link):
    db.write(api_keys.revoke, submit_client.id)

    assert_problem(anonymous_client.get(path_of(link)), 403, "invalid_link")


def test_another_parameter_of_the_format_is_named(submit_client, link):
    response = submit_client.get("/v1/results", headers={"Accept": "application/vnd.label-studio+json; images=all"})
    assert_problem(response, 406, "not_acceptable")
    assert "images=links" in response.json["detail"]
