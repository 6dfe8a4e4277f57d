"""Jobs whose images are imported from sources."""

import pytest

from api import app as apps
from dispatcher import source_importer
from tests.support import factories
from tests.support.api_client import assert_problem


@pytest.fixture
def source_dir(tmp_path):
    """A folder on the server, with an image in it."""
    root = tmp_path / "camera"
    root.mkdir()
    (root / "a.png").write_bytes(factories.make_image())
    return root


@pytest.fixture
def app_settings(app_settings, source_dir):
    """The settings of a small server that has sources."""
    return app_settings.model_copy(update={"sources": f"camera={source_dir},photos=s3://photos/2026"})


@pytest.fixture
def app(app_settings):
    """The app."""
    created = apps.create_app(app_settings)
    yield created
    created.extensions["sortbelt"].db.close()


def opened(api_client):
    """Return the path of a new open job."""
    return f"/v1/jobs/{api_client.post('/v1/jobs', json={'open': True}).json['id']}"


def scan(api_client, job, **body):
    """Start an import."""
    return api_client.post(f"{job}/scan", json=body)


def run_importer(expected, db):
    """Run one round of the importer."""
    finder = source_importer.SourceImporter(expected, db)
    finder.poll()
    finder.finish()


def test_only_admins_see_addresses_of_sources(submit_client, read_client, admin_client, source_dir):
    """Submitters see their names."""
    assert submit_client.get("/v1/sources").json == {
        "sources": [{"name": "camera", "address": None}, {"name": "photos", "address": None}]
    }
    payload = [item["address"] for item in admin_client.get("/v1/sources").json["sources"]]
    assert payload == [str(source_dir), "s3://photos/2026"]
    assert_problem(read_client.get("/v1/sources"), 403, "not_allowed")


def test_an_import_fills_an_open_job(submit_client, db, app_settings):
    """202 at once; the job shows the import, and is sealed when that has ended."""
    job = opened(submit_client)
    assert submit_client.get(job).json["scan"] is None
    before = submit_client.get(job).headers["ETag"]
    answer = scan(submit_client, job, source="camera", exclude=["thumbs"])
    assert answer.status_code == 202
    payload = answer.json["scan"]
    assert payload.pop("created_at") is not None
    assert payload == {
        "source": "camera",
        "prefix": "",
        "include": [],
        "exclude": ["thumbs"],
        "status": "pending",
        "found": 0,
        "skipped": 0,
        "skipped_by_reason": {},
        "left_out": [],
        "error": None,
        "ended_at": None,
    }
    assert submit_client.get(job).headers["ETag"] != before
    assert submit_client.post(f"{job}/seal").json["sealed"] is False
    run_importer(app_settings, db)
    after = submit_client.get(job).json
    assert (after["scan"]["status"], after["scan"]["found"], after["sealed"]) == ("done", 1, True)
    assert after["counts"]["total"] == 1
    assert scan(submit_client, job, source="camera", exclude=["thumbs"]).status_code == 202
    assert_problem(scan(submit_client, job, source="camera"), 409, "scan_taken")


def test_a_source_is_found_by_the_address_of_its_bucket(submit_client):
    """So that callers need not know its name on the server."""
    answer = scan(submit_client, opened(submit_client), source="s3://photos/2026/january/")
    assert (answer.json["scan"]["source"], answer.json["scan"]["prefix"]) == ("photos", "january")


REFUSED = [
    ({"source": "kitchen"}, "unknown_source"),
    ({"source": "/etc"}, "unknown_source"),
    ({"source": "s3://photos/2025"}, "unknown_source"),
    ({"source": "camera", "prefix": "../etc"}, "bad_parameter"),
    ({"source": "camera", "prefix": "a\nb"}, "bad_parameter"),
    ({"source": "camera", "include": [""]}, "bad_parameter"),
    ({"source": "camera", "include": ["x"] * 51}, "bad_parameter"),
    ({"source": "camera", "include": "*.jpg"}, "bad_parameter"),
    ({"source": "camera", "seal": "yes"}, "bad_parameter"),
    ({}, "bad_parameter"),
]


def test_a_job_whose_import_failed_has_failed(submit_client, db, app_settings):
    """Its status must not be `done`; the list filters it so too."""
    job = opened(submit_client)
    scan(submit_client, job, source="camera", prefix="nowhere")
    run_importer(app_settings, db)
    payload = submit_client.get(job).json
    assert (payload["status"], payload["counts"]["total"], payload["scan"]["status"]) == ("failed", 0, "failed")
    assert [item["id"] for item in submit_client.get("/v1/jobs?status=failed").json["jobs"]] == [payload["id"]]
    assert submit_client.get("/v1/jobs?status=done").json["jobs"] == []


def test_an_unknown_source_is_rejected(submit_client, subtests):
    """And so is a path out of a source."""
    job = opened(submit_client)
    for body, code in REFUSED:
        with subtests.test(str(body)):
            assert "/camera" not in assert_problem(scan(submit_client, job, **body), 422, code)


def test_jobs_of_other_keys_and_sealed_jobs_cannot_import(submit_client, other_client, admin_client, read_client):
    """Not even by an admin."""
    job = opened(submit_client)
    for api_client in (other_client, admin_client):
        assert_problem(scan(api_client, job, source="camera"), 404, "job_not_found")
    assert_problem(scan(read_client, job, source="camera"), 403, "not_allowed")
    submit_client.post(f"{job}/seal")
    assert_problem(scan(submit_client, job, source="camera"), 409, "job_sealed")


def test_an_imported_image_is_not_a_known_blob(submit_client, db, app_settings):
    """It may disappear from its source: a reference to its bytes is rejected."""
    job = opened(submit_client)
    scan(submit_client, job, source="camera")
    run_importer(app_settings, db)
    (digest,) = [claim.sha256 for claim in factories.claim_images(db, sources=["camera"])]
    assert submit_client.post("/v1/blobs/check", json={"sha256": [digest]}).json["known"] == []


def test_an_imported_image_can_be_verified(submit_client, db, app_settings):
    """It is read from its source again."""
    job = opened(submit_client)
    scan(submit_client, job, source="camera")
    run_importer(app_settings, db)
    factories.complete_claims(db, factories.claim_images(db, sources=["camera"]))
    (result,) = submit_client.get(f"{job}/results").json["results"]
    assert submit_client.post(f"/v1/results/{result['id']}/verify").status_code == 202
    assert [claim.location for claim in factories.claim_images(db, sources=["camera"])] == ["a.png"]


def thumbnail_url(client, db, app_settings):
    """The URL of the thumbnail of an imported image that has been classified."""
    job = opened(client)
    scan(client, job, source="camera")
    run_importer(app_settings, db)
    factories.complete_claims(db, factories.claim_images(db, sources=["camera"]))
    (result,) = client.get(f"{job}/results").json["results"]
    return f"/v1/images/{result['image_id']}/thumbnail"


def test_the_thumbnail_of_an_image_in_a_source_is_read_there(submit_client, db, app_settings):
    """Its bytes are not in the blob store, and need not be."""
    response = submit_client.get(thumbnail_url(submit_client, db, app_settings))
    assert response.status_code == 200, response.text
    assert response.data.startswith(b"\xff\xd8\xff")


def test_an_image_that_its_source_no_longer_has_is_gone(submit_client, db, app_settings, source_dir):
    """Also if the file now has other bytes: they are another image."""
    url = thumbnail_url(submit_client, db, app_settings)
    (source_dir / "a.png").write_bytes(factories.make_image(7))
    assert_problem(submit_client.get(url), 410, "image_gone")
    (source_dir / "a.png").unlink()
    assert_problem(submit_client.get(url), 410, "image_gone")


def test_a_source_that_does_not_answer_is_a_503(submit_client, db, app_settings, source_dir):
    """With Retry-After, and without the address of the source; when it is back, so is the thumbnail."""
    url = thumbnail_url(submit_client, db, app_settings)
    source_dir.rename(source_dir.parent / "unmounted")
    response = submit_client.get(url)
    assert str(source_dir.parent) not in assert_problem(response, 503, "source_unavailable")
    assert response.headers["Retry-After"]
    (source_dir.parent / "unmounted").rename(source_dir)
    assert submit_client.get(url).status_code == 200
