"""Actions on several images at once, over HTTP."""

import hashlib
import io
import zipfile

import pytest
import sqlalchemy as sa

from api import app as apps
from api.routes import selections as routes
from api.services import image_archive
from core import enums
from core.db.queries import api_keys, invariants, selections, url_fetches
from sortbelt.files import file_names
from tests.support import factories
from tests.support.api_client import ApiClient, assert_problem


@pytest.fixture
def ids(db, submit_client):
    """Return the ids of three finished images, the last of which failed, and of one that its header rejected."""
    images = [(f"{number}.png", factories.make_image(number)) for number in range(3)]
    submit_client.post("/v1/jobs", images=[*images, ("4.png", b"not an image")])
    claimed = factories.claim_images(db)
    factories.complete_claims(db, claimed[:2])
    factories.complete_claims(db, claimed[2:], label=None, error_code="timed_out", error_detail="It takes too long.")
    results = submit_client.get("/v1/results").json["results"]
    return [result["id"] for result in sorted(results, key=lambda result: result["image"])]


def test_images_are_reviewed_together(submit_client, other_client, read_client, ids):
    """Those without a label, and those of other keys, are named and stay as they are; a repeat changes nothing."""
    for _ in range(2):
        answer = submit_client.post("/v1/selections/review", json={"images": ids, "verdict": "none_of_these"}).json
        assert answer["reviewed"] == 2
        assert {fault["image_id"]: fault["code"] for fault in answer["failed"]} == dict.fromkeys(
            ids[2:], "nothing_to_review"
        )
    assert len(submit_client.get("/v1/reviews?history=true").json["reviews"]) == 2
    answer = other_client.post("/v1/selections/review", json={"images": ids, "verdict": "bad_image"}).json
    assert (answer["reviewed"], {fault["code"] for fault in answer["failed"]}) == (0, {"result_not_found"})
    assert_problem(
        read_client.post("/v1/selections/review", json={"images": ids, "label": "sushi"}), 403, "not_allowed"
    )


def test_images_are_deleted_together(app, db, submit_client, other_client, ids):
    """With receipts; those of other keys stay; a repeat returns the same receipts."""
    assert other_client.post("/v1/selections/delete", json={"images": ids}).json["deleted"] == []
    first = submit_client.post("/v1/selections/delete", json={"images": [*ids[:2], "999999"]}).json
    assert [receipt["image_id"] for receipt in first["deleted"]] == ids[:2]
    assert [fault["code"] for fault in first["failed"]] == ["image_not_found"]
    assert submit_client.post("/v1/selections/delete", json={"images": ids[:2]}).json["deleted"] == first["deleted"]
    assert len(submit_client.get("/v1/results").json["results"]) == 2
    assert db.read(invariants.miscounted_jobs) == 0


def test_a_selection_is_changed_in_steps(db, submit_client):
    """Each in a transaction of its own, since on SQLite all other writers wait for it; the answer has all steps."""
    images = [(f"{number}.png", factories.make_image(number)) for number in range(60)]
    submit_client.post("/v1/jobs", images=images)
    factories.complete_claims(db, factories.claim_images(db, limit=60))
    ids = [result["id"] for result in submit_client.get("/v1/results").json["results"]]
    known_and_unknown = [*ids, *map(str, range(10**6, 10**6 + 40))]
    changed_rows = []
    count = lambda conn: changed_rows.append(conn.info.pop("changes", 0))  # noqa: E731 (shorter than a function)

    def note(conn, _cursor, statement, *_):
        conn.info["changes"] = conn.info.get("changes", 0) + statement.startswith(("INSERT INTO rev", "DELETE FROM im"))

    sa.event.listen(db.engine, "commit", count)
    sa.event.listen(db.engine, "before_cursor_execute", note)
    review = {"images": known_and_unknown, "verdict": "bad_image"}
    reviewed = submit_client.post("/v1/selections/review", json=review).json
    deleted = submit_client.post("/v1/selections/delete", json={"images": known_and_unknown}).json
    assert (reviewed["reviewed"], len(reviewed["failed"])) == (60, 40)
    assert (len(deleted["deleted"]), len(deleted["failed"])) == (60, 40)
    assert sum(changed_rows) == 120
    assert max(changed_rows) <= 25
    assert db.read(invariants.miscounted_jobs) == 0


def test_images_are_resubmitted_together(db, submit_client, other_client, ids):
    """As one job, with unique names and another name; what has no bytes is left out; other keys have none of them."""
    second = submit_client.post("/v1/jobs", images=[("0.png", factories.make_image(7))]).json
    factories.complete_claims(db, factories.claim_images(db))
    ids = [*ids, submit_client.get(second["results_url"]).json["results"][0]["id"]]
    body = {"images": ids, "job_name": "Again", "fresh": True}
    job = submit_client.post("/v1/selections/resubmit", json=body)
    assert job.status_code == 202, job.text
    assert (job.json["name"], job.json["counts"]["queued"]) == ("Again", 4)
    assert job.json["left_out"] == [{"code": "unsupported_format", "images": 1}]
    factories.complete_claims(db, factories.claim_images(db))
    names = [result["image"] for result in submit_client.get(job.json["results_url"]).json["results"]]
    assert sorted(names) == ["0 (2).png", "0.png", "1.png", "2.png"]
    assert_problem(submit_client.post("/v1/selections/resubmit", json={"images": ids[3:4]}), 409, "nothing_to_retry")
    assert_problem(submit_client.post("/v1/selections/resubmit", json={**body, "model": "none"}), 422, "unknown_model")
    assert_problem(other_client.post("/v1/selections/resubmit", json=body), 404, "image_not_found")


@pytest.mark.parametrize("open_images", [None, 8])
def test_a_repeated_resubmission_under_an_idempotency_key_is_one_job(db, submit_client, admin_client, ids, open_images):
    """Also when a quota is used up; other content under the key is rejected, in a selection and in a submission."""
    if open_images:
        quota = {"open_images": open_images}
        assert admin_client.request("PATCH", f"/v1/keys/{submit_client.id}", json=quota).status_code == 200
    headers = {"Idempotency-Key": "again"}
    body = {"images": ids[:2], "fresh": True}
    first = submit_client.post("/v1/selections/resubmit", json=body, headers=headers)
    assert (first.status_code, first.json["counts"]["queued"]) == (202, 2)
    if open_images:
        filler = [(f"{number}.png", factories.make_image(10 + number)) for number in range(open_images - 2)]
        assert submit_client.post("/v1/jobs", images=filler).status_code == 202
    repeated = submit_client.post("/v1/selections/resubmit", json=body, headers=headers)
    assert (repeated.status_code, repeated.json["id"]) == (202, first.json["id"]), repeated.text
    for changed in ({"images": ids[1:3]}, {"fresh": False}, {"job_name": "Other"}):
        other = submit_client.post("/v1/selections/resubmit", json={**body, **changed}, headers=headers)
        assert_problem(other, 422, "idempotency_mismatch")
    upload = submit_client.post("/v1/jobs", images=[("a.png", factories.make_image(1))], headers=headers)
    assert_problem(upload, 422, "idempotency_mismatch")
    assert len(submit_client.get("/v1/jobs").json["jobs"]) == (3 if open_images else 2)
    too_long = submit_client.post("/v1/selections/resubmit", json=body, headers={"Idempotency-Key": "x" * 256})
    assert_problem(too_long, 422, "bad_parameter")


def test_a_repeated_resubmission_is_one_job_when_an_image_was_deleted(submit_client, ids):
    """Those left out are counted among the images that there are; other images are another resubmission."""
    headers, body = {"Idempotency-Key": "again"}, {"images": ids[:4]}
    first = submit_client.post("/v1/selections/resubmit", json=body, headers=headers)
    assert first.status_code == 202
    assert submit_client.request("DELETE", f"/v1/images/{ids[0]}").status_code == 200
    repeated = submit_client.post("/v1/selections/resubmit", json=body, headers=headers)
    assert (repeated.status_code, repeated.json.get("id")) == (202, first.json["id"]), repeated.text
    assert repeated.json["left_out"] == first.json["left_out"]
    other = submit_client.post("/v1/selections/resubmit", json={"images": ids[1:4]}, headers=headers)
    assert_problem(other, 422, "idempotency_mismatch")
    assert_problem(submit_client.post("/v1/selections/resubmit", json=body), 404, "image_not_found")


def test_images_that_were_not_fetched_are_fetched_for_the_new_job(app_settings):
    """By a resubmission and by a verification; else their jobs would never end."""
    changes = {"fetch_urls": True, "webhook_allow": "127.0.0.1"}
    app = apps.create_app(app_settings.model_copy(update=changes))
    db, key = app.extensions["sortbelt"].db, api_keys.generate()
    client = ApiClient(app.test_client(), key, db.write(api_keys.create, "me", enums.Role.SUBMIT, key).id)
    url = "http://127.0.0.1/a.jpg"
    first = client.post("/v1/jobs", json={"images": [{"name": "a.jpg", "url": url}]}).json
    client.post(f"/v1/jobs/{first['id']}/cancel")
    id_ = client.get(first["results_url"]).json["results"][0]["id"]
    resubmitted = client.post("/v1/selections/resubmit", json={"images": [id_]})
    verified = client.post(f"/v1/results/{id_}/verify")
    new_jobs = {response.json["id"] for response in (resubmitted, verified)}
    fetches = db.write(url_fetches.claim, limit=10, max_per_owner=10)
    assert {(fetch.job_id, fetch.url) for fetch in fetches} == {(job_id, url) for job_id in new_jobs}
    for fetch in fetches:
        db.write(url_fetches.fail, fetch, "fetch_failed", "It is not there.")
    assert {client.get(f"/v1/jobs/{job_id}").json["status"] for job_id in new_jobs} == {"failed"}
    db.close()


def test_images_are_downloaded_by_label(app, db, submit_client, other_client, ids, monkeypatch):
    """The label of a review goes first; what cannot be read is named; names do not lead out of the archive."""
    odd = submit_client.post("/v1/jobs", images=[("../../a:b.png", factories.make_image(8))]).json
    factories.complete_claims(db, factories.claim_images(db))
    ids = [*ids, submit_client.get(odd["results_url"]).json["results"][0]["id"]]
    label = submit_client.get(f"/v1/results/{ids[0]}").json["label"]
    submit_client.post("/v1/selections/review", json={"images": ids[:1], "verdict": "none_of_these"})
    digest = hashlib.sha256(factories.make_image(2)).hexdigest()
    app.extensions["sortbelt"].blob_store.path(digest).unlink()
    response = submit_client.post("/v1/selections/archive", json={"images": ids})
    assert response.status_code == 200, response.text
    chunks = list(response.response)
    assert len(chunks) == len(ids) + 1  # also for what cannot be read: other callers have their turns between chunks
    with zipfile.ZipFile(io.BytesIO(b"".join(chunks))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["none_of_these/0.png", f"{label}/1.png", f"{label}/a_b.png", "left-out.txt"]
        assert archive.read("none_of_these/0.png") == factories.make_image(0)
        left_out = archive.read("left-out.txt").decode().splitlines()
        assert [line.split(":")[0] for line in left_out] == ["2.png", "4.png"]
    assert_problem(other_client.post("/v1/selections/archive", json={"images": ids}), 404, "image_not_found")
    monkeypatch.setattr(image_archive, "MAX_BYTES", 10)
    problem = submit_client.post("/v1/selections/archive", json={"images": ids})
    assert "Select fewer" in assert_problem(problem, 422, "selection_too_large")


@pytest.mark.parametrize("images", [[], ["x"], ["1"] * 1001, None, "1"])
def test_a_selection_has_one_to_a_thousand_ids(submit_client, images):
    """Anything else is one clear error."""
    for action in ("review", "delete", "resubmit", "archive"):
        body = {"images": images, **({"label": "sushi"} if action == "review" else {})}
        assert_problem(submit_client.post(f"/v1/selections/{action}", json=body), 422, "bad_parameter")


def test_repeated_names_get_a_number():
    """Before the suffix, if there is one; a long name is cut, so that the whole is not longer than a name may be."""
    names = ["a.jpg", "a.jpg", "x/.b", "x/.b", "/", "/", "a (2).jpg", "c" * 1024, "c" * 1024]
    unique = selections.unique_names(names)
    assert unique[:7] == ["a.jpg", "a (2).jpg", "x/.b", "x/.b (2)", "/", "/ (2)", "a (2) (2).jpg"]
    assert unique[8] == "c" * 1020 + " (2)"


def test_a_number_is_never_cut_off():
    """Whatever is long: the suffix, the stem or the folder; else no number would make another name."""
    names = ["a." + "x" * 1022, "." + "x" * 1023, "a" * 1020 + ".jpg", "d" * 1021 + "/a", "/" * 1024, "a/" * 512]
    for name in [*names, "字" * 866, "a." + "é" * 1022, "\U0002070e" * 629 + "." + "\U0002070e" * 20]:
        unique = selections.unique_names([name] * 12)
        assert len(set(unique)) == 12
        assert not any(map(file_names.is_too_long, unique))
        assert all(f" ({number})" in numbered for number, numbered in enumerate(unique[1:], 2))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_one_selection_at_a_time_is_changed_on_sqlite(submit_client, ids, monkeypatch):
    """Others are asked to come back instead of occupying threads; the lock is free again afterwards."""
    monkeypatch.setattr(routes, "LOCK_TIMEOUT_SECONDS", 0.01)
    body = {"images": ids[:1], "verdict": "bad_image"}
    with routes._sqlite_lock:
        assert_problem(submit_client.post("/v1/selections/review", json=body), 503, "too_busy")
        assert_problem(submit_client.post("/v1/selections/delete", json={"images": ids[:1]}), 503, "too_busy")
    assert submit_client.post("/v1/selections/review", json=body).json["reviewed"] == 1
