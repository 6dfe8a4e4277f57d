"""Whoever misspells something is told so, on every route: nothing is passed over in silence."""

import io
import json

import pytest

from api import unknown
from jobs import errors
from tests.api.asking import Person, problem
from tests.jobs import making

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


def test_a_parameter_that_a_call_does_not_know_is_refused_on_every_route(app, admin, subtests):
    """Whatever the call is about: the name is told before anything is done."""
    for rule in app.url_map.iter_rules():
        path = rule.rule.replace("<image_id>", "1").replace("<result_id>", "1").replace("<name>", "food")
        for argument in rule.arguments:
            path = path.replace(f"<{argument}>", ANY)
        for method in rule.methods - {"HEAD", "OPTIONS"} if not rule.endpoint.startswith(("docs.", "web.")) else ():
            with subtests.test(method, path=path):
                response = admin.ask(method, path + "?no_such_thing=1")
                assert "knows no parameter 'no_such_thing' here" in problem(response, 422, "bad_parameter")


def test_the_nearest_is_told_and_all_there_are(me):
    """And the server's version: whoever has a newer client understands why it does not know."""
    detail = problem(me.get("/v1/results?lable=sushi&min_confidense=0.9&qqq=1"), 422, "bad_parameter")
    assert detail.startswith("This server (version ")
    assert "no parameter 'lable', 'min_confidense', 'qqq' here; did you mean label and min_confidence?" in detail
    assert "There are: cursor, custom_id, error, job, label, limit, " in detail
    assert problem(me.get("/v1/sources?limit=1"), 422, "bad_parameter").endswith("'limit' here: there are none.")


def test_who_asks_for_a_form_by_a_parameter_is_told_of_accept(me, done):
    """Many an API has it so."""
    for path in (done["results_url"], "/v1/results"):
        assert "`Accept: text/csv`" in problem(me.get(f"{path}?format=csv"), 422, "bad_parameter")
    assert "Accept" not in problem(me.get("/v1/jobs?format=csv"), 422, "bad_parameter")


def test_a_field_that_a_body_must_not_have_is_refused(me, admin, subtests):
    """Each JSON body; the nearest is told."""
    job = me.post("/v1/jobs", json={"open": True}).json["id"]
    for path, good, near in BODIES:
        with subtests.test(path):
            person = admin if path.startswith(("/v1/keys", "/v1/models")) else me
            response = person.post(path.format(job=job), json={**good, near[:-1] + "_": 1})
            assert f"no field '{near[:-1]}_' here; did you mean {near}?" in problem(response, 422, "bad_parameter")
    response = admin.ask("PATCH", f"/v1/keys/{me.id}", json={"nam": "x"})
    assert "did you mean name?" in problem(response, 422, "bad_parameter")


def test_a_field_inside_is_refused_with_its_place(me):
    """A misspelt identifier would be lost for good."""
    body = {"images": [{"name": "a", "sha256": "0" * 64, "customid": "x"}]}
    detail = problem(me.post("/v1/jobs", json=body), 422, "bad_parameter")
    assert "no field 'customid' in images[0]; did you mean custom_id? There are: custom_id, name, sha256." in detail


def test_a_body_where_none_is_wanted_is_refused_if_it_says_anything(me):
    """An empty object says nothing, and does no harm."""
    job = me.post("/v1/jobs", json={"open": True}).json["id"]
    detail = problem(me.post(f"/v1/jobs/{job}/cancel", json={"reason": "x"}), 422, "bad_parameter")
    assert "no field 'reason' here: there are none." in detail
    assert me.post(f"/v1/jobs/{job}/cancel", json={}).status_code == 200


@pytest.mark.parametrize(("field", "near"), [("prioriti", "priority"), ("custom_id", "custom_ids"), ("name", None)])
def test_a_field_that_a_form_must_not_have_is_refused(me, db, field, near):
    """Also one that only a raw picture has; no job is made."""
    response = me.post("/v1/jobs", images=[("a.png", making.picture())], data={field: "x"})
    detail = problem(response, 422, "bad_parameter")
    assert f"no field '{field}' here" in detail
    assert near is None or f"did you mean {near}?" in detail
    assert making.images(db) == {}


def test_files_under_another_name_are_refused(me, admin):
    """They would be left out, and nobody would know."""
    for person, path, part, near in ((me, "/v1/jobs", "image", "images"), (admin, "/v1/models", "file", "files")):
        files = {near: (io.BytesIO(making.picture(1)), "a.png"), part: (io.BytesIO(making.picture(2)), "b.png")}
        detail = problem(person.post(path, data=files), 422, "bad_parameter")
        assert f"no part '{part}' here; did you mean {near}?" in detail


def test_what_the_url_says_beside_a_form_or_json_counts_or_is_refused(me):
    """It is not passed over either: an order's fields hold, those of a raw picture are refused."""
    picture = [("a.png", making.picture())]
    for options in ({"json": {"open": True}}, {"images": picture}):
        assert me.post("/v1/jobs?priority=interactive&fresh=true", **options).status_code == 202
        detail = problem(me.post("/v1/jobs?name=b.png", **options), 422, "bad_parameter")
        assert "no field 'name' here" in detail
    job = me.post("/v1/jobs?model=nonsense", json={"open": True})
    problem(job, 422, "unknown_model")


def test_what_is_given_twice_is_refused(me):
    """One of the two would be passed over."""
    detail = problem(me.get("/v1/results?label=a&label=b"), 422, "bad_parameter")
    assert detail == "The parameter 'label' is given 2 times; give it once."
    form = {"images": (io.BytesIO(making.picture()), "a.png"), "metadata": ["{}", "{}"]}
    assert "'metadata' is given 2 times" in problem(me.post("/v1/jobs", data=form), 422, "bad_parameter")


def test_an_answer_stays_small_however_much_is_unknown(me):
    """Ten thousand fields, or faults, and long names, are told of in a few lines."""
    for body in (
        {"open": True, **{f"{number}{'x' * 500}": 1 for number in range(400)}},
        {"images": [{"name": "a", "sha256": "0" * 64, f"{number}{'x' * 500}": 1} for number in range(400)]},
    ):
        assert len(problem(me.post("/v1/jobs", json=body), 422, "bad_parameter")) < 4_000


def test_the_key_is_asked_for_first(app):
    """Nobody without one learns anything from it."""
    problem(Person(app.test_client(), None).get("/v1/jobs?foo=1"), 401, "no_key")


def test_the_document_says_that_there_is_nothing_else(app):
    """No body has fields but those it names, and every call may refuse a parameter."""
    document = json.loads(Person(app.test_client(), None).get("/openapi.json").text)
    for methods in document["paths"].values():
        for operation in methods.values():
            assert "bad_parameter" in operation["responses"]["422"]["description"]
            for media, content in operation.get("requestBody", {}).get("content", {}).items():
                if media != "image/*":
                    assert content["schema"]["additionalProperties"] is False


def test_what_is_known_passes():
    """And what is not is an error of the caller's."""
    unknown.refuse("field", ["a"], ["a", "b"])
    with pytest.raises(errors.BadParameter, match="knows no field 'A' here; did you mean a\\?"):
        unknown.refuse("field", ["A"], ["a", "b"])
