import io

import pytest
import werkzeug.formparser

from sortbelt import multipart


def parse(body):
    """What a real server's parser finds in a body."""
    data = b"".join(body)
    assert int(body.headers["Content-Length"]) == len(data)
    environ = {
        "REQUEST_METHOD": "POST",
        "CONTENT_TYPE": body.headers["Content-Type"],
        "CONTENT_LENGTH": body.headers["Content-Length"],
        "wsgi.input": io.BytesIO(data),
    }
    _, form, files = werkzeug.formparser.parse_form_data(environ, stream_factory=lambda *_, **__: io.BytesIO())
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
    ],
)
def test_every_name_and_all_bytes_arrive_as_they_were(name):
    data = bytes(range(256)) + b"\r\n--"

    assert parse(multipart.Multipart([(name, data)])) == ({}, [(name, data)])


def test_fields_go_beside_the_pictures_and_order_is_kept():
    body = multipart.Multipart([("b", b"1"), ("a", b""), ("c", b"3")], {"model": "m", "priority": "bulk"})

    assert parse(body) == ({"model": "m", "priority": "bulk"}, [("b", b"1"), ("a", b""), ("c", b"3")])


def test_a_body_says_the_same_when_it_is_sent_again():
    body = multipart.Multipart([("a", b"1")])

    assert b"".join(body) == b"".join(body)


def test_the_bytes_of_a_picture_are_not_copied():
    data = bytes(1000)

    assert any(piece is data for piece in multipart.Multipart([("a", data)]))
