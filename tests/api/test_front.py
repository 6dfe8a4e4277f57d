import asyncio
import json

import pytest

from api import front

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
    start_response("201 CREATED", [("Content-Type", "application/json"), ("X-Seen", "yes")])
    return [json.dumps(seen).encode()[:10], json.dumps(seen).encode()[10:]]


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
