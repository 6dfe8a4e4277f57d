import io

import pytest

from core.db.queries import claims as claim_queries
from core.db.queries import models, shadows, workers
from sortbelt import errors
from sortbelt.client import multipart, sync_client
from tests.integration.api import conftest
from tests.support import bundles, factories
from tests.support.api_client import assert_problem, fetch_all_pages

FIELDS = {"name", "version", "digest", "stage", "share", "labels", "metrics", "built_in", "served_by", "refused_by"}
FIELDS |= {"created_at", "created_by", "promoted_at"}


@pytest.fixture(scope="module")
def version_files(tmp_path_factory):
    """The files of two versions."""
    folder = tmp_path_factory.mktemp("bundles")
    return [bundles.read_files(bundles.make_bundle(folder, version, size=22, seed=int(version))) for version in "23"]


@pytest.fixture
def app_settings(app_settings):
    """Settings that allow bundles larger than other requests."""
    return app_settings.model_copy(update={"max_bundle_bytes": 5_000_000})


def add(api_client, files):
    """Upload a bundle, as the client does."""
    body = multipart.Multipart(list(files.items()), field_name="files")
    return api_client.post("/v1/models", data=b"".join(body), content_type=body.headers["Content-Type"])


def stages(api_client):
    """Return the stage of each version in the list."""
    return {row["version"]: row["stage"] for row in api_client.get("/v1/models").json["models"]}


def test_a_bundle_is_uploaded_once(admin_client, version_files):
    """201 with the version as a candidate; repeated, 200 with the same."""
    first, again = add(admin_client, version_files[0]), add(admin_client, version_files[0])
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json == again.json
    assert set(first.json) == FIELDS
    assert (first.json["stage"], first.json["created_by"], first.json["labels"]) == (
        "candidate",
        "admin",
        list(bundles.LABELS),
    )
    assert first.json["metrics"] == {"accuracy": 0.5}


def test_every_key_sees_versions_and_their_workers(db, admin_client, submit_client, read_client, version_files):
    """Those that serve a version, and those that cannot load it, with the reason."""
    add(admin_client, version_files[0])
    db.write(workers.register, "w1", claim_queries.ModelRef(bundles.NAME, "2", "0" * 64), "cpu")
    db.write(workers.register, "w2", factories.MODEL_REF, "cpu")
    db.write(workers.update_models, "w2", {bundles.NAME: "1"}, {f"{bundles.NAME}@2": "The self-test fails."})
    for api_client in (admin_client, submit_client, read_client):
        (row,) = api_client.get("/v1/models").json["models"]
        assert row["served_by"] == ["w1"]
        assert row["refused_by"] == [{"worker": "w2", "reason": "The self-test fails."}]


def test_versions_are_promoted_and_rolled_back(admin_client, version_files):
    """The response is the live version."""
    for files in version_files:
        add(admin_client, files)
    for version in ("2", "3"):
        live = admin_client.post(f"/v1/models/{bundles.NAME}/promote", json={"version": version, "force": True})
        assert (live.status_code, live.json["version"], live.json["stage"]) == (200, version, "live")
    assert stages(admin_client) == {"2": "retired", "3": "live"}
    assert admin_client.post(f"/v1/models/{bundles.NAME}/rollback").json["version"] == "2"
    assert_problem(admin_client.post(f"/v1/models/{bundles.NAME}/rollback"), 409, "nothing_before")


def test_a_shadow_has_a_share(admin_client, version_files):
    """0 ends it; the live version cannot be a shadow."""
    for files in version_files:
        add(admin_client, files)
    admin_client.post(f"/v1/models/{bundles.NAME}/promote", json={"version": "2", "force": True})
    where = f"/v1/models/{bundles.NAME}/shadow"
    assert admin_client.post(where, json={"version": "3", "share": 0.5}).json["share"] == 0.5
    assert stages(admin_client) == {"2": "live", "3": "shadow"}
    assert admin_client.post(where, json={"version": "3", "share": 0}).json["stage"] == "candidate"
    assert_problem(admin_client.post(where, json={"version": "2", "share": 0.5}), 409, "is_live")
    for body in (
        *({"version": "3"}, {"share": 0.5}),
        *({"version": "3", "share": share} for share in (1.1, "x", True)),
    ):
        assert_problem(admin_client.post(where, json=body), 422, "bad_parameter")


def test_only_admins_change_models(submit_client, read_client, version_files):
    """403 for all others."""
    for api_client in (submit_client, read_client):
        assert_problem(add(api_client, version_files[0]), 403, "not_allowed")
        for verb in ("promote", "rollback", "shadow"):  # a missing role is reported first, whatever else is wrong
            assert_problem(
                api_client.post(f"/v1/models/{bundles.NAME}/{verb}", json={"version": "2"}), 403, "not_allowed"
            )
        assert api_client.get("/v1/models").json == {"models": []}


def test_a_version_with_other_content_is_a_conflict(admin_client, version_files):
    """409."""
    add(admin_client, version_files[0])
    assert "use another version number" in assert_problem(
        add(admin_client, version_files[0] | {"CARD.md": b"# Other"}), 409, "version_taken"
    )


def test_an_invalid_bundle_is_rejected(admin_client, version_files, subtests):
    """422 with a sentence; nothing is added."""
    uploads = {
        "no pickles": version_files[0] | {"weights.safetensors": b"\x80\x05."},
        "other weights": version_files[0] | {"weights.safetensors": version_files[1]["weights.safetensors"]},
        "a file too many": version_files[0] | {"run.py": b"print()"},
        "a file too few": {"model.json": version_files[0]["model.json"]},
        "nothing": {},
    }
    for what, files in uploads.items():
        with subtests.test(what):
            assert_problem(add(admin_client, files), 422, "bad_bundle")
    assert_problem(
        admin_client.post("/v1/models", data=b"x", content_type="application/octet-stream"), 422, "bad_bundle"
    )
    twice = {"files": [(io.BytesIO(b"x"), "CARD.md"), (io.BytesIO(b"y"), "CARD.md")]}
    assert_problem(admin_client.post("/v1/models", data=twice), 422, "bad_bundle")
    assert stages(admin_client) == {}


def test_a_bundle_over_its_limit_names_the_setting(admin_client, app_settings):
    """413; images keep their smaller limit."""
    too_much = {"weights.safetensors": bytes(app_settings.max_bundle_bytes)}
    assert "SORTBELT_MAX_BUNDLE_BYTES" in assert_problem(add(admin_client, too_much), 413, "body_too_large")
    images = [("a.png", bytes(app_settings.max_body_bytes))]
    assert "fewer images" in assert_problem(admin_client.post("/v1/jobs", images=images), 413, "body_too_large")


def test_a_missing_version_is_not_found(admin_client, version_files, subtests):
    """404 for any name and version."""
    add(admin_client, version_files[0])
    for name in ("unknown", "%00", "'", "a" * 500, "Ü"):
        with subtests.test(name[:20]):
            described = {"promote": {"version": "2"}, "rollback": None, "shadow": {"version": "2", "share": 0.5}}
            for verb, body in described.items():
                assert_problem(admin_client.post(f"/v1/models/{name}/{verb}", json=body), 404, "model_not_found")
    for version in ("7", "'", "x" * 1000):
        where = f"/v1/models/{bundles.NAME}/promote"
        assert_problem(admin_client.post(where, json={"version": version}), 404, "model_not_found")
    for body in ({}, {"version": 2}, {"version": None}, {"version": "\0"}, []):
        assert_problem(admin_client.post(f"/v1/models/{bundles.NAME}/promote", json=body), 422, "bad_parameter")


def test_jobs_are_accepted_for_models_with_a_live_version(db, admin_client, submit_client, tmp_path):
    """And for that of the settings; else the message lists them."""
    add(admin_client, bundles.read_files(bundles.make_bundle(tmp_path, "1", name="shapes", size=22)))
    image = [("a.png", factories.make_image())]
    there = assert_problem(submit_client.post("/v1/jobs", images=image, data={"model": "shapes"}), 422, "unknown_model")
    assert factories.MODEL in there
    admin_client.post("/v1/models/shapes/promote", json={"version": "1", "force": True})
    assert submit_client.post("/v1/jobs", images=image, data={"model": "shapes"}).json["model"] == "shapes"
    assert submit_client.post("/v1/jobs", json={"open": True, "model": "shapes"}).json["model"] == "shapes"
    assert submit_client.post("/v1/jobs", images=image).json["model"] == factories.MODEL
    there = assert_problem(submit_client.post("/v1/jobs", images=image, data={"model": "no"}), 422, "unknown_model")
    assert there == f"There is no model 'no'; the models are: shapes, {factories.MODEL}."


@pytest.fixture
def comparison_url(db, admin_client, submit_client, version_files):
    """The URL of a comparison: version 2 says sushi for five images, version 3 sandwich for all but one."""
    for files in version_files:
        add(admin_client, files)
    submit_client.post("/v1/jobs", images=[(f"{n}.png", factories.make_image(n)) for n in range(5)])
    claims = factories.claim_images(db)
    db.write(
        claim_queries.finish,
        [factories.outcome(claim) for claim in claims],
        claim_queries.ModelRef(bundles.NAME, "2", "0" * 64),
    )
    described = [
        factories.outcome(claim, label="sandwich", confidence=0.5 + n / 10) for n, claim in enumerate(claims[:4])
    ]
    third = db.read(models.get_version, bundles.NAME, "3")
    db.write(shadows.record, third.id, [*described, factories.outcome(claims[4], confidence=0.9)])
    return f"/v1/models/compare?a={bundles.NAME}@2&b={bundles.NAME}@3"


def test_a_comparison_has_agreement_and_disagreements(admin_client, comparison_url):
    """Counts, matrix, mean confidence, errors, and the images with both labels."""
    matches = admin_client.get(comparison_url).json
    assert (matches["compared"], matches["agreeing"], matches["agreement"]) == (5, 1, 0.2)
    assert matches["matrix"] == [{"a": "sushi", "b": "sandwich", "count": 4}, {"a": "sushi", "b": "sushi", "count": 1}]
    assert matches["mean_confidence"] == {"a": pytest.approx(0.9), "b": pytest.approx(0.7)}
    assert matches["errors"] == {"a": 0, "b": 0}
    assert [matches["a"], matches["b"]] == [{"name": bundles.NAME, "version": v} for v in "23"]
    assert [row["image"] for row in matches["disagreements"]] == ["3.png", "2.png", "1.png", "0.png"]
    assert matches["disagreements"][0]["b"] == {"label": "sandwich", "confidence": 0.8}


def test_a_comparison_needs_global_read(submit_client, read_client, admin_client, comparison_url):
    """It shows images of all keys."""
    assert read_client.get(comparison_url).json == admin_client.get(comparison_url).json
    assert "read, review or admin" in assert_problem(submit_client.get(comparison_url), 403, "not_allowed")


def test_disagreements_are_paginated(admin_client, comparison_url):
    """Each once, most confident first."""
    rows = fetch_all_pages(admin_client, f"{comparison_url}&limit=3", "disagreements")
    assert [row["image"] for row in rows] == ["3.png", "2.png", "1.png", "0.png"]


def test_versions_without_common_images_have_null_agreement(admin_client, version_files):
    """Not zero."""
    for files in version_files:
        add(admin_client, files)
    matches = admin_client.get(f"/v1/models/compare?a={bundles.NAME}@3&b={bundles.NAME}@2").json
    assert (matches["compared"], matches["agreement"], matches["mean_confidence"]) == (0, None, {"a": None, "b": None})


def test_an_invalid_comparison_is_rejected(admin_client, version_files, subtests):
    """One version only, versions of two models, unknown ones, or a malformed cursor."""
    add(admin_client, version_files[0])
    known = f"{bundles.NAME}@2"
    for query in (f"a={known}", f"a={known}&b=x", f"a={known}&b=other@2", f"a={known}&b={known}&limit=0", "a=@&b=@"):
        with subtests.test(query):
            assert_problem(admin_client.get(f"/v1/models/compare?{query}"), 422, "bad_parameter")
    for cursor in ("x", "MQ==", "bmFuIDE=", "MSAtMQ==", "MC41IDk5OTk5OTk5OTk5OTk5OTk5OTk5"):
        with subtests.test(cursor):
            assert_problem(
                admin_client.get(f"/v1/models/compare?a={known}&b={known}&cursor={cursor}"), 422, "bad_parameter"
            )
    assert_problem(admin_client.get(f"/v1/models/compare?a={known}&b={bundles.NAME}@7"), 404, "model_not_found")


def test_the_real_server_has_a_separate_limit_for_bundles(tmp_path, redis_url, database_template):
    """A bundle over it is rejected with the name of its setting."""
    small, large = bundles.make_bundle(tmp_path, "2", size=32), bundles.make_bundle(tmp_path, "3", size=48)
    assert 300_000 < (small / "weights.safetensors").stat().st_size < 2_000_000
    with (
        conftest.run_api_server(tmp_path, database_template, redis_url, MAX_BUNDLE_BYTES="2000000") as at,
        sync_client.Client(f"http://127.0.0.1:{at.port}", at.key) as admin,
    ):
        assert admin.add_model(small).title == f"{bundles.NAME}@2"
        with pytest.raises(errors.InvalidRequest, match="SORTBELT_MAX_BUNDLE_BYTES"):
            admin.add_model(large)
