"""Webhooks over HTTP: ordered with a job, listed, replayed; and the secret that signs them."""

import hashlib
import io
import json

import pytest
import sqlalchemy as sa

from jobs import webhooks
from jobs.store import deliveries
from tests.api.asking import Person, problem, walk
from tests.jobs import making

HOOK = "https://hooks.example/sortbelt?token=1"
PATH = "/v1/webhooks/deliveries"


def orders(me):
    """A job with a webhook, in each way that a job is ordered."""
    picture = making.picture()
    form = {"images": (io.BytesIO(picture), "a.png"), "webhook": HOOK}
    raw = {"data": picture, "headers": {"Content-Type": "image/png"}, "query_string": {"webhook": HOOK}}
    me.post("/v1/jobs", data=picture, headers={"Content-Type": "image/png"})
    digest = hashlib.sha256(picture).hexdigest()
    return {
        "form": lambda: me.post("/v1/jobs", data=form),
        "form, in the URL": lambda: me.post(
            "/v1/jobs", images=[("a.png", picture)], data={"model": making.MODEL}, query_string={"webhook": HOOK}
        ),
        "raw": lambda: me.post("/v1/jobs", **raw),
        "open": lambda: me.post("/v1/jobs", json={"open": True, "webhook": HOOK}),
        "sent before": lambda: me.post("/v1/jobs", json={"images": [{"name": "a", "sha256": digest}], "webhook": HOOK}),
    }


def test_a_webhook_is_ordered_like_everything_else(me, subtests):
    """As a field, a parameter, or in JSON; and the job tells it."""
    for way, order in orders(me).items():
        with subtests.test(way):
            answer = order()
            assert answer.status_code == 202, answer.text
            assert answer.json["webhook"] == HOOK
            assert me.get(f"/v1/jobs/{answer.json['id']}").json["webhook"] == HOOK
    assert me.post("/v1/jobs", images=[("a.png", making.picture())]).json["webhook"] is None


@pytest.mark.parametrize(
    "url", ["http://hooks.example/", "https://10.0.0.1/", "https://[::1]/", "x", "", 7, "https://a b"]
)
def test_a_webhook_that_may_not_be_is_refused(me, url, db):
    """Before anything is taken in."""
    detail = problem(me.post("/v1/jobs", json={"open": True, "webhook": url}), 422, "bad_parameter")
    assert "webhook" in detail
    assert db.read(lambda c: c.execute(sa.select(sa.func.count()).select_from(making.JOBS)).scalar()) == 0


def test_another_webhook_under_one_idempotency_key_is_another_order(me):
    """And the same one is the same order."""
    picture = [("a.png", making.picture())]

    def order(url):
        return me.post("/v1/jobs", images=picture, data={"webhook": url}, headers={"Idempotency-Key": "k"})

    assert order(HOOK).json["id"] == order(HOOK).json["id"]
    problem(order("https://hooks.example/other"), 422, "idempotency_mismatch")


@pytest.fixture
def told(me, db):
    """Two jobs of mine that have ended, the second first: their ids."""

    def one(name):
        id_ = me.post("/v1/jobs", images=[(name, making.picture())], data={"webhook": HOOK, "fresh": "true"}).json["id"]
        making.finish(db, making.claim(db))
        return id_

    return [one("a.png"), one("b.png")][::-1]


def test_deliveries_are_listed_newest_first(me, other, reader, admin, told):
    """By the page; those of one job, those of one status; one's own, or everybody's for who sees all."""
    rows = walk(me, f"{PATH}?limit=1", "deliveries")
    assert [row["job_id"] for row in rows] == told
    row = rows[0]
    assert row["url"] == HOOK
    assert (row["event"], row["status"], row["attempts"], row["error"]) == ("job.completed", "pending", 0, None)
    assert row["next_attempt_at"]
    assert row["replay_url"].endswith(f"{PATH}/{row['id']}/replay")
    assert [row["job_id"] for row in me.get(f"{PATH}?job={told[1]}").json["deliveries"]] == [told[1]]
    assert me.get(f"{PATH}?status=failed").json["deliveries"] == []
    assert len(me.get(f"{PATH}?status=pending").json["deliveries"]) == 2
    assert len(admin.get(PATH).json["deliveries"]) == 2
    assert other.get(PATH).json["deliveries"] == []
    seen = reader.get(f"{PATH}?limit=1").json["deliveries"][0]
    assert seen == {**row, "url": "https://" + HOOK.split("/")[2] + "/"}
    problem(me.get(f"{PATH}?status=lost"), 422, "bad_parameter")
    problem(me.get(f"{PATH}?job=x"), 422, "bad_parameter")


def test_a_delivery_is_replayed_by_its_owner_only(me, other, reader, told, db):
    """202 and the delivery as it is now; for anybody else there is none."""
    (claimed,) = db.write(deliveries.claim, limit=1, each=1)
    db.write(deliveries.note, claimed, webhooks.Outcome(410, "The receiver answered 410, which is not 2xx."))
    before = me.get(f"{PATH}?status=disabled").json["deliveries"][0]
    assert (before["id"], before["response_status"], before["attempts"]) == (claimed.id, 410, 1)
    assert before["ended_at"]

    answer = me.post(before["replay_url"])

    assert answer.status_code == 202
    assert (answer.json["id"], answer.json["status"], answer.json["attempts"]) == (claimed.id, "pending", 0)
    assert me.post(before["replay_url"]).json == answer.json
    problem(other.post(before["replay_url"]), 404, "delivery_not_found")
    problem(reader.post(before["replay_url"]), 403, "not_allowed")
    problem(me.post(f"{PATH}/x/replay"), 404, "delivery_not_found")


def test_a_secret_is_its_owner_s_and_changes_when_they_say_so(me, other, reader):
    """The same whenever it is asked for; after a change the one before is valid for a day."""
    first = me.get("/v1/webhooks/secret")
    assert first.status_code == 200
    assert first.json["secret"].startswith("whsec_")
    assert first.json["previous_until"] is None
    assert me.get("/v1/webhooks/secret").json == first.json
    assert other.get("/v1/webhooks/secret").json["secret"] != first.json["secret"]

    second = me.post("/v1/webhooks/secret/rotate")

    assert second.status_code == 200
    assert second.json["secret"] != first.json["secret"]
    assert second.json["previous_until"] > second.json["created_at"]
    assert me.get("/v1/webhooks/secret").json == second.json
    problem(reader.get("/v1/webhooks/secret"), 403, "not_allowed")
    problem(reader.post("/v1/webhooks/secret/rotate"), 403, "not_allowed")


def test_the_document_tells_what_is_sent(app, db, owner):
    """Under `webhooks`, as OpenAPI 3.1 has it; and what is really sent is of that schema."""
    from jobs.store import jobs

    document = Person(app.test_client(), None).get("/openapi.json").json
    told = document["webhooks"]["job.completed"]["post"]
    id_ = making.job(db, owner, webhook=HOOK, webhook_root="https://s/", metadata={"a": 1})
    sent = json.loads(webhooks.payload(db.read(jobs.states, [id_])[id_], webhooks.COMPLETED))

    assert [one["name"] for one in told["parameters"]] == ["webhook-id", "webhook-timestamp", "webhook-signature"]
    schemas = document["components"]["schemas"]
    assert told["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/JobCompleted"}
    assert sent.keys() == schemas["JobCompleted"]["properties"].keys()
    assert sent["data"].keys() == schemas["EndedJob"]["properties"].keys()
    assert sent["data"]["counts"].keys() == schemas["EndedCounts"]["properties"].keys()
