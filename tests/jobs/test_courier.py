"""The courier, in this process and as one of its own, and receivers that are kind, slow, rude and gone."""

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

from api import shapes
from jobs import courier, destinations, sending, settings, tables, tracing, webhooks
from jobs.store import deliveries, keys, signing
from sortbelt import webhooks as incoming
from tests import otlp
from tests import receiver as receivers
from tests.jobs import making

DELIVERIES = tables.Delivery.__table__
LOCAL = "127.0.0.0/8"


@pytest.fixture
def receiver():
    with receivers.listening() as made:
        yield made


@pytest.fixture
def send(db, database_url):
    """One round of a courier in this process: all that is due is sent, and noted."""
    made = courier.Courier(settings.Settings(database_url=database_url, webhook_allow=LOCAL), db)

    def round_():
        count = made.look()
        made.finish()
        return count

    yield round_
    made.close()


@pytest.fixture
def told(db, owner):
    """Makes jobs that have ended, with a webhook to a URL; their ids."""
    return lambda url, *names, who=owner: [end(db, who, url, name) for name in names or ("a",)]


def end(db, owner, url, name):
    id_ = making.job(db, owner, name, webhook=url, webhook_root="https://sortbelt.example/", metadata={"trip": "🍣"})
    making.finish(db, making.claim(db))
    return id_


def log(db):
    """All deliveries, oldest first."""
    return db.read(lambda c: c.execute(sa.select(DELIVERIES).order_by(DELIVERIES.c.id)).all())


def pass_time(db):
    """Let every pending delivery be due, and every lease be over, as if time had gone by."""
    past = {name: sa.text("'2020-01-01 00:00:00'") for name in ("next_at", "lease_until")}
    db.write(lambda c: c.execute(sa.update(DELIVERIES).where(DELIVERIES.c.status == "pending").values(past)))


def test_what_is_sent_verifies_by_the_reference_library_and_by_ours(db, owner, told, receiver, send):
    """Signed by the owner's secret, in the shape that the document describes, with links to the server."""
    (job_id,) = told(receiver.url)
    assert send() == 1
    (got,) = receiver.got
    secret = db.write(signing.secret, owner).secret

    said = standardwebhooks.Webhook(secret).verify(got.body, got.headers)
    event = incoming.verify(got.headers, got.body, secret)

    assert said == event.raw
    pydantic.TypeAdapter(shapes.JobCompleted).validate_json(got.body)
    assert list(said["data"]) == list(shapes.EndedJob.__annotations__)
    assert (event.id, event.type, event.job.id) == (log(db)[0].id, "job.completed", job_id)
    assert (event.job.status, event.job.counts.done, event.job.counts.total) == ("done", 1, 1)
    assert event.job.metadata == {"trip": "🍣"}
    assert event.timestamp == event.job.finished_at
    assert said["data"]["results_url"] == f"https://sortbelt.example/v1/jobs/{job_id}/results"
    assert got.headers["content-type"] == "application/json"
    (row,) = log(db)
    assert (row.status, row.attempts, row.response_status, row.error) == ("delivered", 1, 204, None)
    assert row.ended_at is not None
    assert send() == 0


def test_while_the_secret_is_changed_either_one_verifies(db, owner, told, receiver, send):
    """The receiver has a day to take the new one; another key's secret is of no use."""
    first = db.write(signing.secret, owner).secret
    second = db.write(signing.rotate, owner).secret
    stranger = db.write(signing.secret, db.write(keys.create, "stranger", tables.Role.SUBMIT, keys.make()).id).secret
    told(receiver.url)
    send()
    (got,) = receiver.got

    assert len(got.headers["webhook-signature"].split(" ")) == 2
    for secret in (first, second):
        standardwebhooks.Webhook(secret).verify(got.body, got.headers)
        incoming.verify(got.headers, got.body, secret)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(stranger).verify(got.body, got.headers)


def test_it_is_tried_ten_times_over_three_days_always_under_one_id(db, told, receiver, send):
    """By the schedule of the specification, a tenth more or less; then given up, and replayed when somebody says so."""
    receiver.answers = [500] * 10
    told(receiver.url)
    waited = []
    while send():
        (row,) = log(db)
        assert row.error == "The receiver answered 500, which is not 2xx."
        if row.next_at is not None:
            waited.append((row.next_at - row.attempted_at).total_seconds())
            assert send() == 0
        pass_time(db)

    schedule = [5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    assert len(waited) == len(schedule)
    for seconds, wanted in zip(waited, schedule, strict=True):
        # An attempt may take some seconds itself on a slow machine.
        assert 0.9 * wanted <= seconds <= 1.1 * wanted + 15
    (row,) = log(db)
    assert (row.status, row.attempts, row.next_at) == ("failed", 10, None)
    assert {got.id for got in receiver.got} == {row.id}
    assert len({got.body for got in receiver.got}) == 1

    db.write(deliveries.replay, row.id, row.owner)
    assert send() == 1
    assert (receiver.got[-1].id, log(db)[0].status) == (row.id, "delivered")


def test_delays_are_not_all_the_same():
    """Who failed together does not come back together."""
    bad = webhooks.Outcome(500, "…")
    assert len({webhooks.delay(3, bad) for _ in range(20)}) > 10
    assert webhooks.delay(10, bad) is None


@pytest.mark.parametrize("status", [429, 503])
def test_a_receiver_that_asks_to_be_left_alone_is(db, told, receiver, send, status):
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
        receiver.answers = [(status, {"Retry-After": after})]
        told(receiver.url)
        assert send() == 1
        row = log(db)[-1]
        assert least <= (row.next_at - row.attempted_at).total_seconds() <= most, after
        db.write(lambda c: c.execute(sa.delete(DELIVERIES)))


def test_a_receiver_that_is_gone_is_asked_no_more(db, told, receiver, send):
    """410 ends the delivery at once."""
    receiver.answers = [410]
    told(receiver.url)
    send()
    pass_time(db)
    assert send() == 0
    assert (log(db)[0].status, log(db)[0].response_status) == ("disabled", 410)


def test_redirects_are_not_followed(db, told, receiver, send):
    """Least of all to where a webhook may not go."""
    with receivers.listening() as inner:
        receiver.answers = [(302, {"Location": inner.url}), (307, {"Location": "http://169.254.169.254/"})]
        told(receiver.url, "a", "b")
        send()
        assert inner.got == []
    assert {row.status for row in log(db)} == {"pending"}
    assert all("redirect" in row.error for row in log(db))


def attempt(url, rules=LOCAL):
    """One attempt."""
    return sending.send(url, {}, b"{}", destinations.Rules.read(rules), sending.trust())


def raw(answer):
    """An answer of raw bytes."""

    def write(handler):
        handler.wfile.write(answer)
        handler.wfile.flush()

    return write


def test_of_an_answer_only_a_little_is_read(receiver):
    """A 200 that never ends is a 200."""
    poured = []

    def pour(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                handler.wfile.write(b"x" * 65536)
                poured.append(1)

    receiver.answers = [pour]
    assert attempt(receiver.url) == webhooks.Outcome(200, None)
    assert len(poured) < 500


def test_a_receiver_that_dribbles_has_as_much_time_as_one_that_says_nothing(receiver, monkeypatch):
    """The limit holds for the whole attempt, not from byte to byte; the headers in, it was a success."""
    monkeypatch.setattr(sending, "SECONDS", 0.6)
    over = threading.Event()

    def dribble(piece, first=b""):
        def write(handler):
            with contextlib.suppress(OSError):
                handler.wfile.write(first)
                while not over.wait(0.05):
                    handler.wfile.write(piece)
                    handler.wfile.flush()

        return write

    receiver.answers = [
        dribble(b"H"),
        dribble(b"", b"HTTP/1.1 200 OK\r\n"),
        dribble(b"x", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"),
    ]
    started = time.monotonic()
    assert attempt(receiver.url).error is not None
    assert "no answer within" in attempt(receiver.url).error
    assert attempt(receiver.url) == webhooks.Outcome(200, None)
    assert time.monotonic() - started < 15
    over.set()


@pytest.mark.parametrize(
    "answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 99999 x\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: " + b"a" * 300_000]
)
def test_nonsense_is_a_failure_with_a_reason(receiver, answer):
    """Whatever comes back, there is a sentence for it, and no exception."""
    receiver.answers = [raw(answer)]
    outcome = attempt(receiver.url)
    assert (outcome.status, bool(outcome.error)) == (None, True)


def test_a_port_on_which_nobody_listens_is_a_failure_with_a_reason():
    """It is tried again like all others."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        outcome = attempt(f"http://127.0.0.1:{closed.getsockname()[1]}/")
    assert outcome.error.startswith("No connection")
    assert outcome.fate is tables.DeliveryStatus.PENDING


def test_what_may_not_be_reached_is_not_connected_to(receiver, monkeypatch):
    """Whatever spelling the URL has that got into the table, and whatever its name resolves to."""
    port = receiver.server_port
    names = {
        "inner.example": ["127.0.0.1"],
        "mapped.example": ["::ffff:127.0.0.1"],
        "both.example": ["::1", "127.0.0.1"],
    }
    system = destinations.resolve
    monkeypatch.setattr(
        destinations,
        "resolve",
        lambda host, port: [*map(ipaddress.ip_address, names[host])] if host in names else system(host, port),
    )
    hosts = ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost", "[::ffff:127.0.0.1]", *names]
    for host in [*hosts, "nowhere.invalid"]:
        for scheme in ("http", "https"):
            outcome = attempt(f"{scheme}://{host}:{port}/", "")
            assert outcome.error.startswith("It may not go there: "), (scheme, host, outcome)
            assert "127.0.0.1" not in outcome.error
    assert receiver.got == []


def test_a_name_that_moves_after_it_was_judged_is_not_followed(receiver, monkeypatch):
    """It is resolved once, and the connection goes to what was judged."""
    asked = []

    def resolve(host, port, **_):
        asked.append(host)
        there = "127.0.0.1" if len(asked) == 1 else "127.0.0.2"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (there, port))]

    monkeypatch.setattr(destinations.socket, "getaddrinfo", resolve)
    with monkeypatch.context() as patch:
        patch.setattr(socket, "create_connection", _numeric(socket.create_connection))
        outcome = attempt(f"http://rebinding.example:{receiver.server_port}/", "127.0.0.1/32")
    assert outcome == webhooks.Outcome(204, None)
    assert asked == ["rebinding.example"]
    assert receiver.got[0].headers["host"] == f"rebinding.example:{receiver.server_port}"


def _numeric(connect):
    """What connects to a number, without asking how it resolves."""

    def connected(address, timeout=None, **_):
        line = socket.socket()
        line.settimeout(timeout)
        ipaddress.ip_address(address[0])
        line.connect(address)
        return line

    return connected


def certificate(folder, name):
    """A certificate that vouches for a name and for itself; its file and that of its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    (folder / "cert.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*form))
    return folder / "cert.pem", folder / "key.pem"


def test_the_certificate_must_be_that_of_the_name(receiver, tmp_path, monkeypatch):
    """The connection goes to an address, and TLS all the same asks for the name."""
    file, key = certificate(tmp_path, "hooks.example")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file, key)
    receiver.socket = server.wrap_socket(receiver.socket, server_side=True)
    monkeypatch.setattr(destinations, "resolve", lambda *_: [ipaddress.ip_address("127.0.0.1")])
    trusting = ssl.create_default_context(cafile=str(file))
    rules = destinations.Rules.read(LOCAL)

    def over_tls(host, tls):
        return sending.send(f"https://{host}:{receiver.server_port}/", {}, b"{}", rules, tls)

    assert over_tls("hooks.example", trusting) == webhooks.Outcome(204, None)
    assert "CERTIFICATE_VERIFY_FAILED" in over_tls("other.example", trusting).error
    assert "CERTIFICATE_VERIFY_FAILED" in over_tls("hooks.example", sending.trust()).error
    assert len(receiver.got) == 1


def test_a_slow_receiver_holds_up_nobody_else(db, told, receiver, database_url):
    """One owner gets a quarter of a courier's hands, however much of theirs is due."""
    go_on = threading.Event()
    other = db.write(keys.create, "other", tables.Role.SUBMIT, keys.make()).id
    with receivers.listening() as slow:
        slow.answers = [lambda handler: (go_on.wait(60), raw(b"HTTP/1.1 204 OK\r\n\r\n")(handler))] * 20
        told(slow.url, *map(str, range(20)))
        told(receiver.url, "x", "y", who=other)
        working = courier.Courier(settings.Settings(database_url=database_url, webhook_allow=LOCAL), db)
        thread = threading.Thread(target=working.run)
        thread.start()
        try:
            receiver.wait(2)
            slow.wait(8)
            assert slow.most_at_once == 8
            go_on.set()
            slow.wait(20)
        finally:
            go_on.set()
            working.stop()
            thread.join()
            working.close()
        assert slow.most_at_once == 8
    assert {row.status for row in log(db)} == {"delivered"}


@contextlib.contextmanager
def process(database_url):
    """A courier as a process of its own."""
    ours = {"SORTBELT_DATABASE_URL": database_url, "SORTBELT_WEBHOOK_ALLOW": LOCAL}
    with subprocess.Popen([sys.executable, "-m", "jobs.courier"], env=os.environ | ours) as started:
        try:
            yield started
        finally:
            started.kill()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_courier_killed_between_sending_and_noting_is_made_good(db, database_url, told, receiver):
    """Kill -9 while the receiver answers: it is sent again under the same id, and the receiver can tell."""
    with process(database_url) as first:

        def kill(handler):
            first.kill()
            first.wait()
            raw(b"HTTP/1.1 204 OK\r\n\r\n")(handler)

        receiver.answers = [kill]
        told(receiver.url)
        receiver.wait(1)
        first.wait(receivers.SECONDS)
    (row,) = log(db)
    assert (row.status, row.attempts, row.response_status) == ("pending", 1, None)
    assert row.lease_until is not None
    pass_time(db)

    with process(database_url) as second:
        receiver.wait(2)
        until = time.monotonic() + receivers.SECONDS
        while log(db)[0].status == "pending" and time.monotonic() < until:
            time.sleep(0.02)
        second.send_signal(signal.SIGTERM)
        assert second.wait(receivers.SECONDS) == 0

    (row,) = log(db)
    assert (row.status, row.attempts) == ("delivered", 2)
    assert [got.id for got in receiver.got] == [row.id] * 2
    assert receiver.got[0].body == receiver.got[1].body


def test_whether_anything_is_overdue_is_an_exit_code(sqlite_database_url, tmp_path, monkeypatch, capsys):
    """What the container's health check asks: 0 all well, 1 overdue, 3 no database."""
    from jobs import database

    db = database.Database(sqlite_database_url)
    owner = db.write(keys.create, "somebody", tables.Role.SUBMIT, keys.make()).id
    monkeypatch.setattr(sys, "argv", ["courier", "--check"])
    monkeypatch.setenv("SORTBELT_DATABASE_URL", sqlite_database_url)
    end(db, owner, "https://hooks.example/", "a")
    assert courier.main() == 0
    pass_time(db)
    assert courier.main() == 1
    assert capsys.readouterr().out == "0 webhooks and 0 scans are overdue\n1 webhooks and 0 scans are overdue\n"
    db.close()
    monkeypatch.setenv("SORTBELT_DATABASE_URL", f"sqlite:///{tmp_path}/empty.db")
    assert courier.main() == 3


def test_payloads_are_small_whatever_the_job_brings(db, owner):
    """With as much metadata as is allowed they stay below the 20 kB that the specification recommends."""
    from api import asked
    from jobs.store import jobs

    text = json.dumps({"a": "x" * (asked.MOST_METADATA_BYTES - 20)})
    id_ = making.job(db, owner, webhook="https://hooks.example/", webhook_root="https://s/", metadata=json.loads(text))
    row = db.read(jobs.states, [id_])[id_]
    assert row.finished_at is not None
    assert len(webhooks.payload(row, webhooks.COMPLETED)) < 20_000


def test_each_attempt_is_a_trace_linked_to_that_of_the_job(db, owner, receiver, send, monkeypatch):
    """With what came of it, and nothing of where it went; the receiver is told which trace it is."""
    ordered = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    with otlp.listening() as traces:
        for name, value in traces.environ().items():
            monkeypatch.setenv(name, value)
        id_ = making.job(db, owner, "a", webhook=receiver.url, webhook_root="https://x.example/", traceparent=ordered)
        making.finish(db, making.claim(db))
        receiver.answers = [500]
        tracing.start_or_exit("tests", on=True)
        try:
            send()
            pass_time(db)
            send()
        finally:
            tracing.close()

    first, second = traces.named("webhook", 2)
    link = (*ordered.split("-")[1:3], {"sortbelt.job.id": id_})
    assert first.links == second.links == [link]
    assert (first.failed, first.attributes["http.response.status_code"]) == (True, 500)
    assert (second.failed, second.attributes["http.response.status_code"]) == (False, 204)
    assert [span.attributes["sortbelt.delivery.attempt"] for span in (first, second)] == [1, 2]
    assert {one.headers["traceparent"].split("-")[1] for one in receiver.got} == {first.trace, second.trace}
    assert receiver.url.encode() not in traces.raw
