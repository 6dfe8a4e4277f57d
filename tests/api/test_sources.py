import pytest

from api import app as apps
from jobs import scanner
from tests.api.asking import problem
from tests.jobs import making


@pytest.fixture
def camera(tmp_path):
    """A folder on the server, with a picture in it."""
    root = tmp_path / "camera"
    root.mkdir()
    (root / "a.png").write_bytes(making.picture())
    return root


@pytest.fixture
def wanted(wanted, camera):
    """The settings of a small server that has sources."""
    return wanted.model_copy(update={"sources": f"camera={camera},photos=s3://photos/2026"})


@pytest.fixture
def app(wanted):
    """The application."""
    made = apps.create_app(wanted)
    yield made
    made.extensions["sortbelt"].db.close()


def opened(person):
    """The path of a new open job."""
    return f"/v1/jobs/{person.post('/v1/jobs', json={'open': True}).json['id']}"


def scan(person, job, **body):
    """Ask for a scan."""
    return person.post(f"{job}/scan", json=body)


def find(wanted, db):
    """One round of a scanner."""
    finder = scanner.Scanner(wanted, db)
    finder.look()
    finder.finish()
    finder.close()


def test_only_admins_learn_where_sources_are(me, reader, admin, camera):
    """Names are for whoever may submit."""
    assert me.get("/v1/sources").json == {
        "sources": [{"name": "camera", "address": None}, {"name": "photos", "address": None}]
    }
    told = [one["address"] for one in admin.get("/v1/sources").json["sources"]]
    assert told == [str(camera), "s3://photos/2026"]
    problem(reader.get("/v1/sources"), 403, "not_allowed")


def test_an_open_job_is_filled(me, db, wanted):
    """202 at once; the job tells of its scan, and is sealed when that has ended."""
    job = opened(me)
    assert me.get(job).json["scan"] is None
    before = me.get(job).headers["ETag"]
    answer = scan(me, job, source="camera", exclude=["thumbs"])
    assert answer.status_code == 202
    told = answer.json["scan"]
    assert told.pop("created_at") is not None
    assert told == {
        "source": "camera",
        "prefix": "",
        "include": [],
        "exclude": ["thumbs"],
        "status": "pending",
        "found": 0,
        "skipped": 0,
        "error": None,
        "ended_at": None,
    }
    assert me.get(job).headers["ETag"] != before
    assert me.post(f"{job}/seal").json["sealed"] is False
    find(wanted, db)
    after = me.get(job).json
    assert (after["scan"]["status"], after["scan"]["found"], after["sealed"]) == ("done", 1, True)
    assert after["counts"]["total"] == 1
    assert scan(me, job, source="camera", exclude=["thumbs"]).status_code == 202
    problem(scan(me, job, source="camera"), 409, "scan_taken")


def test_what_is_in_a_bucket_is_found_by_its_address(me):
    """So that one need not know what the server calls it."""
    answer = scan(me, opened(me), source="s3://photos/2026/january/")
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


def test_a_job_whose_scan_failed_has_failed(me, db, wanted):
    """Who polls its status must not take it for done; the list finds it so too."""
    job = opened(me)
    scan(me, job, source="camera", prefix="nowhere")
    find(wanted, db)
    told = me.get(job).json
    assert (told["status"], told["counts"]["total"], told["scan"]["status"]) == ("failed", 0, "failed")
    assert [one["id"] for one in me.get("/v1/jobs?status=failed").json["jobs"]] == [told["id"]]
    assert me.get("/v1/jobs?status=done").json["jobs"] == []


def test_what_is_not_on_the_list_is_refused(me, subtests):
    """And so is a way out of what is."""
    job = opened(me)
    for body, code in REFUSED:
        with subtests.test(str(body)):
            assert "/camera" not in problem(scan(me, job, **body), 422, code)


def test_other_people_s_jobs_and_sealed_ones(me, other, admin, reader):
    """Not theirs to fill; nor is it an admin's."""
    job = opened(me)
    for person in (other, admin):
        problem(scan(person, job, source="camera"), 404, "job_not_found")
    problem(scan(reader, job, source="camera"), 403, "not_allowed")
    me.post(f"{job}/seal")
    problem(scan(me, job, source="camera"), 409, "job_sealed")


def test_what_only_lies_in_a_source_was_never_sent(me, db, wanted):
    """It may be gone from there: a reference to its bytes as sent before is refused."""
    job = opened(me)
    scan(me, job, source="camera")
    find(wanted, db)
    (digest,) = [claim.sha256 for claim in making.claim(db, sources=["camera"])]
    assert me.post("/v1/blobs/check", json={"sha256": [digest]}).json["known"] == []


def test_looking_again_at_a_picture_in_a_source(me, db, wanted):
    """`verify` finds it where it lies."""
    job = opened(me)
    scan(me, job, source="camera")
    find(wanted, db)
    making.finish(db, making.claim(db, sources=["camera"]))
    (result,) = me.get(f"{job}/results").json["results"]
    assert me.post(f"/v1/results/{result['id']}/verify").status_code == 202
    assert [claim.location for claim in making.claim(db, sources=["camera"])] == ["a.png"]
