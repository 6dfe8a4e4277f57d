"""The dispatcher, in this process and as one of its own, and receivers that are correct, slow, faulty and gone."""

import contextlib
import datetime as dt
import ipaddress
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

import pydantic
import pytest
import sqlalchemy as sa
import standardwebhooks
from httpcore._backends import sync as httpcore_sync

from api.schemas import webhook_responses
from core import enums, settings
from core.db import tables
from core.db.queries import webhook_deliveries, webhook_secrets
from core.tracing import tracer
from core.webhooks import payload, retry_schedule, url_policy
from dispatcher import __main__, http_client, webhook_dispatcher
from sortbelt import webhooks as incoming
from tests.support import factories, modules, otlp_receiver, servers, waiting
from tests.support import webhook_receiver as receivers

DELIVERIES = tables.WebhookDelivery.__table__
LOCAL = "127.0.0.0/8"


@pytest.fixture
def webhook_receiver():
    with receivers.run_receiver() as made:
        yield made


@pytest.fixture
def dispatch_once(db, database_url):
    """One round of a dispatcher in this process: due deliveries are sent and recorded."""
    made = webhook_dispatcher.WebhookDispatcher(settings.Settings(database_url=database_url, webhook_allow=LOCAL), db)

    def round_():
        count = made.poll()
        made.finish()
        return count

    return round_


@pytest.fixture
def make_finished_jobs(db, owner):
    """Makes jobs that have ended, with a webhook to a URL; their ids."""
    return lambda url, *names, who=owner: [end(db, who, url, name) for name in names or ("a",)]


def end(db, owner, url, name):
    id_ = factories.create_job(
        db, owner, name, webhook_url=url, public_base_url="https://sortbelt.example/", metadata={"trip": "🍣"}
    )
    factories.complete_claims(db, factories.claim_images(db))
    return id_


def log(db):
    """All deliveries, oldest first."""
    return db.read(lambda c: c.execute(sa.select(DELIVERIES).order_by(DELIVERIES.c.id)).all())


def pass_time(db):
    """Let every pending delivery be due, and every lease be over, as if time had gone by."""
    past = {name: sa.text("'2020-01-01 00:00:00'") for name in ("next_attempt_at", "lease_until")}
    db.write(lambda c: c.execute(sa.update(DELIVERIES).where(DELIVERIES.c.status == "pending").values(past)))


def test_what_is_sent_verifies_by_the_reference_library_and_by_ours(
    db, owner, make_finished_jobs, webhook_receiver, dispatch_once
):
    """Signed by the owner's secret, in the shape that the document describes, with links to the server."""
    (job_id,) = make_finished_jobs(webhook_receiver.url)
    assert dispatch_once() == 1
    (got,) = webhook_receiver.requests
    secret = db.write(webhook_secrets.get_or_create, owner).secret

    said = standardwebhooks.Webhook(secret).verify(got.body, got.headers)
    event = incoming.verify(got.headers, got.body, secret)

    assert said == event.raw
    pydantic.TypeAdapter(webhook_responses.JobCompleted).validate_json(got.body)
    assert list(said["data"]) == list(webhook_responses.EndedJob.__annotations__)
    assert (event.id, event.type, event.job.id) == (log(db)[0].id, "job.completed", job_id)
    assert (event.job.status, event.job.counts.done, event.job.counts.total) == ("done", 1, 1)
    assert event.job.metadata == {"trip": "🍣"}
    assert event.timestamp == event.job.finished_at
    assert said["data"]["results_url"] == f"https://sortbelt.example/v1/jobs/{job_id}/results"
    assert got.headers["content-type"] == "application/json"
    (row,) = log(db)
    assert (row.status, row.attempts, row.response_status, row.error) == ("delivered", 1, 204, None)
    assert row.ended_at is not None
    assert dispatch_once() == 0


def test_while_the_secret_is_changed_either_one_verifies(
    db, owner, make_finished_jobs, webhook_receiver, dispatch_once
):
    """The receiver has a day to take the new one; another key's secret is of no use."""
    first = db.write(webhook_secrets.get_or_create, owner).secret
    second = db.write(webhook_secrets.rotate, owner).secret
    stranger = db.write(webhook_secrets.get_or_create, factories.create_key(db, "stranger")).secret
    make_finished_jobs(webhook_receiver.url)
    dispatch_once()
    (got,) = webhook_receiver.requests

    assert len(got.headers["webhook-signature"].split(" ")) == 2
    for secret in (first, second):
        standardwebhooks.Webhook(secret).verify(got.body, got.headers)
        incoming.verify(got.headers, got.body, secret)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(stranger).verify(got.body, got.headers)


def test_it_is_tried_ten_times_over_three_days_always_under_one_id(
    db, make_finished_jobs, webhook_receiver, dispatch_once
):
    """By the schedule of the specification, ±10 %; then it has failed, and can be replayed."""
    webhook_receiver.responses = [500] * 10
    make_finished_jobs(webhook_receiver.url)
    waited = []
    while dispatch_once():
        (row,) = log(db)
        assert row.error == "The receiver responded with 500, which is not 2xx."
        if row.next_attempt_at is not None:
            waited.append((row.next_attempt_at - row.attempted_at).total_seconds())
            assert dispatch_once() == 0
        pass_time(db)

    schedule = [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    assert len(waited) == len(schedule)
    for seconds, wanted in zip(waited, schedule, strict=True):
        # An attempt may take some seconds itself on a slow machine.
        assert 0.9 * wanted <= seconds <= 1.1 * wanted + 15
    (row,) = log(db)
    assert (row.status, row.attempts, row.next_attempt_at) == ("failed", 10, None)
    assert {got.id for got in webhook_receiver.requests} == {row.id}
    assert len({got.body for got in webhook_receiver.requests}) == 1

    db.write(webhook_deliveries.replay, row.id, row.api_key_id)
    assert dispatch_once() == 1
    assert (webhook_receiver.requests[-1].id, log(db)[0].status) == (row.id, "delivered")


def test_delays_are_not_all_the_same():
    """Deliveries that failed together are not retried together."""
    bad = retry_schedule.DeliveryAttempt(500, "…")
    assert len({retry_schedule.next_retry_delay(3, bad) for _ in range(20)}) > 10
    assert retry_schedule.next_retry_delay(10, bad) is None


@pytest.mark.parametrize("status", [429, 503])
def test_a_receiver_that_asks_to_be_left_alone_is(db, make_finished_jobs, webhook_receiver, dispatch_once, status):
    """Retry-After in seconds or as a date puts the next attempt off, but never by more than a day, nor forward."""
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    dates = [soon.strftime("%a, %d %b %Y %H:%M:%S GMT"), "Mon, 01 Jan 1990 00:00:00 GMT"]
    for after, least, most in (
        ("1000", 1000, 1030),
        (dates[0], 3500, 3630),
        ("0", 4, 40),
        (dates[1], 4, 40),
        ("soon", 4, 40),
        ("999999999999", 86_400, 86_430),
    ):
        webhook_receiver.responses = [(status, {"Retry-After": after})]
        make_finished_jobs(webhook_receiver.url)
        assert dispatch_once() == 1
        row = log(db)[-1]
        assert least <= (row.next_attempt_at - row.attempted_at).total_seconds() <= most, after
        db.write(lambda c: c.execute(sa.delete(DELIVERIES)))


def test_a_receiver_that_is_gone_is_asked_no_more(db, make_finished_jobs, webhook_receiver, dispatch_once):
    """410 ends the delivery at once."""
    webhook_receiver.responses = [410]
    make_finished_jobs(webhook_receiver.url)
    dispatch_once()
    pass_time(db)
    assert dispatch_once() == 0
    assert (log(db)[0].status, log(db)[0].response_status) == ("disabled", 410)


def test_redirects_are_not_followed(db, make_finished_jobs, webhook_receiver, dispatch_once):
    """Least of all to where a webhook may not go."""
    with receivers.run_receiver() as inner:
        webhook_receiver.responses = [(302, {"Location": inner.url}), (307, {"Location": "http://169.254.169.254/"})]
        make_finished_jobs(webhook_receiver.url, "a", "b")
        dispatch_once()
        assert inner.requests == []
    assert {row.status for row in log(db)} == {"pending"}
    assert all("redirect" in row.error for row in log(db))


def attempt(url, rules=LOCAL):
    """One attempt."""
    return webhook_dispatcher.send(http_client.HttpClient(rules), url, {}, b"{}")


def raw(answer):
    """An answer of raw bytes."""

    def write(handler):
        handler.wfile.write(answer)
        handler.wfile.flush()

    return write


def test_of_an_answer_only_a_little_is_read(webhook_receiver):
    """A 200 that never ends is a 200."""
    poured = []

    def pour(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                handler.wfile.write(b"x" * 65536)
                poured.append(1)

    webhook_receiver.responses = [pour]
    assert attempt(webhook_receiver.url) == retry_schedule.DeliveryAttempt(200, None)
    assert len(poured) < 500


def test_a_receiver_that_dribbles_has_as_much_time_as_one_that_says_nothing(webhook_receiver, monkeypatch):
    """The limit holds for the whole attempt, not from byte to byte; the headers in, it was a success."""
    monkeypatch.setattr(webhook_dispatcher, "ATTEMPT_TIMEOUT_SECONDS", 0.6)
    over = threading.Event()

    def dribble(piece, first=b""):
        def write(handler):
            with contextlib.suppress(OSError):
                handler.wfile.write(first)
                while not over.wait(0.05):
                    handler.wfile.write(piece)
                    handler.wfile.flush()

        return write

    webhook_receiver.responses = [
        dribble(b"H"),
        dribble(b"", b"HTTP/1.1 200 OK\r\n"),
        dribble(b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"),
    ]
    started = time.monotonic()
    assert attempt(webhook_receiver.url).error is not None
    assert "did not respond within" in attempt(webhook_receiver.url).error
    assert attempt(webhook_receiver.url) == retry_schedule.DeliveryAttempt(200, None)
    assert time.monotonic() - started < 150
    over.set()


@pytest.mark.parametrize(
    "answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 99999 x\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: " + b"a" * 300_000]
)
def test_nonsense_is_a_failure_with_a_reason(webhook_receiver, answer):
    """Whatever comes back, there is a sentence for it, and no exception."""
    webhook_receiver.responses = [raw(answer)]
    outcome = attempt(webhook_receiver.url)
    assert (outcome.status, bool(outcome.error)) == (None, True)


def test_a_closed_port_is_a_failure_with_a_reason():
    """It is retried like all others."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        outcome = attempt(f"http://127.0.0.1:{closed.getsockname()[1]}/")
    assert outcome.error.startswith("Connection failed")
    assert outcome.delivery_status is enums.DeliveryStatus.PENDING


def test_what_may_not_be_reached_is_not_connected_to(webhook_receiver, monkeypatch):
    """Whatever spelling the URL has that got into the table, and whatever its name resolves to."""
    port = webhook_receiver.server_port
    names = {
        "inner.example": ["127.0.0.1"],
        "mapped.example": ["::ffff:127.0.0.1"],
        "both.example": ["::1", "127.0.0.1"],
    }
    system = url_policy.resolve
    monkeypatch.setattr(
        url_policy,
        "resolve",
        lambda host, port: [*map(ipaddress.ip_address, names[host])] if host in names else system(host, port),
    )
    hosts = ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost", "[::ffff:127.0.0.1]", *names]
    for host in [*hosts, "nowhere.invalid"]:
        for scheme in ("http", "https"):
            outcome = attempt(f"{scheme}://{host}:{port}/", "")
            assert outcome.error.startswith("Destination not allowed: "), (scheme, host, outcome)
            assert "127.0.0.1" not in outcome.error
    assert webhook_receiver.requests == []


def test_a_name_that_moves_after_it_was_judged_is_not_followed(webhook_receiver, monkeypatch):
    """It is resolved once, and the connection goes to what was judged."""
    asked = []

    def resolve(host, port, **_):
        asked.append(host)
        there = "127.0.0.1" if len(asked) == 1 else "127.0.0.2"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (there, port))]

    monkeypatch.setattr(url_policy, "socket", modules.with_changes(socket, getaddrinfo=resolve))
    connect = _numeric(socket.create_connection)
    monkeypatch.setattr(httpcore_sync, "socket", modules.with_changes(socket, create_connection=connect))
    outcome = attempt(f"http://rebinding.example:{webhook_receiver.server_port}/", "127.0.0.1/32")
    assert outcome == retry_schedule.DeliveryAttempt(204, None)
    assert asked == ["rebinding.example"]
    assert webhook_receiver.requests[0].headers["host"] == f"rebinding.example:{webhook_receiver.server_port}"


def _numeric(connect):
    """Return a backend that connects to an address without resolving it."""

    def connected(address, timeout=None, **_):
        line = socket.socket()
        line.settimeout(timeout)
        ipaddress.ip_address(address[0])
        line.connect(address)
        return line

    return connected


def test_the_certificate_must_be_that_of_the_name(webhook_receiver, tmp_path, monkeypatch):
    """The connection goes to an address, and TLS all the same asks for the name."""
    file, key = servers.make_certificate(tmp_path, "hooks.example")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file, key)
    webhook_receiver.socket = server.wrap_socket(webhook_receiver.socket, server_side=True)
    monkeypatch.setattr(url_policy, "resolve", lambda *_: [ipaddress.ip_address("127.0.0.1")])
    distrusting = http_client.HttpClient(LOCAL)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    trusting = http_client.HttpClient(LOCAL)

    def over_tls(host, client):
        return webhook_dispatcher.send(client, f"https://{host}:{webhook_receiver.server_port}/", {}, b"{}")

    assert over_tls("hooks.example", trusting) == retry_schedule.DeliveryAttempt(204, None)
    assert "CERTIFICATE_VERIFY_FAILED" in over_tls("other.example", trusting).error
    assert "CERTIFICATE_VERIFY_FAILED" in over_tls("hooks.example", distrusting).error
    assert len(webhook_receiver.requests) == 1


def test_a_slow_receiver_delays_no_other_delivery(db, make_finished_jobs, webhook_receiver, database_url):
    """One owner gets a quarter of a dispatcher's threads, however many deliveries are due."""
    go_on = threading.Event()
    other = factories.create_key(db)
    with receivers.run_receiver() as slow:
        slow.responses = [lambda handler: (go_on.wait(60), raw(b"HTTP/1.1 204 OK\r\n\r\n")(handler))] * 20
        make_finished_jobs(slow.url, *map(str, range(20)))
        make_finished_jobs(webhook_receiver.url, "x", "y", who=other)
        working = webhook_dispatcher.WebhookDispatcher(
            settings.Settings(database_url=database_url, webhook_allow=LOCAL), db
        )
        thread = threading.Thread(target=working.run)
        thread.start()
        try:
            webhook_receiver.wait(2)
            slow.wait(8)
            assert slow.max_concurrent == 8
            go_on.set()
            slow.wait(20)
        finally:
            go_on.set()
            working.stop()
            thread.join()
        assert slow.max_concurrent == 8
    assert {row.status for row in log(db)} == {"delivered"}


def test_deliveries_in_flight_count_for_the_share_of_a_key(db, make_finished_jobs, database_url):
    """A key with seven of its eight threads in use gets one more, however many of its deliveries are due."""
    go_on = threading.Event()
    with receivers.run_receiver() as slow:
        slow.responses = [lambda handler: (go_on.wait(60), raw(b"HTTP/1.1 204 OK\r\n\r\n")(handler))] * 17
        working = webhook_dispatcher.WebhookDispatcher(
            settings.Settings(database_url=database_url, webhook_allow=LOCAL), db
        )
        make_finished_jobs(slow.url, *map(str, range(7)))
        try:
            assert working.poll() == 7
            make_finished_jobs(slow.url, *map(str, range(7, 17)))
            assert working.poll() == 1
            assert working.poll() == 0
        finally:
            go_on.set()
            working.finish()


@contextlib.contextmanager
def process(database_url):
    """Run a dispatcher as a process of its own."""
    ours = {"SORTBELT_DATABASE_URL": database_url, "SORTBELT_WEBHOOK_ALLOW": LOCAL}
    with subprocess.Popen([sys.executable, "-m", "dispatcher"], env=os.environ | ours) as started:
        try:
            yield started
        finally:
            started.kill()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_dispatcher_killed_between_sending_and_recording(db, database_url, make_finished_jobs, webhook_receiver):
    """Kill -9 while the receiver responds: it is sent again under the same id, so the receiver can discard it."""
    with process(database_url) as first:

        def kill(handler):
            first.kill()
            first.wait()
            raw(b"HTTP/1.1 204 OK\r\n\r\n")(handler)

        webhook_receiver.responses = [kill]
        make_finished_jobs(webhook_receiver.url)
        webhook_receiver.wait(1)
        first.wait(waiting.TIMEOUT_SECONDS)
    (row,) = log(db)
    assert (row.status, row.attempts, row.response_status) == ("pending", 1, None)
    assert row.lease_until is not None
    pass_time(db)

    with process(database_url) as second:
        webhook_receiver.wait(2)
        waiting.wait_until(lambda: log(db)[0].status != "pending")
        second.send_signal(signal.SIGTERM)
        assert second.wait(waiting.TIMEOUT_SECONDS) == 0

    (row,) = log(db)
    assert (row.status, row.attempts) == ("delivered", 2)
    assert [got.id for got in webhook_receiver.requests] == [row.id] * 2
    assert webhook_receiver.requests[0].body == webhook_receiver.requests[1].body


def test_whether_anything_is_overdue_is_an_exit_code(sqlite_database_url, tmp_path, monkeypatch, capsys):
    """The container's health check: 0 all well, 1 overdue, 3 no database."""
    from core.db import database

    db = database.Database(sqlite_database_url)
    owner = factories.create_key(db, "submitter")
    monkeypatch.setattr(sys, "argv", ["dispatcher", "--check"])
    monkeypatch.setenv("SORTBELT_DATABASE_URL", sqlite_database_url)
    end(db, owner, "https://hooks.example/", "a")
    assert __main__.main() == 0
    pass_time(db)
    assert __main__.main() == 1
    assert capsys.readouterr().out == "".join(
        f"{count} webhooks, 0 imports and 0 fetches are overdue\n" for count in (0, 1)
    )
    db.close()
    monkeypatch.setenv("SORTBELT_DATABASE_URL", f"sqlite:///{tmp_path}/empty.db")
    assert __main__.main() == 3


def test_payloads_are_small_whatever_the_job_brings(db, owner):
    """With as much metadata as is allowed they stay below the 20 kB that the specification recommends."""
    from api.schemas import request_fields
    from core.db.queries import jobs

    text = json.dumps({"a": "x" * (request_fields.MAX_METADATA_BYTES - 20)})
    id_ = factories.create_job(
        db, owner, webhook_url="https://hooks.example/", public_base_url="https://s/", metadata=json.loads(text)
    )
    row = db.read(jobs.get_many, [id_])[id_]
    assert row.finished_at is not None
    assert len(payload.build_payload(row, payload.JOB_COMPLETED)) < 20_000


def test_each_attempt_is_a_trace_linked_to_that_of_the_job(db, owner, webhook_receiver, dispatch_once, monkeypatch):
    """With its outcome, and without its URL; the receiver gets the traceparent."""
    ordered = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    with otlp_receiver.run_receiver() as traces:
        for name, value in traces.environ().items():
            monkeypatch.setenv(name, value)
        id_ = factories.create_job(
            db, owner, "a", webhook_url=webhook_receiver.url, public_base_url="https://x.example/", traceparent=ordered
        )
        factories.complete_claims(db, factories.claim_images(db))
        webhook_receiver.responses = [500]
        tracer.start_or_exit("tests", enabled=True)
        try:
            dispatch_once()
            pass_time(db)
            dispatch_once()
        finally:
            tracer.close()

    first, second = traces.wait_for_spans("webhook", 2)
    link = (*ordered.split("-")[1:3], {"sortbelt.job.id": id_})
    assert first.links == second.links == [link]
    assert (first.failed, first.attributes["http.response.status_code"]) == (True, 500)
    assert (second.failed, second.attributes["http.response.status_code"]) == (False, 204)
    assert [span.attributes["sortbelt.delivery.attempt"] for span in (first, second)] == [1, 2]
    assert {one.headers["traceparent"].split("-")[1] for one in webhook_receiver.requests} == {
        first.trace_id,
        second.trace_id,
    }
    assert webhook_receiver.url.encode() not in traces.raw_body
