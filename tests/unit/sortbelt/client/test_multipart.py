import io

import pytest
from werkzeug import http

from api.http import multipart as multipart_http
from sortbelt.client import multipart


def parse(body):
    """Return the parts that the server's parser finds in a body."""
    data = b"".join(body)
    assert int(body.headers["Content-Length"]) == len(data)
    mimetype, options = http.parse_options_header(body.headers["Content-Type"])
    parser = multipart_http.MultipartParser(max_form_parts=100, max_form_memory_size=200, silent=False)
    _, form, files = parser.parse(io.BytesIO(data), mimetype, len(data), options)
    return form.to_dict(), [(file.filename, file.read()) for file in files.getlist("images")]


@pytest.mark.parametrize(
    "name",
    [
        "a.jpg",
        "deep/er/b c.jpg",
        "寿司.jpg",
        'say "hi".jpg',
        "back\\slash.jpg",
        "100%22.jpg",
        "two\r\nlines.jpg",
        "é;=.jpg",
        "a star*.jpg",
        "1.23.45\u202fPM.jpg",
        "control\a.jpg",
    ],
)
def test_every_name_and_all_bytes_arrive_as_they_were(name):
    data = bytes(range(256)) + b"\r\n--"

    assert parse(multipart.Multipart([(name, data)])) == ({}, [(name, data)])


def test_fields_go_beside_the_images_and_order_is_kept():
    body = multipart.Multipart([("b", b"1"), ("a", b""), ("c", b"3")], {"model": "m", "priority": "bulk"})

    assert parse(body) == ({"model": "m", "priority": "bulk"}, [("b", b"1"), ("a", b""), ("c", b"3")])


def test_a_body_says_the_same_when_it_is_sent_again():
    body = multipart.Multipart([("a", b"1")])

    assert b"".join(body) == b"".join(body)


def test_the_bytes_of_an_image_are_not_copied():
    data = bytes(1000)

    assert any(piece is data for piece in multipart.Multipart([("a", data)]))
