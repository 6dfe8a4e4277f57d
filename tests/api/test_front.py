import asyncio
import json

import pytest

from api import front, room
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
    assert not made._room.held


def test_a_body_over_the_limit_is_read_to_its_end_but_not_kept(made):
    """The view sees how long it was, and refuses it."""
    _, body = serve(made, *[piece(b"x" * 60, more=True)] * 5, piece(b"x"))
    seen = json.loads(body)
    assert seen["CONTENT_LENGTH"] == "301"
    assert len(seen["body"]) <= 100
    assert not made._room.held


def test_who_hangs_up_gets_no_view(made):
    """Half a body is no request."""
    answered = serve(made, piece(b"abc", more=True))
    assert answered is None or answered[0] == 400
    assert not made._room.held


def test_who_is_silent_for_too_long_is_given_up(made, monkeypatch):
    """408, and nothing is held for them any more."""
    monkeypatch.setattr(front, "IDLE_SECONDS", 0.1)
    assert serve(made, piece(b"abc", more=True), silent=True)[0] == 408
    assert not made._room.held


def test_too_much_at_once_is_refused_for_now(made, monkeypatch):
    """What all senders together have in our memory has a limit."""
    monkeypatch.setattr(room, "MOST_BYTES", 50)
    assert serve(made, piece(b"x" * 60, more=True), piece(b"x"))[0] == 503
    assert not made._room.held
    assert serve(made, piece(b"x" * 40))[0] == 201


@pytest.mark.parametrize(
    ("status", "code"), [(400, "cut_off"), (408, "request_timeout"), (503, "too_busy")], ids=["cut", "slow", "full"]
)
def test_what_the_front_itself_refuses_has_the_shape_of_all_errors(made, monkeypatch, status, code):
    """A problem with a code and the request's id, in the body and as a header."""
    monkeypatch.setattr(front, "IDLE_SECONDS", 0.1)
    monkeypatch.setattr(room, "MOST_BYTES", 50 if status == 503 else 1000)
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
    assert not made._room.held


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
    assert not made._room.held


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


def test_one_key_cannot_fill_the_room(monkeypatch):
    """Who holds a share of it is refused more, and sees that; everybody else still gets in."""
    monkeypatch.setattr(room, "MOST_BYTES", 4_000_000)
    one = front.Front(told, threads=2, most_bytes=800_000)
    size = (b"content-length", b"800000")
    mine, theirs = (KEY, size), ((b"authorization", b"Bearer of-another"), size)
    held = one._room.of("of-somebody", 800_000)
    held.hold(800_000)
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
    held.leave()
    assert serve(one, piece(b"x" * 800_000), headers=mine)[0] == 201
    assert not one._room.held


def test_small_bodies_of_strangers_have_little_room_and_then_keys_are_asked_for(monkeypatch):
    """Junk keeps nobody out: who has a good key then goes by its share."""
    monkeypatch.setattr(room, "MOST_SMALL_BYTES", 100)
    one = front.Front(told, threads=2, most_bytes=100_000, trusts=lambda _address, key: key == "of-somebody")
    reserved = one._room.small(95)
    junk = (b"authorization", b"Bearer junk")
    for key, kept in ((junk, 0), (KEY, 7)):
        status, body = serve(one, piece(b"abcdefg"), headers=(key,))
        assert (status, len(json.loads(body)["body"])) == (201, kept)
    reserved.leave()
    assert len(json.loads(serve(one, piece(b"abcdefg"), headers=(junk,))[1])["body"]) == 7
    assert not one._room.held


@pytest.mark.parametrize(("least", "status"), [(100, 408), (10, 201)])
def test_who_sends_a_byte_now_and_then_is_given_up(made, monkeypatch, least, status):
    """However much came at first; a slow but honest line lives."""
    monkeypatch.setattr(front, "PACE_SECONDS", 0.1)
    monkeypatch.setattr(front, "LEAST_BYTES_PER_SECOND", least)
    coming, sent = [piece(b"x" * 60, more=True), *[piece(b"x", more=True)] * 20, piece(b"x")], []

    async def receive():
        await asyncio.sleep(0.02)
        return coming.pop(0)

    async def send(message):
        sent.append(message)

    asyncio.run(made(SCOPE | {"headers": [*SCOPE["headers"], KEY]}, receive, send))
    assert sent[0]["status"] == status
    assert not made._room.held


def test_little_is_read_of_a_stranger_s_body(made):
    """Who shows no key is answered after a few megabytes, and the connection is closed."""
    read, sent = [], []

    async def receive():
        read.append(1_000_000)
        return piece(bytes(read[-1]), more=True)

    async def send(message):
        sent.append(message)

    asyncio.run(made(SCOPE, receive, send))
    assert sum(read) <= 10_000_000
    assert (b"connection", b"close") in sent[0]["headers"]


@pytest.mark.parametrize("headers", [(), (KEY,)], ids=["no key", "too much"])
def test_nobody_gets_leave_to_send_what_will_be_refused(made, headers):
    """Nothing is received: that would be the leave."""
    sent = []

    async def receive():
        raise AssertionError("leave was given")

    async def send(message):
        sent.append(message)

    asks = [(b"content-length", b"99000000000"), (b"expect", b"100-continue"), *headers]
    asyncio.run(made(SCOPE | {"headers": asks}, receive, send))
    assert (b"connection", b"close") in sent[0]["headers"]
    assert json.loads(sent[1]["body"])["CONTENT_LENGTH"] == "99000000000"
