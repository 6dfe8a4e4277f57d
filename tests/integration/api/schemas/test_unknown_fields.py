"""Unknown parameters and fields are rejected by name on every route, never ignored."""

import io
import json

import pytest

from api.schemas import base, validation_errors
from core import errors
from tests.support import factories
from tests.support.api_client import assert_problem

ANY = "0190a0a0-0000-7000-8000-000000000000"
BODIES = (
    ("/v1/jobs", {"open": True}, "metadata"),
    ("/v1/jobs/{job}/images", {"images": [{"name": "a", "sha256": "0" * 64}]}, "images"),
    ("/v1/jobs/{job}/scan", {"source": "photos"}, "prefix"),
    ("/v1/blobs/check", {"sha256": ["0" * 64]}, "sha256"),
    ("/v1/keys", {"name": "kitchen", "role": "read"}, "images_per_minute"),
    ("/v1/models/food/promote", {"version": "2"}, "version"),
    ("/v1/models/food/shadow", {"version": "2", "share": 0}, "share"),
)


def test_an_unknown_parameter_is_rejected_on_every_route(app, admin_client, subtests):
    """Before anything is done."""
    for rule in app.url_map.iter_rules():
        path = rule.rule.replace("<image_id>", "1").replace("<result_id>", "1").replace("<name>", "food")
        for argument in rule.arguments:
            path = path.replace(f"<{argument}>", ANY)
        is_document = rule.endpoint.startswith(("docs.", "swagger_ui.", "web."))
        for method in rule.methods - {"HEAD", "OPTIONS"} if not is_document else ():
            with subtests.test(method, path=path):
                response = admin_client.request(method, path + "?no_such_thing=1")
                assert "does not know the parameter 'no_such_thing' here" in assert_problem(
                    response, 422, "bad_parameter"
                )


def test_the_closest_and_all_known_names_are_listed(submit_client):
    """With the version of the server, for callers with a newer client."""
    detail = assert_problem(submit_client.get("/v1/results?lable=sushi&min_confidense=0.9&qqq=1"), 422, "bad_parameter")
    assert detail.startswith("This server (version ")
    assert "the parameter 'lable', 'min_confidense', 'qqq' here; did you mean label and min_confidence?" in detail
    assert "Known: cursor, custom_id, error, job, label, limit, " in detail
    assert assert_problem(submit_client.get("/v1/sources?limit=1"), 422, "bad_parameter").endswith(
        "'limit' here: there are none."
    )


def test_a_format_parameter_is_rejected_with_advice_about_accept(submit_client, finished_job):
    """As many other APIs have one."""
    for path in (finished_job["results_url"], "/v1/results"):
        assert "`Accept: text/csv`" in assert_problem(submit_client.get(f"{path}?format=csv"), 422, "bad_parameter")
    assert "Accept" not in assert_problem(submit_client.get("/v1/jobs?format=csv"), 422, "bad_parameter")


def test_an_unknown_field_of_a_body_is_rejected(submit_client, admin_client, subtests):
    """In each JSON body; the closest known one is suggested."""
    job = submit_client.post("/v1/jobs", json={"open": True}).json["id"]
    for path, good, near in BODIES:
        with subtests.test(path):
            api_client = admin_client if path.startswith(("/v1/keys", "/v1/models")) else submit_client
            response = api_client.post(path.format(job=job), json={**good, near[:-1] + "_": 1})
            assert f"the field '{near[:-1]}_' here; did you mean {near}?" in assert_problem(
                response, 422, "bad_parameter"
            )
    response = admin_client.request("PATCH", f"/v1/keys/{submit_client.id}", json={"nam": "x"})
    assert "did you mean name?" in assert_problem(response, 422, "bad_parameter")


def test_an_unknown_nested_field_is_rejected_with_its_location(submit_client):
    """A misspelt identifier would be lost."""
    body = {"images": [{"name": "a", "sha256": "0" * 64, "customid": "x"}]}
    detail = assert_problem(submit_client.post("/v1/jobs", json=body), 422, "bad_parameter")
    assert (
        "the field 'customid' in images[0]; did you mean custom_id? Known: custom_id, data, name, sha256, url."
        in detail
    )


def test_fields_are_rejected_where_no_body_is_taken(submit_client):
    """An empty object is harmless."""
    job = submit_client.post("/v1/jobs", json={"open": True}).json["id"]
    detail = assert_problem(submit_client.post(f"/v1/jobs/{job}/cancel", json={"reason": "x"}), 422, "bad_parameter")
    assert "the field 'reason' here: there are none." in detail
    assert submit_client.post(f"/v1/jobs/{job}/cancel", json={}).status_code == 200


@pytest.mark.parametrize(("field", "near"), [("prioriti", "priority"), ("custom_id", "custom_ids"), ("name", None)])
def test_an_unknown_field_of_a_form_is_rejected(submit_client, db, field, near):
    """Also one of a raw image; no job is created."""
    response = submit_client.post("/v1/jobs", images=[("a.png", factories.make_image())], data={field: "x"})
    detail = assert_problem(response, 422, "bad_parameter")
    assert f"the field '{field}' here" in detail
    assert near is None or f"did you mean {near}?" in detail
    assert factories.image_states(db) == {}


def test_files_under_another_name_are_rejected(submit_client, admin_client):
    """They would be lost without notice."""
    for api_client, path, part, near in (
        (submit_client, "/v1/jobs", "imgs", "images"),
        (admin_client, "/v1/models", "file", "files"),
    ):
        files = {
            near: (io.BytesIO(factories.make_image(1)), "a.png"),
            part: (io.BytesIO(factories.make_image(2)), "b.png"),
        }
        detail = assert_problem(api_client.post(path, data=files), 422, "bad_parameter")
        assert f"the part '{part}' here; did you mean {near}?" in detail


@pytest.mark.parametrize("name", ["images", "images[]", "images[0]", "image", "image[]", "file", "file[1]"])
def test_images_are_taken_under_the_names_that_libraries_give_them(submit_client, name):
    """Browsers, PHP and others name a list of files in various ways; without a file name they are an error."""
    files = {name: (io.BytesIO(factories.make_image(1)), "a.png")}
    assert submit_client.post("/v1/jobs", data=files).json["counts"]["total"] == 1
    assert_problem(submit_client.post("/v1/jobs", data={name: "x"}), 422, "no_images")


def test_parameters_beside_a_form_or_json_count_as_fields(submit_client):
    """Those of a raw image are rejected."""
    image = [("a.png", factories.make_image())]
    for options in ({"json": {"open": True}}, {"images": image}):
        assert submit_client.post("/v1/jobs?priority=interactive&fresh=true", **options).status_code == 202
        detail = assert_problem(submit_client.post("/v1/jobs?name=b.png", **options), 422, "bad_parameter")
        assert "the field 'name' here" in detail
    job = submit_client.post("/v1/jobs?model=nonsense", json={"open": True})
    assert_problem(job, 422, "unknown_model")


def test_repeated_parameters_and_fields_are_rejected(submit_client):
    """One of the values would be ignored."""
    detail = assert_problem(submit_client.get("/v1/results?label=a&label=b"), 422, "bad_parameter")
    assert detail == "The parameter 'label' was given 2 times; give it once."
    form = {"images": (io.BytesIO(factories.make_image()), "a.png"), "metadata": ["{}", "{}"]}
    assert "'metadata' was given 2 times" in assert_problem(
        submit_client.post("/v1/jobs", data=form), 422, "bad_parameter"
    )


def test_messages_are_short_however_much_is_unknown(submit_client):
    """Also for hundreds of fields, or errors, with long names."""
    for body in (
        {"open": True, **{f"{number}{'x' * 500}": 1 for number in range(400)}},
        {"images": [{"name": "a", "sha256": "0" * 64, f"{number}{'x' * 500}": 1} for number in range(400)]},
    ):
        assert len(assert_problem(submit_client.post("/v1/jobs", json=body), 422, "bad_parameter")) < 4_000


def test_the_key_is_checked_first(anonymous_client):
    """A caller without a key does not learn which parameters exist."""
    assert_problem(anonymous_client.get("/v1/jobs?foo=1"), 401, "no_key")


def test_the_document_allows_no_other_fields(anonymous_client):
    """And every operation may reject a parameter."""
    document = json.loads(anonymous_client.get("/openapi.json").text)
    for methods in document["paths"].values():
        for operation in methods.values():
            assert "bad_parameter" in operation["responses"]["422"]["description"]
            for media, content in operation.get("requestBody", {}).get("content", {}).items():
                if media != "image/*":
                    name = content["schema"].get("$ref", "").rpartition("/")[2]
                    schema = document["components"]["schemas"][name] if name else content["schema"]
                    assert schema["additionalProperties"] is False


def test_known_names_pass_and_unknown_ones_are_named():
    """The message has the kind of the names, and the closest known one."""
    assert base.PageQuery.parse({"limit": 5}).limit == 5
    names = validation_errors.FieldNames("parameter", also_known=["files"], hints={"Limit": "Write it small."})
    with pytest.raises(errors.BadParameter) as refused:
        base.PageQuery.parse({"Limit": 5}, names)
    assert "does not know the parameter 'Limit' here; did you mean limit? Known: files, limit. Write it small." in str(
        refused.value
    )
    assert [(fault.pointer, fault.code) for fault in refused.value.faults] == [("#/Limit", "unknown_field")]
