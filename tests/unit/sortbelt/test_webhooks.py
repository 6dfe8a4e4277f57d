import base64
import json
import time
from datetime import UTC, datetime, timedelta

import anyio
import pytest
import standardwebhooks

from sortbelt import AsyncClient, errors, webhooks
from tests.support import fake_api

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
JOB = {"id": "j", "status": "done", "counts": {"total": 3, "done": 2, "failed": 1}, "model": "m"}
PAYLOAD = {"type": "job.completed", "timestamp": "2026-01-31T12:00:00.500Z", "data": JOB}
BODY = json.dumps(PAYLOAD)


def signed(body=BODY, secret=SECRET, id_="d", moment=None):
    """The headers of a webhook, by the reference implementation."""
    moment = moment or datetime.now(UTC)
    signature = standardwebhooks.Webhook(secret).sign(id_, moment, body)
    timestamp = str(int(moment.timestamp()))
    return {"Webhook-Id": id_, "Webhook-Timestamp": timestamp, "Webhook-Signature": signature}


def test_what_the_reference_signs_is_verified_and_read():
    event = webhooks.verify(signed(), BODY.encode(), SECRET)

    assert (event.id, event.type, event.timestamp.microsecond) == ("d", "job.completed", 500_000)
    assert (event.job.id, event.job.status, event.job.counts.done) == ("j", "done", 2)
    assert event.raw == PAYLOAD
    assert webhooks.verify(signed(), BODY, SECRET.removeprefix("whsec_")) == event


def test_one_good_signature_among_several_suffices():
    headers = signed()
    for others in ("v1,AAAA {}", "{} v1,AAAA", "v1a,AAAA {} nonsense v2", "v1 , {} é"):
        many = {**headers, "Webhook-Signature": others.format(headers["Webhook-Signature"])}
        assert webhooks.verify(many, BODY, SECRET).id == "d"


def changed(**more):
    return {**signed(), **{name.replace("_", "-"): value for name, value in more.items()}}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Webhook-Id": "d"},
        changed(Webhook_Id="e"),
        changed(Webhook_Id="é"),
        changed(Webhook_Id="\ud800"),
        changed(Webhook_Timestamp=str(int(time.time()) + 100)),
        changed(Webhook_Timestamp="now"),
        changed(Webhook_Timestamp="-1"),
        changed(Webhook_Timestamp="²"),
        changed(Webhook_Timestamp="9" * 5000),
        changed(Webhook_Signature=""),
        changed(Webhook_Signature="v1"),
        changed(Webhook_Signature="v1,é"),
        changed(Webhook_Signature="v1,\udcff"),
        changed(Webhook_Signature=signed()["Webhook-Signature"].replace("v1,", "v2,")),
        signed(body=BODY + " "),
        signed(secret="whsec_" + base64.b64encode(b"another secret of some length").decode()),
    ],
)
def test_anything_else_is_refused_with_one_error(headers):
    with pytest.raises(errors.BadSignature):
        webhooks.verify(headers, BODY.encode(), SECRET)


@pytest.mark.parametrize("minutes", [-6, 6])
def test_what_is_too_old_or_from_the_future_is_refused(minutes):
    headers = signed(moment=datetime.now(UTC) + timedelta(minutes=minutes))
    with pytest.raises(errors.BadSignature):
        webhooks.verify(headers, BODY.encode(), SECRET)


def test_a_body_that_is_no_text_is_refused_like_any_other():
    with pytest.raises(errors.BadSignature):
        webhooks.verify(signed(), b"\xff\xfe", SECRET)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_é", "whsec_!!!!", "sb_00000000_key"])
def test_a_secret_that_is_none_is_said_to_be_none(secret):
    with pytest.raises(errors.BadInput, match="sortbelt webhooks secret"):
        webhooks.verify(signed(), BODY, secret)


def delivery(id_, job, status):
    found = {"id": id_, "job_id": job, "event": "job.completed", "url": "https://h.example/", "status": status}
    found |= {"attempts": 10, "response_status": 500, "error": "It answered 500.", "created_at": PAYLOAD["timestamp"]}
    return found | {"attempted_at": None, "next_attempt_at": None, "ended_at": PAYLOAD["timestamp"]}


def test_a_webhook_goes_with_a_job_however_it_is_made(client, server):
    one = client.submit([("a.jpg", b"1")], webhook="https://h.example/")
    other = client.open_job(webhook="https://h.example/")
    plain = client.open_job()

    assert [server.jobs[job.id]["choices"].get("webhook") for job in (one, other, plain)] == [
        "https://h.example/"
    ] * 2 + [None]


def test_deliveries_are_listed_and_replayed(client, server):
    job = client.open_job()
    server.deliveries = [delivery("1", "x", "failed"), delivery("2", job.id, "failed"), delivery("3", "x", "delivered")]
    server.max_page_size = 2

    assert [found.id for found in client.deliveries()] == ["1", "2", "3"]
    assert [found.id for found in client.deliveries(status="failed")] == ["1", "2"]
    (mine,) = job.deliveries()
    assert (mine.id, mine.attempts, mine.response_status, mine.ended_at.year) == ("2", 10, 500, 2026)
    assert client.replay(mine.id).status == "pending"
    with pytest.raises(errors.NotFound):
        client.replay("nothing")
    with pytest.raises(errors.NotFound):
        list(client.deliveries("nothing"))


def test_the_secret_is_shown_and_changed(client):
    assert client.webhook_secret() == client.webhook_secret() == "whsec_1"
    assert client.rotate_webhook_secret() == client.webhook_secret() == "whsec_2"


def test_an_event_loop_has_the_same_calls(server):
    server.deliveries = [delivery("1", "x", "failed")]

    async def ask():
        async with AsyncClient(server.url, fake_api.KEY) as client:
            job = await client.submit([("a.jpg", b"1")], webhook="https://h.example/")
            assert server.jobs[job.id]["choices"]["webhook"] == "https://h.example/"
            assert [found.id async for found in client.deliveries()] == ["1"]
            assert [found.id async for found in job.deliveries()] == []
            assert (await client.replay("1")).status == "pending"
            assert (await client.webhook_secret(), await client.rotate_webhook_secret()) == ("whsec_1", "whsec_2")

    anyio.run(ask)


def test_the_commands_list_replay_and_show(run_cli, server):
    server.deliveries = [delivery("1", "x", "failed"), delivery("2", "y", "failed"), delivery("3", "x", "delivered")]

    assert run_cli("webhooks", "list").out.splitlines()[0].split("\t")[:5] == ["1", "x", "failed", "10", "500"]
    assert [
        d["id"] for d in json.loads(run_cli("webhooks", "list", "--status", "delivered", "--json").out)["deliveries"]
    ] == ["3"]
    assert run_cli("webhooks", "replay").code == 2
    assert run_cli("webhooks", "replay", "1", "--failed").code == 2
    assert run_cli("webhooks", "replay", "3").out.startswith("3\tx\tpending\t0")
    assert len(run_cli("webhooks", "replay", "--failed").out.splitlines()) == 2
    assert {d["status"] for d in server.deliveries} == {"pending"}
    assert run_cli("webhooks", "secret").out == "whsec_1\n"
    assert json.loads(run_cli("webhooks", "secret", "--rotate", "--json").out) == {"secret": "whsec_2"}


def test_submit_and_enqueue_take_a_webhook(run_cli, server, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"1")
    hook = ("--webhook", "https://h.example/")

    assert run_cli("submit", tmp_path / "photos" / "a.jpg", *hook).code == 0
    assert run_cli("enqueue", tmp_path / "photos", *hook, "--manifest", tmp_path / "book").code == 0
    assert [job["choices"]["webhook"] for job in server.jobs.values()] == ["https://h.example/"] * 2
