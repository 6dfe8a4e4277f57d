import hashlib

from tests.api.asking import problem
from tests.jobs import making

MINE, THEIRS, NOBODYS = (making.picture(n) for n in (1, 2, 3))


def digest(data):
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def check(person, *pictures):
    """What the server says of these pictures."""
    response = person.post("/v1/blobs/check", json={"sha256": [digest(data) for data in pictures]})
    assert response.status_code == 200, response.text
    return response.json


def refer(name, data):
    """A picture by name and digest."""
    return {"name": name, "sha256": digest(data)}


def test_everybody_knows_only_what_they_sent_themselves(me, other, admin):
    """Also an admin: that somebody has these bytes is nobody's business."""
    me.post("/v1/jobs", images=[("a", MINE)])
    other.post("/v1/jobs", images=[("a", THEIRS)])
    assert check(me, MINE, THEIRS, NOBODYS, MINE) == {
        "known": [digest(MINE)],
        "missing": [digest(THEIRS), digest(NOBODYS)],
    }
    assert check(admin, MINE)["known"] == []


def test_what_was_refused_is_not_known(me):
    """It was never stored."""
    me.post("/v1/jobs", images=[("a", b"no picture")])
    assert check(me, b"no picture")["known"] == []


def test_what_is_known_can_be_ordered_without_sending_it(db, me):
    """As a job, and into an open one; and a repeat under one key is one job."""
    me.post("/v1/jobs", images=[("a", MINE)])
    order = {"images": [refer("x", MINE), refer("y", MINE)], "priority": "interactive"}
    answers = [me.post("/v1/jobs", json=order, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert {answer.status_code for answer in answers} == {202}
    assert answers[0].json["id"] == answers[1].json["id"]
    assert (answers[0].json["sealed"], answers[0].json["counts"]["total"]) == (True, 2)
    job = me.post("/v1/jobs", json={"open": True}).json
    for _ in range(2):
        response = me.post(job["images_url"], json={"images": [refer("z", MINE)]})
        assert response.status_code == 202, response.text
    assert response.json["counts"]["total"] == 1
    assert {claim.name: claim.sha256 for claim in making.claim(db)} == dict.fromkeys("axyz", digest(MINE))


def test_what_is_not_known_is_refused_by_its_name(db, me, other):
    """Also if somebody else has sent it; and nothing of the order is taken."""
    me.post("/v1/jobs", images=[("a", MINE)])
    other.post("/v1/jobs", images=[("b", THEIRS)])
    order = {"images": [refer("good", MINE), refer("bad", THEIRS)]}
    assert "'bad'" in problem(me.post("/v1/jobs", json=order), 422, "unknown_blob")
    job = me.post("/v1/jobs", json={"open": True}).json
    problem(me.post(job["images_url"], json=order), 422, "unknown_blob")
    assert set(making.images(db)) == {"a", "b"}


def test_two_of_one_name_are_refused_here_too(me):
    """A name is unique in its job."""
    me.post("/v1/jobs", images=[("a", MINE)])
    order = {"images": [refer("x", MINE), refer("x", MINE)]}
    problem(me.post("/v1/jobs", json=order), 422, "duplicate_name")


def test_malformed_digests_are_refused(me, reader, subtests):
    """By the name of the field; and a reader may not ask."""
    for body in ({}, {"sha256": []}, {"sha256": ["x"]}, {"sha256": "a" * 64}, {"sha256": ["A" * 64]}, {"sha256": [1]}):
        with subtests.test(str(body)[:40]):
            assert "sha256" in problem(me.post("/v1/blobs/check", json=body), 422, "bad_parameter")
    for body in ({"images": [{"name": "a"}]}, {"images": [{"name": "", "sha256": "a" * 64}]}, {"images": [1]}):
        with subtests.test(str(body)[:40]):
            assert "images" in problem(me.post("/v1/jobs", json=body), 422, "bad_parameter")
    problem(reader.post("/v1/blobs/check", json={"sha256": ["a" * 64]}), 403, "not_allowed")
