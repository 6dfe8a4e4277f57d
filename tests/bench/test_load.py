"""The load: whole requests, each of other bytes, counted rightly."""

import json
import threading
from http import server

import pytest

from bench import load, pictures


class Handler(server.BaseHTTPRequestHandler):
    """Keeps what came, and answers with a label."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.headers, body))
        answer = json.dumps({"results": [{"label": "sushi"}]}).encode()
        self.send_response(self.server.status)
        if self.server.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(answer), answer))
            return
        self.send_header("Content-Length", str(len(answer)))
        if self.server.closes:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@pytest.fixture
def served():
    """A server, whose ways can be set."""
    made = server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.seen, made.status, made.chunked, made.closes = [], 200, False, False
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture(scope="module")
def bodies():
    """Two pictures."""
    return [pictures.draw([5, number]) for number in range(2)]


def run(served, bodies, **how):
    """A short load."""
    url = f"http://127.0.0.1:{served.server_port}/predict?a=b"
    return load.run(url, bodies, **({"connections": 3, "seconds": 0.3} | how))


def test_every_request_is_whole_and_of_its_own_bytes(served, bodies):
    """A server that remembers pictures gains nothing."""
    done = run(served, bodies, headers={"Authorization": "Bearer k"})

    sent = [body for _, body in served.seen]
    assert len(sent) == len(set(sent)) > 3
    assert {len(body) for body in sent} == {len(body) + pictures.STAMP.size for body in bodies}
    assert all(headers["Authorization"] == "Bearer k" for headers, _ in served.seen)
    assert done.statuses.total() == len(done.milliseconds) <= len(sent)
    assert done.rate == pytest.approx(done.statuses.total() / 0.3)
    assert done.labels == {0: "sushi", 1: "sushi"}


def test_a_picture_can_go_as_a_part_of_a_form(served, bodies):
    """For those who take no raw body."""
    run(served, bodies, form="pictures")

    headers, body = served.seen[0]
    boundary = headers["Content-Type"].partition("boundary=")[2].encode()
    parts = body.split(b"--" + boundary)
    assert parts[-1] == b"--\r\n"
    assert b'name="pictures"' in parts[1]
    assert parts[1].partition(b"\r\n\r\n")[2].startswith(b"\xff\xd8")


@pytest.mark.parametrize("way", ["chunked", "closes"])
def test_every_kind_of_answer_is_understood(served, bodies, way):
    """In chunks, or with the connection closed after it."""
    setattr(served, way, True)

    done = run(served, bodies)

    assert set(done.statuses) == {200}
    assert done.labels == {0: "sushi", 1: "sushi"}


def test_errors_are_counted_as_such(served, bodies):
    """And have no labels."""
    served.status = 503

    done = run(served, bodies)

    assert set(done.statuses) == {503}
    assert done.labels == {}


@pytest.mark.parametrize(
    ("answer", "label"),
    [({"label": "a"}, "a"), ([{"x": 1, "label": "b"}], "b"), ({"r": {"s": [{"label": "c"}]}}, "c"), ({"x": []}, None)],
)
def test_a_label_is_found_however_deep(answer, label):
    """Each server shapes its answer in its own way."""
    assert load.label_in(answer) == label
