import asyncio
import json

import pytest

from api import front
from jobs import errors

SCOPE = {
    "type": "http",
    "http_version": "1.1",
    "method": "POST",
    "path": "/päth/%",
    "query_string": b"a=%ff",
    "headers": [(b"content-type", b"image/png"), (b"x-twice", b"1"), (b"x-twice", b"2"), (b"content-length", b"7")],
}
KEY = (b"authorization", b"Bearer of-somebody")


def told(environ, start_response):
    """A WSGI application that tells what it was given."""
    body = environ["wsgi.input"].read()
    seen = {name: value for name, value in environ.items() if isinstance(value, str)} | {"body": body.decode()}
    data = json.dumps(seen).encode()
    start_response("201 CREATED", [("Content-Type", "application/json"), ("Content-Length", str(len(data)))])
    return [data[:10], data[10:]]


@pytest.fixture
def made():
    """A front for bodies of at most a hundred bytes."""
    one = front.Front(told, threads=2, most_bytes=100)
    yield one
    one._threads.shutdown()


def serve(one, *messages, silent=False, headers=(KEY,)):
    """Serve one request whose body comes in these messages; the status and the body of the answer, or None."""
    coming, sent = list(messages), []

    async def receive():
        if not coming:
            await asyncio.sleep(60 if silent else 0)
            return {"type": "http.disconnect"}
        return coming.pop(0)

    async def send(message):
        sent.append(message)

    asyncio.run(one(SCOPE | {"headers": [*SCOPE["headers"], *headers]}, receive, send))
    return (sent[0]["status"], b"".join(message.get("body", b"") for message in sent)) if sent else None


def piece(data, more=False):
    """A part of a body."""
    return {"type": "http.request", "body": data, "more_body": more}


def test_a_request_arrives_whole_and_as_wsgi_has_it(made):
    """Body in one piece, path, query, headers, and the length that it really has."""
    status, body = serve(made, piece(b"abc", more=True), piece(b"", more=True), piece(b"defg"))
    seen = json.loads(body)
    assert (status, seen["body"]) == (201, "abcdefg")
    assert (seen["CONTENT_LENGTH"], seen["CONTENT_TYPE"], seen["HTTP_X_TWICE"]) == ("7", "image/png", "1,2")
    assert seen["PATH_INFO"].encode("latin-1").decode() == "/päth/%"
    assert seen["QUERY_STRING"] == "a=%ff"
    assert not any(name.startswith("HTTP_CONTENT") for name in seen)
    assert made._held == 0


def test_a_body_over_the_limit_is_read_to_its_end_but_not_kept(made):
    """The view sees how long it was, and refuses it."""
    _, body = serve(made, *[piece(b"x" * 60, more=True)] * 5, piece(b"x"))
    seen = json.loads(body)
    assert seen["CONTENT_LENGTH"] == "301"
    assert len(seen["body"]) <= 100
    assert made._held == 0


def test_who_hangs_up_gets_no_view(made):
    """Half a body is no request."""
    answered = serve(made, piece(b"abc", more=True))
    assert answered is None or answered[0] == 400
    assert made._held == 0


def test_who_is_silent_for_too_long_is_given_up(made, monkeypatch):
    """408, and nothing is held for them any more."""
    monkeypatch.setattr(front, "IDLE_SECONDS", 0.1)
    assert serve(made, piece(b"abc", more=True), silent=True)[0] == 408
    assert made._held == 0


def test_too_much_at_once_is_refused_for_now(made, monkeypatch):
    """What all senders together have in our memory has a limit."""
    monkeypatch.setattr(front, "MOST_HELD_BYTES", 50)
    assert serve(made, piece(b"x" * 60, more=True), piece(b"x"))[0] == 503
    assert made._held == 0
    assert serve(made, piece(b"x" * 40))[0] == 201


@pytest.mark.parametrize(
    ("status", "code"), [(400, "cut_off"), (408, "request_timeout"), (503, "too_busy")], ids=["cut", "slow", "full"]
)
def test_what_the_front_itself_refuses_has_the_shape_of_all_errors(made, monkeypatch, status, code):
    """A problem with a code and the request's id, in the body and as a header."""
    monkeypatch.setattr(front, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(front, "MOST_HELD_BYTES", 50 if status == 503 else 1000)
    pieces = [piece(b"x" * 60, more=True)]
    named = (KEY, (b"x-request-id", b"mine-17"))
    answered, body = serve(made, *pieces, silent=status == 408, headers=named)
    told = json.loads(body)
    assert (answered, told["status"], told["code"], told["request_id"]) == (status, status, code, "mine-17")
    assert set(told) == {"type", "title", "status", "code", "detail", "request_id"}


def test_a_view_that_fails_frees_what_it_held(made):
    """An error beyond Flask's own handling must not leak memory from request to request."""

    def broken(environ, start_response):
        raise RuntimeError("a fault of the test's own")

    made._app = broken
    with pytest.raises(RuntimeError):
        serve(made, piece(b"abc"))
    assert made._held == 0


def test_starting_and_stopping_are_answered(made):
    """The lifespan of ASGI."""
    coming, sent = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}], []

    async def receive():
        return coming.pop(0)

    async def send(message):
        sent.append(message["type"])

    asyncio.run(made({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_who_shows_no_key_gets_an_answer_and_no_room(made):
    """The body of a stranger is read, so that they see the 401, and kept nowhere."""
    status, body = serve(made, piece(b"abcdefg"), headers=())
    assert (status, json.loads(body)["body"], json.loads(body)["CONTENT_LENGTH"]) == (201, "", "7")
    assert made._held == 0


def endless(told):
    """A WSGI application whose answer has no end and no length; it notes what became of it."""

    def pieces():
        try:
            while True:
                told["pieces"] += 1
                yield b"x" * 1000
        finally:
            told["closed"] = True

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return pieces()

    return app


def test_an_answer_is_made_no_faster_than_it_is_read_and_not_for_who_has_gone():
    """A reader who takes three pieces and hangs up costs four, and what made them is closed."""
    told = {"pieces": 0, "closed": False}
    one = front.Front(endless(told), threads=2, most_bytes=100)
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
    one._threads.shutdown()
    assert told["pieces"] <= 6
    assert told["closed"]
    assert all(message["more_body"] for message in sent[1:4])


def test_an_answer_that_breaks_off_has_no_end(made, caplog):
    """The head was sent; a database that goes away then must not look like the end of the list."""

    def pieces():
        yield b"first"
        raise errors.DatabaseUnavailable("It is away.")

    def broken(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/csv")])
        return pieces()

    made._app = broken
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        if not sent:
            return piece(b"")
        return await asyncio.Event().wait()

    asyncio.run(made(SCOPE | {"headers": [KEY]}, receive, send))
    assert [message.get("body") for message in sent] == [None, b"first"]
    assert sent[-1]["more_body"]
    assert "It is away." in caplog.text


def test_a_wrong_key_gets_an_answer_and_no_room():
    """A large body is kept only for who is trusted; a small one, or none, asks nobody."""
    asked = []

    def trusts(address, key):
        asked.append((address, key))
        return key == "of-somebody"

    one = front.Front(told, threads=2, most_bytes=100_000_000, trusts=trusts)
    large = b"x" * (front.SMALL_BYTES + 1)
    size = (b"content-length", str(len(large)).encode())
    for headers, kept in (((KEY, size), len(large)), (((b"authorization", b"bearer wrong"), size), 0)):
        status, body = serve(one, piece(large), headers=headers)
        assert (status, len(json.loads(body)["body"])) == (201, kept)
    assert asked == [("", "of-somebody"), ("", "wrong")]
    serve(one, piece(b"x"), headers=(KEY, (b"content-length", b"1")))
    assert len(asked) == 2
    one._threads.shutdown()
    one._doorkeepers.shutdown()
