import io

import pytest

from jobs.store import models, shadows, work, workers
from sortbelt import client, errors, multipart
from tests import bundles
from tests.api import conftest
from tests.api.asking import problem, walk
from tests.jobs import making

FIELDS = {"name", "version", "digest", "stage", "share", "labels", "metrics", "built_in", "served_by", "refused_by"}
FIELDS |= {"created_at", "created_by", "promoted_at"}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The files of two versions."""
    folder = tmp_path_factory.mktemp("bundles")
    return [bundles.files(bundles.make(folder, version, size=22, seed=int(version))) for version in "23"]


@pytest.fixture
def wanted(wanted):
    """Room for a bundle, which is larger than what the tests allow a request."""
    return wanted.model_copy(update={"max_bundle_bytes": 5_000_000})


def add(person, files):
    """Upload a bundle, as the client does."""
    body = multipart.Multipart(list(files.items()), part="files")
    return person.post("/v1/models", data=b"".join(body), content_type=body.headers["Content-Type"])


def stages(person):
    """The stage of each version, as the list tells it."""
    return {row["version"]: row["stage"] for row in person.get("/v1/models").json["models"]}


def test_a_bundle_is_uploaded_once(admin, two):
    """201 with the version as a candidate; again 200 with the same."""
    first, again = add(admin, two[0]), add(admin, two[0])
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json == again.json
    assert set(first.json) == FIELDS
    assert (first.json["stage"], first.json["created_by"], first.json["labels"]) == (
        "candidate",
        "admin",
        list(bundles.LABELS),
    )
    assert first.json["metrics"] == {"accuracy": 0.5}


def test_everybody_sees_the_versions_and_who_serves_them(db, admin, me, reader, two):
    """Which worker answers with it, and which cannot, and why."""
    add(admin, two[0])
    db.write(workers.enter, "w1", work.Maker(bundles.NAME, "2", "0" * 64), "cpu")
    db.write(workers.enter, "w2", making.MAKER, "cpu")
    db.write(workers.note_models, "w2", {bundles.NAME: "1"}, {f"{bundles.NAME}@2": "The self-test fails."})
    for person in (admin, me, reader):
        (row,) = person.get("/v1/models").json["models"]
        assert row["served_by"] == ["w1"]
        assert row["refused_by"] == [{"worker": "w2", "reason": "The self-test fails."}]


def test_versions_are_promoted_and_taken_back(admin, two):
    """The answer is the version that is live now."""
    for files in two:
        add(admin, files)
    for version in ("2", "3"):
        live = admin.post(f"/v1/models/{bundles.NAME}/promote", json={"version": version})
        assert (live.status_code, live.json["version"], live.json["stage"]) == (200, version, "live")
    assert stages(admin) == {"2": "retired", "3": "live"}
    assert admin.post(f"/v1/models/{bundles.NAME}/rollback").json["version"] == "2"
    problem(admin.post(f"/v1/models/{bundles.NAME}/rollback"), 409, "nothing_before")


def test_a_shadow_gets_a_share(admin, two):
    """And 0 ends it; the live version can be none."""
    for files in two:
        add(admin, files)
    admin.post(f"/v1/models/{bundles.NAME}/promote", json={"version": "2"})
    where = f"/v1/models/{bundles.NAME}/shadow"
    assert admin.post(where, json={"version": "3", "share": 0.5}).json["share"] == 0.5
    assert stages(admin) == {"2": "live", "3": "shadow"}
    assert admin.post(where, json={"version": "3", "share": 0}).json["stage"] == "candidate"
    problem(admin.post(where, json={"version": "2", "share": 0.5}), 409, "is_live")
    for body in ({"version": "3"}, {"share": 0.5}, {"version": "3", "share": 1.1}, {"version": "3", "share": "x"}):
        problem(admin.post(where, json=body), 422, "bad_parameter")


def test_only_admins_change_anything(me, reader, two):
    """403 for all others."""
    for person in (me, reader):
        problem(add(person, two[0]), 403, "not_allowed")
        for verb in ("promote", "rollback", "shadow"):  # who may not is told so first, whatever else is wrong
            problem(person.post(f"/v1/models/{bundles.NAME}/{verb}", json={"version": "2"}), 403, "not_allowed")
        assert person.get("/v1/models").json == {"models": []}


def test_a_version_that_is_taken_is_a_conflict(admin, two):
    """Other content under a version that is there: 409."""
    add(admin, two[0])
    assert "version of its own" in problem(add(admin, two[0] | {"CARD.md": b"# Other"}), 409, "version_taken")


def test_what_is_no_bundle_is_refused(admin, two, subtests):
    """422 with a sentence; nothing is there afterwards."""
    uploads = {
        "no pickles": two[0] | {"weights.safetensors": b"\x80\x05."},
        "other weights": two[0] | {"weights.safetensors": two[1]["weights.safetensors"]},
        "a file too many": two[0] | {"run.py": b"print()"},
        "a file too few": {"model.json": two[0]["model.json"]},
        "nothing": {},
    }
    for what, files in uploads.items():
        with subtests.test(what):
            problem(add(admin, files), 422, "bad_bundle")
    problem(admin.post("/v1/models", data=b"x", content_type="application/octet-stream"), 422, "bad_bundle")
    twice = {"files": [(io.BytesIO(b"x"), "CARD.md"), (io.BytesIO(b"y"), "CARD.md")]}
    problem(admin.post("/v1/models", data=twice), 422, "bad_bundle")
    assert stages(admin) == {}


def test_a_bundle_over_its_limit_says_which_setting_it_is(admin, wanted):
    """413; pictures keep the smaller limit of their own."""
    too_much = {"weights.safetensors": bytes(wanted.max_bundle_bytes)}
    assert "SORTBELT_MAX_BUNDLE_BYTES" in problem(add(admin, too_much), 413, "body_too_large")
    pictures = [("a.png", bytes(wanted.max_body_bytes))]
    assert "fewer pictures" in problem(admin.post("/v1/jobs", images=pictures), 413, "body_too_large")


def test_what_is_not_there_is_not_found(admin, two, subtests):
    """404, whatever the name and the version look like."""
    add(admin, two[0])
    for name in ("nobody", "%00", "'", "a" * 500, "Ü"):
        with subtests.test(name[:20]):
            said = {"promote": {"version": "2"}, "rollback": None, "shadow": {"version": "2", "share": 0.5}}
            for verb, body in said.items():
                problem(admin.post(f"/v1/models/{name}/{verb}", json=body), 404, "model_not_found")
    for version in ("7", "'", "x" * 1000):
        where = f"/v1/models/{bundles.NAME}/promote"
        problem(admin.post(where, json={"version": version}), 404, "model_not_found")
    for body in ({}, {"version": 2}, {"version": None}, {"version": "\0"}, []):
        problem(admin.post(f"/v1/models/{bundles.NAME}/promote", json=body), 422, "bad_parameter")


def test_jobs_are_taken_for_every_model_with_a_live_version(db, admin, me, tmp_path):
    """And for that of the settings, whatever is registered; else the sentence names those there are."""
    add(admin, bundles.files(bundles.make(tmp_path, "1", name="shapes", size=22)))
    picture = [("a.png", making.picture())]
    there = problem(me.post("/v1/jobs", images=picture, data={"model": "shapes"}), 422, "unknown_model")
    assert making.MODEL in there
    admin.post("/v1/models/shapes/promote", json={"version": "1"})
    assert me.post("/v1/jobs", images=picture, data={"model": "shapes"}).json["model"] == "shapes"
    assert me.post("/v1/jobs", json={"open": True, "model": "shapes"}).json["model"] == "shapes"
    assert me.post("/v1/jobs", images=picture).json["model"] == making.MODEL
    there = problem(me.post("/v1/jobs", images=picture, data={"model": "no"}), 422, "unknown_model")
    assert there == f"There is no model 'no'; there is: shapes, {making.MODEL}."


@pytest.fixture
def compared(db, admin, me, two):
    """Five pictures that version 2 calls sushi, and version 3 sandwich but one; the URL of the comparison."""
    for files in two:
        add(admin, files)
    me.post("/v1/jobs", images=[(f"{n}.png", making.picture(n)) for n in range(5)])
    claims = making.claim(db)
    db.write(work.finish, [making.fate(claim) for claim in claims], work.Maker(bundles.NAME, "2", "0" * 64))
    said = [making.fate(claim, label="sandwich", confidence=0.5 + n / 10) for n, claim in enumerate(claims[:4])]
    third = db.read(models.version, bundles.NAME, "3")
    db.write(shadows.write, third.id, [*said, making.fate(claims[4], confidence=0.9)])
    return f"/v1/models/compare?a={bundles.NAME}@2&b={bundles.NAME}@3"


def test_a_comparison_tells_agreement_and_where_there_is_none(admin, compared):
    """Share, matrix, mean confidence, errors, and the pictures with what each said."""
    found = admin.get(compared).json
    assert (found["compared"], found["agreeing"], found["agreement"]) == (5, 1, 0.2)
    assert found["matrix"] == [{"a": "sushi", "b": "sandwich", "count": 4}, {"a": "sushi", "b": "sushi", "count": 1}]
    assert found["mean_confidence"] == {"a": pytest.approx(0.9), "b": pytest.approx(0.7)}
    assert found["errors"] == {"a": 0, "b": 0}
    assert [found["a"], found["b"]] == [{"name": bundles.NAME, "version": v} for v in "23"]
    assert [row["image"] for row in found["disagreements"]] == ["3.png", "2.png", "1.png", "0.png"]
    assert found["disagreements"][0]["b"] == {"label": "sandwich", "confidence": 0.8}


def test_a_comparison_tells_of_everybody_s_pictures_and_so_only_who_sees_them(me, reader, admin, compared):
    """Keys of the role `submit` do not."""
    assert reader.get(compared).json == admin.get(compared).json
    assert "read or admin" in problem(me.get(compared), 403, "not_allowed")


def test_disagreements_are_walked_page_by_page(admin, compared):
    """Each once, the surest first."""
    rows = walk(admin, f"{compared}&limit=3", "disagreements")
    assert [row["image"] for row in rows] == ["3.png", "2.png", "1.png", "0.png"]


def test_versions_that_share_no_picture_have_no_agreement(admin, two):
    """None, not zero."""
    for files in two:
        add(admin, files)
    found = admin.get(f"/v1/models/compare?a={bundles.NAME}@3&b={bundles.NAME}@2").json
    assert (found["compared"], found["agreement"], found["mean_confidence"]) == (0, None, {"a": None, "b": None})


def test_an_impossible_comparison_is_refused(admin, two, subtests):
    """One version only, versions of two models, unknown ones, or a cursor of somebody else's."""
    add(admin, two[0])
    known = f"{bundles.NAME}@2"
    for query in (f"a={known}", f"a={known}&b=x", f"a={known}&b=other@2", f"a={known}&b={known}&limit=0", "a=@&b=@"):
        with subtests.test(query):
            problem(admin.get(f"/v1/models/compare?{query}"), 422, "bad_parameter")
    for cursor in ("x", "MQ==", "bmFuIDE=", "MSAtMQ==", "MC41IDk5OTk5OTk5OTk5OTk5OTk5OTk5"):
        with subtests.test(cursor):
            problem(admin.get(f"/v1/models/compare?a={known}&b={known}&cursor={cursor}"), 422, "bad_parameter")
    problem(admin.get(f"/v1/models/compare?a={known}&b={bundles.NAME}@7"), 404, "model_not_found")


def test_the_real_server_takes_a_bundle_larger_than_a_request_of_pictures(tmp_path, redis_url, template):
    """By a socket: the limit of bundles is their own, and what is over it is refused by that setting's name."""
    small, large = bundles.make(tmp_path, "2", size=32), bundles.make(tmp_path, "3", size=48)
    assert 300_000 < (small / "weights.safetensors").stat().st_size < 2_000_000
    with (
        conftest.serve(tmp_path, template, redis_url, MAX_BUNDLE_BYTES="2000000") as at,
        client.Client(f"http://127.0.0.1:{at.port}", at.key) as admin,
    ):
        assert admin.add_model(small).title == f"{bundles.NAME}@2"
        with pytest.raises(errors.Invalid, match="SORTBELT_MAX_BUNDLE_BYTES"):
            admin.add_model(large)
