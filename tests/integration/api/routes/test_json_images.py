import base64

import pytest

from api import app as apps
from core import enums
from core.db.queries import api_keys
from tests.support import api_client, factories
from tests.support.api_client import assert_problem


def encode(data):
    return base64.b64encode(data).decode()


def test_images_in_base64_are_classified_like_others(submit_client, db):
    """Beside images whose bytes were sent before; with a custom id, and as a browser encodes them."""
    first = factories.make_image(1)
    images = [
        {"name": "a.png", "data": encode(first), "custom_id": "mine"},
        {"name": "b.png", "data": "data:image/png;base64," + encode(factories.make_image(2))},
        {"name": "bad.png", "data": encode(b"not an image")},
    ]
    job = submit_client.post("/v1/jobs", json={"images": images}).json
    assert (job["counts"]["queued"], job["counts"]["failed"]) == (2, 1)
    claims = factories.claim_images(db)
    assert {claim.name for claim in claims} == {"a.png", "b.png"}
    again = [{"name": "a.png", "sha256": claim.sha256} for claim in claims if claim.name == "a.png"]
    assert submit_client.post("/v1/jobs", json={"images": again}).status_code == 202


def test_base64_is_added_to_an_open_job(submit_client):
    """And a repeat adds nothing."""
    job = submit_client.post("/v1/jobs", json={"open": True}).json
    body = {"images": [{"name": "a.png", "data": encode(factories.make_image(1))}]}
    for _ in range(2):
        answer = submit_client.post(f"/v1/jobs/{job['id']}/images", json=body)
        assert answer.json["counts"]["total"] == 1


@pytest.mark.parametrize("data", ["!!!", "YQ", "YQ==YQ==", "YQ ==", "ü", "data:image/png;base64"])
def test_what_is_not_base64_is_named(submit_client, data):
    """With a pointer to the value, and without its content."""
    problem = submit_client.post("/v1/jobs", json={"images": [{"name": "a.png", "data": data}]})
    assert "not base64" in assert_problem(problem, 422, "bad_parameter")
    assert problem.json["errors"][0]["pointer"] == "#/images/0/data"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"data": "", "sha256": "a" * 64},
        {"data": "", "url": "https://x/a"},
        {"url": "https://x/a", "sha256": "a" * 64},
    ],
)
def test_an_image_has_exactly_one_origin(submit_client, fields):
    """Else it is not clear which bytes are meant."""
    problem = submit_client.post("/v1/jobs", json={"images": [{"name": "a", **fields}]})
    assert "exactly one of sha256, data and url" in assert_problem(problem, 422, "bad_parameter")


def test_a_json_body_has_a_limit_of_its_own(app_settings):
    """An image in base64 needs more than JSON usually does, and less than a form may have."""
    app = apps.create_app(app_settings.model_copy(update={"max_base64_bytes": 4_000_000, "max_body_bytes": 9_000_000}))
    db, key = app.extensions["sortbelt"].db, api_keys.generate()
    client = api_client.ApiClient(app.test_client(), key, db.write(api_keys.create, "me", enums.Role.SUBMIT, key).id)
    small, large = ({"images": [{"name": "a", "data": encode(bytes(size))}]} for size in (2_400_000, 3_200_000))
    assert client.post("/v1/jobs", json=small).status_code == 202
    assert_problem(client.post("/v1/jobs", json=large), 413, "body_too_large")
    db.close()


def test_urls_are_refused_unless_the_server_fetches_them(submit_client):
    """With the setting that allows it."""
    problem = submit_client.post("/v1/jobs", json={"images": [{"name": "a", "url": "https://photos.example/a.jpg"}]})
    assert "SORTBELT_FETCH_URLS" in assert_problem(problem, 422, "bad_parameter")
