"""The load generator sends complete requests, each with unique bytes, and counts responses."""

import http.server
import json

import pytest

from benchmarks import load_generator, sample_images
from tests.support import servers


class Handler(servers.QuietHandler):
    """Record every request, and respond with a label."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.headers, body))
        response_body = json.dumps({"results": [{"label": "sushi"}]}).encode()
        if self.server.chunked:
            self.send_response(self.server.status)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(response_body), response_body))
            return
        self.answer(self.server.status, response_body, {"Connection": "close"} if self.server.closes else {})


@pytest.fixture
def http_server():
    """A server whose response can be configured."""
    with servers.serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as fake_server:
        fake_server.received, fake_server.status, fake_server.chunked, fake_server.closes = [], 200, False, False
        yield fake_server


@pytest.fixture(scope="module")
def bodies():
    """Two images."""
    return [sample_images.draw_jpeg([5, number]) for number in range(2)]


def run(target, bodies, **options):
    """Run a short load."""
    url = f"http://127.0.0.1:{target.server_port}/predict?a=b"
    return load_generator.run(url, bodies, **({"connections": 3, "seconds": 0.3} | options))


def test_every_request_is_complete_and_unique(http_server, bodies):
    """A server that caches results by bytes gains nothing."""
    result = run(http_server, bodies, headers={"Authorization": "Bearer k"})

    sent = [body for _, body in http_server.received]
    assert len(sent) == len(set(sent)) > 3
    assert {len(body) for body in sent} == {len(body) + sample_images.COMMENT_SEGMENT.size for body in bodies}
    assert all(headers["Authorization"] == "Bearer k" for headers, _ in http_server.received)
    assert result.statuses.total() == len(result.milliseconds) <= len(sent)
    assert result.rate == pytest.approx(result.statuses.total() / 0.3)
    assert result.labels == {0: "sushi", 1: "sushi"}


def test_an_image_can_be_sent_as_part_of_a_form(http_server, bodies):
    """Some servers accept no raw body."""
    run(http_server, bodies, form_field="images")

    headers, body = http_server.received[0]
    boundary = headers["Content-Type"].partition("boundary=")[2].encode()
    parts = body.split(b"--" + boundary)
    assert parts[-1] == b"--\r\n"
    assert b'name="images"' in parts[1]
    assert parts[1].partition(b"\r\n\r\n")[2].startswith(b"\xff\xd8")


@pytest.mark.parametrize("response_type", ["chunked", "closes"])
def test_every_kind_of_response_is_parsed(http_server, bodies, response_type):
    """A response may come in chunks, or close the connection."""
    setattr(http_server, response_type, True)

    result = run(http_server, bodies)

    assert set(result.statuses) == {200}
    assert result.labels == {0: "sushi", 1: "sushi"}


def test_error_responses_are_counted_by_status(http_server, bodies):
    """They have no labels."""
    http_server.status = 503

    result = run(http_server, bodies)

    assert set(result.statuses) == {503}
    assert result.labels == {}


@pytest.mark.parametrize(
    ("response_body", "label"),
    [({"label": "a"}, "a"), ([{"x": 1, "label": "b"}], "b"), ({"r": {"s": [{"label": "c"}]}}, "c"), ({"x": []}, None)],
)
def test_a_label_is_found_however_deep(response_body, label):
    """Every server has its own response format."""
    assert load_generator.find_label(response_body) == label
