"""Webhooks over HTTP: submitted with a job, listed, replayed; and the secret that signs them."""

import hashlib
import io
import json

import pytest
import sqlalchemy as sa

from core.db.queries import webhook_deliveries
from core.webhooks import payload, retry_schedule
from tests.support import factories
from tests.support.api_client import assert_problem, fetch_all_pages

HOOK = "https://hooks.example/sortbelt?token=1"
PATH = "/v1/webhooks/deliveries"


def submissions(me):
    """Yield a job with a webhook for each way of submitting one."""
    image = factories.make_image()
    form = {"images": (io.BytesIO(image), "a.png"), "webhook": HOOK}
    raw = {"data": image, "headers": {"Content-Type": "image/png"}, "query_string": {"webhook": HOOK}}
    me.post("/v1/jobs", data=image, headers={"Content-Type": "image/png"})
    digest = hashlib.sha256(image).hexdigest()
    return {
        "form": lambda: me.post("/v1/jobs", data=form),
        "form, in the URL": lambda: me.post(
            "/v1/jobs", images=[("a.png", image)], data={"model": factories.MODEL}, query_string={"webhook": HOOK}
        ),
        "raw": lambda: me.post("/v1/jobs", **raw),
        "open": lambda: me.post("/v1/jobs", json={"open": True, "webhook": HOOK}),
        "sent before": lambda: me.post("/v1/jobs", json={"images": [{"name": "a", "sha256": digest}], "webhook": HOOK}),
    }


def test_a_webhook_is_an_option_of_every_submission(submit_client, subtests):
    """As a field, a parameter, or in JSON; and the job shows it."""
    for way, order in submissions(submit_client).items():
        with subtests.test(way):
            answer = order()
            assert answer.status_code == 202, answer.text
            assert answer.json["webhook"] == HOOK
            assert submit_client.get(f"/v1/jobs/{answer.json['id']}").json["webhook"] == HOOK
    assert submit_client.post("/v1/jobs", images=[("a.png", factories.make_image())]).json["webhook"] is None


@pytest.mark.parametrize(
    "url", ["http://hooks.example/", "https://10.0.0.1/", "https://[::1]/", "x", "", 7, "https://a b"]
)
def test_a_forbidden_webhook_url_is_rejected(submit_client, url, db):
    """Before anything is accepted."""
    detail = assert_problem(submit_client.post("/v1/jobs", json={"open": True, "webhook": url}), 422, "bad_parameter")
    assert "webhook" in detail
    assert db.read(lambda c: c.execute(sa.select(sa.func.count()).select_from(factories.JOBS)).scalar()) == 0


def test_another_webhook_is_another_submission(submit_client):
    """Under one idempotency key; the same one is the same submission."""
    image = [("a.png", factories.make_image())]

    def order(url):
        return submit_client.post("/v1/jobs", images=image, data={"webhook": url}, headers={"Idempotency-Key": "k"})

    assert order(HOOK).json["id"] == order(HOOK).json["id"]
    assert_problem(order("https://hooks.example/other"), 422, "idempotency_mismatch")


@pytest.fixture
def finished_job_ids(submit_client, db):
    """The ids of two jobs of `submit_client` that have ended, the second one first."""

    def item(name):
        id_ = submit_client.post(
            "/v1/jobs", images=[(name, factories.make_image())], data={"webhook": HOOK, "fresh": "true"}
        ).json["id"]
        factories.complete_claims(db, factories.claim_images(db))
        return id_

    return [item("a.png"), item("b.png")][::-1]


def test_deliveries_are_listed_newest_first(submit_client, other_client, read_client, admin_client, finished_job_ids):
    """In pages; by job and by status; the caller's own, or all for global readers."""
    rows = fetch_all_pages(submit_client, f"{PATH}?limit=1", "deliveries")
    assert [row["job_id"] for row in rows] == finished_job_ids
    row = rows[0]
    assert row["url"] == HOOK
    assert (row["event"], row["status"], row["attempts"], row["error"]) == ("job.completed", "pending", 0, None)
    assert row["next_attempt_at"]
    assert row["replay_url"].endswith(f"{PATH}/{row['id']}/replay")
    assert [row["job_id"] for row in submit_client.get(f"{PATH}?job={finished_job_ids[1]}").json["deliveries"]] == [
        finished_job_ids[1]
    ]
    assert submit_client.get(f"{PATH}?status=failed").json["deliveries"] == []
    assert len(submit_client.get(f"{PATH}?status=pending").json["deliveries"]) == 2
    assert len(admin_client.get(PATH).json["deliveries"]) == 2
    assert other_client.get(PATH).json["deliveries"] == []
    observed = read_client.get(f"{PATH}?limit=1").json["deliveries"][0]
    assert observed == {**row, "url": "https://" + HOOK.split("/")[2] + "/"}
    assert_problem(submit_client.get(f"{PATH}?status=lost"), 422, "bad_parameter")
    assert_problem(submit_client.get(f"{PATH}?job=x"), 422, "bad_parameter")


def test_a_delivery_is_replayed_by_its_owner_only(submit_client, other_client, read_client, finished_job_ids, db):
    """202 with the delivery; for other keys it is not found."""
    (claimed,) = db.write(webhook_deliveries.claim, limit=1, max_per_owner=1)
    db.write(
        webhook_deliveries.record_attempt,
        claimed,
        retry_schedule.DeliveryAttempt(410, "The receiver answered 410, which is not 2xx."),
    )
    before = submit_client.get(f"{PATH}?status=disabled").json["deliveries"][0]
    assert (before["id"], before["response_status"], before["attempts"]) == (claimed.id, 410, 1)
    assert before["ended_at"]

    answer = submit_client.post(before["replay_url"])

    assert answer.status_code == 202
    assert (answer.json["id"], answer.json["status"], answer.json["attempts"]) == (claimed.id, "pending", 0)
    assert submit_client.post(before["replay_url"]).json == answer.json
    assert_problem(other_client.post(before["replay_url"]), 404, "delivery_not_found")
    assert_problem(read_client.post(before["replay_url"]), 403, "not_allowed")
    assert_problem(submit_client.post(f"{PATH}/x/replay"), 404, "delivery_not_found")


def test_a_secret_belongs_to_a_key_and_is_rotated(submit_client, other_client, read_client):
    """The same at each call; after a rotation the previous one is valid for a day."""
    first = submit_client.get("/v1/webhooks/secret")
    assert first.status_code == 200
    assert first.json["secret"].startswith("whsec_")
    assert first.json["previous_until"] is None
    assert submit_client.get("/v1/webhooks/secret").json == first.json
    assert other_client.get("/v1/webhooks/secret").json["secret"] != first.json["secret"]

    second = submit_client.post("/v1/webhooks/secret/rotate")

    assert second.status_code == 200
    assert second.json["secret"] != first.json["secret"]
    assert second.json["previous_until"] > second.json["created_at"]
    assert submit_client.get("/v1/webhooks/secret").json == second.json
    assert_problem(read_client.get("/v1/webhooks/secret"), 403, "not_allowed")
    assert_problem(read_client.post("/v1/webhooks/secret/rotate"), 403, "not_allowed")


def test_the_document_describes_the_payload(anonymous_client, db, owner):
    """Under `webhooks` (OpenAPI 3.1); and real payloads match that schema."""
    from core.db.queries import jobs

    document = anonymous_client.get("/openapi.json").json
    operation = document["webhooks"]["job.completed"]["post"]
    id_ = factories.create_job(db, owner, webhook_url=HOOK, public_base_url="https://s/", metadata={"a": 1})
    sent = json.loads(payload.build_payload(db.read(jobs.get_many, [id_])[id_], payload.JOB_COMPLETED))

    assert [item["name"] for item in operation["parameters"]] == [
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
    ]
    schemas = document["components"]["schemas"]
    assert operation["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/JobCompleted"
    }
    assert sent.keys() == schemas["JobCompleted"]["properties"].keys()
    assert sent["data"].keys() == schemas["EndedJob"]["properties"].keys()
    assert sent["data"]["counts"].keys() == schemas["EndedCounts"]["properties"].keys()
