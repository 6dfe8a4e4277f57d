"""The ASGI adapter, with small WSGI applications."""

import asyncio
import io
import json
import tracemalloc
import types
from collections import Counter
from datetime import UTC, datetime

import pytest

from api.http import deferred as deferred_http
from api.http import long_poll, server_sent_events
from api.server import asgi, body_budget, proxy, request_body, request_head
from core import enums, errors

SCOPE = {
    "type": "http",
    "http_version": "1.1",
    "method": "POST",
    "path": "/päth/%",
    "query_string": b"a=%ff",
    "headers": [(b"content-type", b"image/png"), (b"x-twice", b"1"), (b"x-twice", b"2"), (b"content-length", b"7")],
}
KEY = (b"authorization", b"Bearer of-a-caller")
NOW = datetime(2026, 1, 31, tzinfo=UTC)
ENDED_JOB = {
    **dict.fromkeys(("scan_status", "scan_found", "scan_skipped", "scan_error", "retry_of", "webhook", "expires_at")),
    **dict.fromkeys(("created_at", "sealed_at", "started_at", "finished_at"), NOW),
    "id": "job",
    "status": "done",
    "model": "m",
    "priority": enums.Priority.BULK,
    "metadata": {},
    "total": 1,
    "running": 0,
    "done": 1,
    "failed": 0,
    "cancelled": 0,
    "expired": 0,
}
QUEUED_JOB = types.SimpleNamespace(
    **ENDED_JOB | {"status": "queued", "done": 0, "started_at": None, "finished_at": None},
    **dict.fromkeys(("name", "webhook_url")),
    owner="key",
)


def echo(environ, start_response):
    """Return the WSGI environment and the body as JSON."""
    body = environ["wsgi.input"].read()
    observed = {name: value for name, value in environ.items() if isinstance(value, str)} | {"body": body.decode()}
    data = json.dumps(observed).encode()
    start_response("201 CREATED", [("Content-Type", "application/json"), ("Content-Length", str(len(data)))])
    return [data[:10], data[10:]]


@pytest.fixture
def asgi_app():
    """An adapter for bodies of at most a hundred bytes."""
    return asgi.AsgiApp(echo, threads=2, max_body_bytes=100, max_json_bytes=20)


def serve(one, *messages, silent=False, headers=(KEY,)):
    """Serve one request whose body comes in these messages; return status and body, or None."""
    incoming, sent = list(messages), []

    async def receive():
        if not incoming:
            await asyncio.sleep(60 if silent else 0)
            return {"type": "http.disconnect"}
        return incoming.pop(0)

    async def send(message):
        sent.append(message)

    asyncio.run(one(SCOPE | {"headers": [*SCOPE["headers"], *headers]}, receive, send))
    return (sent[0]["status"], b"".join(message.get("body", b"") for message in sent)) if sent else None


def piece(data, more=False):
    """Return a part of a body."""
    return {"type": "http.request", "body": data, "more_body": more}


def test_a_request_is_passed_on_as_wsgi(asgi_app):
    """Body, path, query, headers, and the real length."""
    status, body = serve(asgi_app, piece(b"abc", more=True), piece(b"", more=True), piece(b"defg"))
    observed = json.loads(body)
    assert (status, observed["body"]) == (201, "abcdefg")
    assert (observed["CONTENT_LENGTH"], observed["CONTENT_TYPE"], observed["HTTP_X_TWICE"]) == ("7", "image/png", "1,2")
    assert observed["PATH_INFO"].encode("latin-1").decode() == "/päth/%"
    assert observed["QUERY_STRING"] == "a=%ff"
    assert not any(name.startswith("HTTP_CONTENT") for name in observed)
    assert not asgi_app._body_budget.reserved


def test_a_body_over_the_limit_is_read_but_not_kept(asgi_app):
    """The view sees its length, and rejects it."""
    _, body = serve(asgi_app, *[piece(b"x" * 60, more=True)] * 5, piece(b"x"))
    observed = json.loads(body)
    assert observed["CONTENT_LENGTH"] == "301"
    assert len(observed["body"]) <= 100
    assert not asgi_app._body_budget.reserved


def test_a_disconnect_runs_no_view(asgi_app):
    """Half a body is not a request."""
    response = serve(asgi_app, piece(b"abc", more=True))
    assert response is None or response[0] == 400
    assert not asgi_app._body_budget.reserved


def test_a_silent_client_is_given_up(asgi_app, monkeypatch):
    """408, and its memory is free again."""
    monkeypatch.setattr(request_body, "IDLE_SECONDS", 0.1)
    assert serve(asgi_app, piece(b"abc", more=True), silent=True)[0] == 408
    assert not asgi_app._body_budget.reserved


def test_bodies_over_the_budget_are_rejected(asgi_app, monkeypatch):
    """The memory of all bodies together is limited."""
    monkeypatch.setattr(body_budget, "MAX_BYTES", 50)
    assert serve(asgi_app, piece(b"x" * 60, more=True), piece(b"x"))[0] == 503
    assert not asgi_app._body_budget.reserved
    assert serve(asgi_app, piece(b"x" * 40))[0] == 201


@pytest.mark.parametrize(
    ("status", "code"), [(400, "cut_off"), (408, "request_timeout"), (503, "too_busy")], ids=["cut", "slow", "full"]
)
def test_errors_of_the_adapter_are_problems(asgi_app, monkeypatch, status, code):
    """With a code and the request id, in the body and as a header."""
    monkeypatch.setattr(request_body, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(body_budget, "MAX_BYTES", 50 if status == 503 else 1000)
    pieces = [piece(b"x" * 60, more=True)]
    named = (KEY, (b"x-request-id", b"mine-17"))
    response, body = serve(asgi_app, *pieces, silent=status == 408, headers=named)
    problem = json.loads(body)
    assert (response, problem["status"], problem["code"], problem["request_id"]) == (status, status, code, "mine-17")
    assert set(problem) == {"type", "title", "status", "code", "detail", "request_id"}


def test_a_failing_view_frees_its_body(asgi_app):
    """Errors beyond Flask's handling must not leak memory."""

    def broken(environ, start_response):
        raise RuntimeError("a fault of the test's own")

    asgi_app._views._app = broken
    with pytest.raises(RuntimeError):
        serve(asgi_app, piece(b"abc"))
    assert not asgi_app._body_budget.reserved


def test_the_lifespan_is_answered(asgi_app):
    """Startup and shutdown."""
    incoming, sent = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}], []

    async def receive():
        return incoming.pop(0)

    async def send(message):
        sent.append(message["type"])

    asyncio.run(asgi_app({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_a_body_without_a_key_is_not_kept(asgi_app):
    """It is read, so that the client sees the 401."""
    status, body = serve(asgi_app, piece(b"abcdefg"), headers=())
    assert (status, json.loads(body)["body"], json.loads(body)["CONTENT_LENGTH"]) == (201, "", "7")
    assert not asgi_app._body_budget.reserved


def endless(progress, chunk=b"x" * 1000):
    """Return a WSGI application whose response has no end; it records its progress."""

    def pieces():
        try:
            while True:
                progress["pieces"] += 1
                yield chunk
        finally:
            progress["closed"] = True

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return pieces()

    return app


def test_a_response_is_made_no_faster_than_it_is_read():
    """A client that disconnects after three chunks costs four, and the iterator is closed."""
    progress = {"pieces": 0, "closed": False}
    one = asgi.AsgiApp(endless(progress), threads=2, max_body_bytes=100)
    sent, gone = [], asyncio.Event()

    async def receive():
        if not sent and not receive.asked:
            receive.asked = True
            return piece(b"")
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)
        if len(sent) == 4:
            gone.set()
        await asyncio.sleep(0)

    receive.asked = False
    asyncio.run(one(SCOPE | {"headers": [KEY]}, receive, send))
    assert progress["pieces"] <= 6
    assert progress["closed"]
    assert all(message["more_body"] for message in sent[1:4])


def test_an_empty_chunk_is_not_sent_and_a_disconnect_is_noticed_after_it():
    """In a chunked response an empty chunk would be the end."""
    progress = {"pieces": 0, "closed": False}
    one = asgi.AsgiApp(endless(progress, b""), threads=2, max_body_bytes=100)
    sent = []

    async def receive():
        if not progress["pieces"]:
            return piece(b"")
        while progress["pieces"] < 5:  # noqa: ASYNC110 (there is no event for it)
            await asyncio.sleep(0)
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    asyncio.run(one(SCOPE | {"headers": [KEY]}, receive, send))
    assert progress["closed"]
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]


@pytest.mark.parametrize(("is_known", "expected"), [(False, "203.0.113.7"), (True, "sb_one")])
def test_the_chunks_of_a_response_are_made_in_the_turn_of_the_client_behind_the_proxy(is_known, expected):
    """And not in that of the proxy, which all its clients would share; a key that has been valid has its own."""
    one = asgi.AsgiApp(
        endless({"pieces": 0, "closed": False}),
        threads=2,
        max_body_bytes=100,
        proxy_headers=proxy.ProxyHeaders(trusted_proxies="10.0.0.0/8"),
        is_known=lambda key: is_known and key == "sb_one",
    )
    senders, run = [], one._views.threads.run

    async def record(sender, *call):
        senders.append(sender)
        return await run(sender, *call)

    one._views.threads.run = record
    sent = []

    async def receive():
        while len(sent) < 3:
            if not senders:
                return piece(b"")
            await asyncio.sleep(0)
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    headers = [(b"x-forwarded-for", b"203.0.113.7"), (b"authorization", b"Bearer sb_one")]
    asyncio.run(one(SCOPE | {"headers": headers, "client": ("10.0.0.1", 1)}, receive, send))
    assert len(senders) > 3
    assert set(senders) == {expected}


def test_a_response_that_fails_has_no_end(asgi_app, caplog):
    """The head was sent; an unavailable database must not look like the end of the list."""

    def pieces():
        yield b"first"
        raise errors.DatabaseUnavailable("It is away.")

    def broken(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/csv")])
        return pieces()

    asgi_app._views._app = broken
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        if not sent:
            return piece(b"")
        return await asyncio.Event().wait()

    asyncio.run(asgi_app(SCOPE | {"headers": [KEY]}, receive, send))
    assert [message.get("body") for message in sent] == [None, b"first"]
    assert sent[-1]["more_body"]
    assert "It is away." in caplog.text


def test_a_large_body_needs_a_valid_key():
    """It is kept only then; small and empty bodies are kept without a check."""
    calls = []

    def trusts(address, key):
        calls.append((address, key))
        return key == "of-a-caller"

    one = asgi.AsgiApp(echo, threads=2, max_body_bytes=100_000_000, is_authorized=trusts)
    large = b"x" * (asgi.SMALL_BODY_BYTES + 1)
    size = (b"content-length", str(len(large)).encode())
    for headers, kept in (((KEY, size), len(large)), (((b"authorization", b"bearer wrong"), size), 0)):
        status, body = serve(one, piece(large), headers=headers)
        assert (status, len(json.loads(body)["body"])) == (201, kept)
    assert calls == [("", "of-a-caller"), ("", "wrong")]
    serve(one, piece(b"x"), headers=(KEY, (b"content-length", b"1")))
    assert len(calls) == 2


def test_one_key_cannot_use_the_whole_budget(monkeypatch):
    """A key with its share in use is rejected; others are not."""
    monkeypatch.setattr(body_budget, "MAX_BYTES", 4_000_000)
    one = asgi.AsgiApp(echo, threads=2, max_body_bytes=800_000)
    size = (b"content-length", b"800000")
    mine, theirs = (KEY, size), ((b"authorization", b"Bearer of-another"), size)
    held = one._body_budget.open_reservation("of-a-caller", 800_000)
    held.reserve(800_000)
    read = []

    async def receive():
        read.append(piece(b"x" * 200_000, more=len(read) < 3))
        return read[-1]

    async def send(message):
        read.append(message["type"])

    asyncio.run(one(SCOPE | {"headers": [*SCOPE["headers"], *mine]}, receive, send))
    assert read[4:] == ["http.response.start", "http.response.body"]  # all of the body was read before
    assert serve(one, piece(b"x" * 800_000), headers=mine)[0] == 503
    assert serve(one, piece(b"x" * 800_000), headers=theirs)[0] == 201
    held.release()
    assert serve(one, piece(b"x" * 800_000), headers=mine)[0] == 201
    assert not one._body_budget.reserved


def test_small_unchecked_bodies_have_a_part_of_the_budget(monkeypatch):
    """Beyond it their keys are checked: junk does not lock valid keys out."""
    monkeypatch.setattr(body_budget, "MAX_SMALL_BYTES", 100)
    one = asgi.AsgiApp(
        echo, threads=2, max_body_bytes=100_000, is_authorized=lambda _address, key: key == "of-a-caller"
    )
    reserved = one._body_budget.reserve_small(95)
    junk = (b"authorization", b"Bearer junk")
    for key, kept in ((junk, 0), (KEY, 7)):
        status, body = serve(one, piece(b"abcdefg"), headers=(key,))
        assert (status, len(json.loads(body)["body"])) == (201, kept)
    reserved.release()
    assert len(json.loads(serve(one, piece(b"abcdefg"), headers=(junk,))[1])["body"]) == 7
    assert not one._body_budget.reserved


@pytest.mark.parametrize(("least", "status"), [(100, 408), (10, 201)])
def test_a_trickling_client_is_given_up(asgi_app, monkeypatch, least, status):
    """However much it sent at first; a slow but steady one is not."""
    monkeypatch.setattr(request_body, "RATE_WINDOW_SECONDS", 0.1)
    monkeypatch.setattr(request_body, "MIN_BYTES_PER_SECOND", least)
    incoming, sent = [piece(b"x" * 60, more=True), *[piece(b"x", more=True)] * 20, piece(b"x")], []

    async def receive():
        await asyncio.sleep(0.02)
        return incoming.pop(0)

    async def send(message):
        sent.append(message)

    asyncio.run(asgi_app(SCOPE | {"headers": [*SCOPE["headers"], KEY]}, receive, send))
    assert sent[0]["status"] == status
    assert not asgi_app._body_budget.reserved


def test_little_of_a_body_without_a_key_is_read(asgi_app):
    """It is answered after a few megabytes, and the connection is closed."""
    read, sent = [], []

    async def receive():
        read.append(1_000_000)
        return piece(bytes(read[-1]), more=True)

    async def send(message):
        sent.append(message)

    asyncio.run(asgi_app(SCOPE, receive, send))
    assert sum(read) <= 10_000_000
    assert (b"connection", b"close") in sent[0]["headers"]


@pytest.mark.parametrize("headers", [(), (KEY,)], ids=["no key", "too much"])
def test_expect_is_not_answered_for_a_body_that_will_be_rejected(asgi_app, headers):
    """`receive` is not called: that would send 100 Continue."""
    sent = []

    async def receive():
        raise AssertionError("leave was given")

    async def send(message):
        sent.append(message)

    asks = [(b"content-length", b"99000000000"), (b"expect", b"100-continue"), *headers]
    asyncio.run(asgi_app(SCOPE | {"headers": asks}, receive, send))
    assert (b"connection", b"close") in sent[0]["headers"]
    assert json.loads(sent[1]["body"])["CONTENT_LENGTH"] == "99000000000"


@pytest.mark.parametrize("headers", [(), (KEY,)], ids=["no key", "key"])
def test_a_websocket_is_refused_before_its_handshake(asgi_app, headers):
    """`websocket.close` is answered with 403 by every ASGI server; a request without a key is refused too."""
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    scope = {name: value for name, value in SCOPE.items() if name != "method"}
    asyncio.run(asgi_app(scope | {"type": "websocket", "headers": list(headers)}, receive, send))
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_an_unknown_protocol_is_ignored(asgi_app):
    """Nothing is sent, since nothing is known that its client would understand."""
    asyncio.run(asgi_app({"type": "quic", "headers": []}, None, None))


def test_a_body_is_held_once(asgi_app):
    """Its chunks are not kept beside it: the peak is the body, with the growth of its buffer."""
    size, count = 1_000_000, 40
    asgi_app._max_body_bytes = size * count
    chunks = iter(range(count))
    held = []

    def view(environ, start_response):
        held.append((tracemalloc.get_traced_memory()[1], environ["wsgi.input"].getbuffer().nbytes))
        return echo({**environ, "wsgi.input": io.BytesIO()}, start_response)

    async def receive():
        return piece(bytes(size), more=next(chunks) < count - 1)

    async def send(message):
        pass

    asgi_app._views._app = view
    tracemalloc.start()
    try:
        asyncio.run(asgi_app(SCOPE | {"headers": [KEY]}, receive, send))
    finally:
        tracemalloc.stop()
    ((peak, nbytes),) = held
    assert nbytes == size * count
    assert peak < 1.3 * size * count


class BrokenWatcher:
    """A watcher whose database goes away when results are read, or at once."""

    def __init__(self, row, error):
        self.eta_cache = types.SimpleNamespace(latest=None)
        self.streams = Counter()
        self.waits = Counter()
        self._row, self._error = row, error

    async def changes(self, *_job, **_known):
        if self._row is None:
            raise self._error
        yield self._row

    async def results(self, _row):
        raise self._error


class GoneWatcher(BrokenWatcher):
    """A watcher of a job that does not exist."""

    def __init__(self):
        super().__init__(None, None)

    async def changes(self, *_job, **_known):
        for row in ():
            yield row


def deferring(deferred, status):
    """A WSGI application that leaves its response to the adapter."""

    def app(environ, start_response):
        environ[deferred_http.DEFERRED_KEY] = deferred
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", "4"), ("Location", "/x")])
        return [b"view"]

    return app


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.DatabaseUnavailable("The host db-one is away."), 503, "database_unavailable"),
        (KeyError("x"), 500, "internal_error"),
    ],
    ids=["unavailable", "bug"],
)
def test_a_long_poll_that_fails_is_a_problem(error, status, code):
    """The client gets a response in any case, with Retry-After; what failed is for the log."""
    wait = long_poll.LongPoll("job", "key", "http://x/", 1.0, show_full_url=True)
    response, body, headers = serve_deferred(deferring(wait, "200 OK"), BrokenWatcher(None, error))
    problem = json.loads(body)
    assert (response, problem["code"]) == (status, code)
    assert headers[b"content-type"] == b"application/problem+json"
    assert headers[b"retry-after"]
    assert b"db-one" not in body


@pytest.mark.parametrize("row", [None, "ended"])
def test_a_submission_whose_wait_fails_is_accepted_all_the_same(row):
    """The job exists: the caller gets the 202 that it would have got without the wait, with its other fields."""
    ended = row and types.SimpleNamespace(**ENDED_JOB)
    wait = long_poll.LongPoll(
        ENDED_JOB["id"], "key", "http://x/", 1.0, show_full_url=True, submitted=QUEUED_JOB, more_fields={"left_out": []}
    )
    watcher = BrokenWatcher(ended, errors.DatabaseUnavailable("The host db-one is away."))
    response, body, headers = serve_deferred(deferring(wait, "202 ACCEPTED"), watcher)
    job = json.loads(body)
    assert (response, headers[b"location"], headers[b"content-type"]) == (202, b"/x", b"application/json")
    assert (job["id"], job["counts"]["queued"], job["left_out"]) == (ENDED_JOB["id"], 1, [])
    assert int(headers[b"content-length"]) == len(body)
    assert {b"etag", b"retry-after"} <= headers.keys()


def test_a_submission_whose_job_is_gone_while_it_waits_is_accepted_all_the_same():
    """It cannot have results any more, but it was accepted."""
    wait = long_poll.LongPoll("job", "key", "http://x/", 1.0, show_full_url=True, submitted=QUEUED_JOB)
    response, body, _ = serve_deferred(deferring(wait, "202 ACCEPTED"), GoneWatcher())
    assert (response, json.loads(body)["status"]) == (202, "queued")


@pytest.mark.parametrize("with_watcher", [True, False])
def test_a_view_knows_whether_the_adapter_makes_its_response(with_watcher):
    """Then it need not make one itself; without a watcher nothing is deferred."""
    is_there = []

    def app(environ, start_response):
        is_there.append(deferred_http.DEFERRED_KEY in environ)
        return echo(environ, start_response)

    serve_deferred(app, GoneWatcher() if with_watcher else None)
    assert is_there == [with_watcher]


def test_an_event_stream_that_fails_ends_and_frees_its_place(caplog):
    """Its client reconnects with the id of the last event."""
    stream = server_sent_events.EventStream("job", "key", "http://x/", show_full_url=True, last_event_id="")
    watcher = BrokenWatcher(None, errors.DatabaseUnavailable("It is away."))
    response, body, _ = serve_deferred(deferring(stream, "200 OK"), watcher)
    assert (response, body) == (200, b"retry: 2000\n\n")
    assert not watcher.streams
    assert "event stream of job job failed" in caplog.text


@pytest.mark.parametrize(
    ("value", "length"),
    [(b"7", 7), (b"", 0), (b"-1", 0), (b"x", 0), (b"9" * 5000, 999_999_999_999_999_999)],
    ids=["usual", "empty", "negative", "text", "long"],
)
def test_a_declared_length_is_a_number_whatever_the_client_declares(value, length):
    """Python reads no number of thousands of digits."""
    assert request_head.RequestHead({**SCOPE, "headers": [(b"content-length", value)]}).content_length == length


def serve_deferred(app, watcher):
    """Serve one request with a watcher; the status, body and headers of the response."""
    asgi_app = asgi.AsgiApp(app, threads=2, max_body_bytes=100, job_watcher=watcher)
    sent, received = [], [piece(b"")]

    async def receive():
        return received.pop() if received else await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    asyncio.run(asgi_app(SCOPE | {"headers": [KEY]}, receive, send))
    body = b"".join(message.get("body", b"") for message in sent[1:])
    assert not sent[-1].get("more_body")
    return sent[0]["status"], body, dict(sent[0]["headers"])


@pytest.mark.parametrize(
    ("content_type", "is_limited"),
    [(b"application/json", True), (b"Application/Problem+JSON; charset=utf-8", True), (b"image/png", False)],
)
def test_json_has_a_limit_of_its_own(asgi_app, content_type, is_limited):
    """Row 7: a JSON body over it is not buffered."""
    messages = [{"type": "http.request", "body": b"x" * 30}]
    _, body = serve(asgi_app, *messages, headers=(KEY, (b"content-type", content_type)))
    assert len(json.loads(body)["body"]) == (0 if is_limited else 30)
