import hashlib

from tests.support import factories
from tests.support.api_client import assert_problem

MINE, THEIRS, NOBODYS = (factories.make_image(n) for n in (1, 2, 3))


def digest(data):
    """Return the SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def check(api_client, *images):
    """Return the server's answer about these images."""
    response = api_client.post("/v1/blobs/check", json={"sha256": [digest(data) for data in images]})
    assert response.status_code == 200, response.text
    return response.json


def refer(name, data):
    """Return a reference by name and digest."""
    return {"name": name, "sha256": digest(data)}


def test_only_blobs_of_the_same_key_are_known(submit_client, other_client, admin_client):
    """Also to an admin: what others have sent is private."""
    submit_client.post("/v1/jobs", images=[("a", MINE)])
    other_client.post("/v1/jobs", images=[("a", THEIRS)])
    assert check(submit_client, MINE, THEIRS, NOBODYS, MINE) == {
        "known": [digest(MINE)],
        "missing": [digest(THEIRS), digest(NOBODYS)],
    }
    assert check(admin_client, MINE)["known"] == []


def test_a_rejected_image_is_not_known(submit_client):
    """It was never stored."""
    submit_client.post("/v1/jobs", images=[("a", b"not an image")])
    assert check(submit_client, b"not an image")["known"] == []


def test_a_known_image_can_be_submitted_by_reference(db, submit_client):
    """As a job, and to an open one; a repeat with one idempotency key is one job."""
    submit_client.post("/v1/jobs", images=[("a", MINE)])
    order = {"images": [refer("x", MINE), refer("y", MINE)], "priority": "interactive"}
    answers = [submit_client.post("/v1/jobs", json=order, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert {answer.status_code for answer in answers} == {202}
    assert answers[0].json["id"] == answers[1].json["id"]
    assert (answers[0].json["sealed"], answers[0].json["counts"]["total"]) == (True, 2)
    job = submit_client.post("/v1/jobs", json={"open": True}).json
    for _ in range(2):
        response = submit_client.post(job["images_url"], json={"images": [refer("z", MINE)]})
        assert response.status_code == 202, response.text
    assert response.json["counts"]["total"] == 1
    assert {claim.name: claim.sha256 for claim in factories.claim_images(db)} == dict.fromkeys("axyz", digest(MINE))


def test_a_repeat_is_the_first_job_when_its_images_were_deleted(db, submit_client):
    """Under an idempotency key; another submission under it is rejected as such."""
    submit_client.post("/v1/jobs", images=[("a", MINE)])
    order, headers = {"images": [refer("x", MINE)]}, {"Idempotency-Key": "k"}
    first = submit_client.post("/v1/jobs", json=order, headers=headers)
    assert first.status_code == 202
    factories.complete_claims(db, factories.claim_images(db))
    for row in submit_client.get("/v1/results").json["results"]:
        assert submit_client.request("DELETE", f"/v1/images/{row['image_id']}").status_code == 200
    assert check(submit_client, MINE)["known"] == []
    repeated = submit_client.post("/v1/jobs", json=order, headers=headers)
    assert (repeated.status_code, repeated.json.get("id")) == (202, first.json["id"]), repeated.text
    other = submit_client.post("/v1/jobs", json={"images": [refer("y", MINE)]}, headers=headers)
    assert_problem(other, 422, "idempotency_mismatch")
    assert_problem(submit_client.post("/v1/jobs", json=order), 422, "unknown_blob")


def test_an_unknown_blob_is_rejected_by_name(db, submit_client, other_client):
    """Also if another key has sent it; and nothing of the submission is accepted."""
    submit_client.post("/v1/jobs", images=[("a", MINE)])
    other_client.post("/v1/jobs", images=[("b", THEIRS)])
    order = {"images": [refer("good", MINE), refer("bad", THEIRS)]}
    assert "'bad'" in assert_problem(submit_client.post("/v1/jobs", json=order), 422, "unknown_blob")
    job = submit_client.post("/v1/jobs", json={"open": True}).json
    assert_problem(submit_client.post(job["images_url"], json=order), 422, "unknown_blob")
    assert set(factories.image_states(db)) == {"a", "b"}


def test_repeated_names_are_rejected_here_too(submit_client):
    """A name is unique in its job."""
    submit_client.post("/v1/jobs", images=[("a", MINE)])
    order = {"images": [refer("x", MINE), refer("x", MINE)]}
    assert_problem(submit_client.post("/v1/jobs", json=order), 422, "duplicate_name")


def test_malformed_digests_are_rejected(submit_client, read_client, subtests):
    """With the name of the field; and a key of the role read is 403."""
    for body in ({}, {"sha256": []}, {"sha256": ["x"]}, {"sha256": "a" * 64}, {"sha256": ["A" * 64]}, {"sha256": [1]}):
        with subtests.test(str(body)[:40]):
            assert "sha256" in assert_problem(submit_client.post("/v1/blobs/check", json=body), 422, "bad_parameter")
    for body in ({"images": [{"name": "a"}]}, {"images": [{"name": "", "sha256": "a" * 64}]}, {"images": [1]}):
        with subtests.test(str(body)[:40]):
            assert "images" in assert_problem(submit_client.post("/v1/jobs", json=body), 422, "bad_parameter")
    assert_problem(read_client.post("/v1/blobs/check", json={"sha256": ["a" * 64]}), 403, "not_allowed")
