"""Multipart forms, as bytes."""

import io

import pytest
from werkzeug import exceptions

from api.http import multipart
from core import errors

BOUNDARY = {"boundary": "B"}
HEAD = b'--B\r\nContent-Disposition: form-data; name="images"; filename="%s"\r\n'
FIELD = b'--B\r\nContent-Disposition: form-data; name="model"\r\nContent-Type: text/plain%s\r\n\r\n'


def parsed(body, options=BOUNDARY, **limits):
    """Return the fields and files of a form."""
    parser = multipart.MultipartParser(**{"max_form_parts": 10, "max_form_memory_size": 100_000} | limits, silent=False)
    _, fields, files = parser.parse(io.BytesIO(body), "multipart/form-data", len(body), options)
    return list(fields.items(multi=True)), [(f.name, f.filename, f.read()) for f in files.getlist("images")]


@pytest.mark.parametrize(
    ("environ", "host"),
    [
        ({}, ""),
        ({"SERVER_PROTOCOL": "HTTP/1.0"}, "10.0.0.1:8000"),
        ({"SERVER_PROTOCOL": "HTTP/1.0", "HTTP_HOST": "a b"}, ""),
        ({"HTTP_HOST": "host:80"}, "host"),
        ({"HTTP_HOST": "host:80", "wsgi.url_scheme": "https"}, "host:80"),
        ({"HTTP_HOST": "my_api:8000"}, "my_api:8000"),
    ],
)
def test_the_host_is_that_of_the_request(environ, host):
    """Only HTTP/1.0 does without a header."""
    server = {
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "10.0.0.1",
        "SERVER_PORT": "8000",
        "wsgi.url_scheme": "http",
    }
    request = multipart.Request({"REQUEST_METHOD": "GET", "PATH_INFO": "/"} | server | environ)
    assert request.host == host


def test_files_and_fields_are_parsed_exactly():
    """Bytes of all kinds, a name in UTF-8, a field between two files."""
    data = bytes(range(256)) * 400 + b"\r\n--A--\r\n"
    field = b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\ncookpad-cnn\r\n'
    body = HEAD % b"a.jpg" + b"\r\n" + data + b"\r\n" + field + HEAD % "ü.png".encode() + b"\r\nx\r\n--B--\r\n"

    assert parsed(body) == ([("model", "cookpad-cnn")], [("images", "a.jpg", data), ("images", "ü.png", b"x")])


def test_an_empty_part_without_a_blank_line_is_parsed():
    """RFC 2046 allows it, and Werkzeug's own test client sends it."""
    empty = HEAD % b"empty.jpg" + b"\r\n--B\r\n"
    body = empty + (HEAD % b"next.jpg").removeprefix(b"--B\r\n") + b"\r\nx\r\n--B--\r\n"

    assert parsed(body)[1] == [("images", "empty.jpg", b""), ("images", "next.jpg", b"x")]


@pytest.mark.parametrize("options", [{"boundary": ""}, {}, None])
def test_a_missing_boundary_is_named(options):
    """It is the usual mistake of a program that sets the header itself."""
    with pytest.raises(errors.BadParameter, match="no boundary"):
        parsed(HEAD % b"a.jpg" + b"\r\nx\r\n--B--\r\n", options)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "The form body is empty"),
        (HEAD % b"a.jpg" + b"\r\nx\r\n", r"cut off after part 1 \('images'\): the line '--B' with two hyphens"),
        ((HEAD % b"a.jpg").replace(b"--B", b"--C") + b"\r\nx\r\n--C--\r\n", "no line '--B', which its Content-Type"),
        (HEAD % b"\xff.jpg" + b"\r\nx\r\n--B--\r\n", "in its first part: a name or file name is not UTF-8"),
        (b"--B\r\nContent-Disposition; form-data\r\n\r\nx\r\n--B--\r\n", "in its first part: malformed segment header"),
        (FIELD % b"" + b"\xff\r\n--B--\r\n", "The field 'model' is not utf-?8; encode it as UTF-8"),
        (FIELD % b"; charset=none" + b"x\r\n--B--\r\n", "has the character set 'none', which is not accepted"),
        (FIELD % b"; charset=punycode" + b"x\r\n--B--\r\n", "has the character set 'punycode', which is not accepted"),
        (FIELD % b"; charset=utf-16" + b"x\r\n--B--\r\n", "has the character set 'utf-16', which is not accepted"),
        (HEAD % b"a.jpg" + b"\r\n--B\r\nbad\r\n\r\nx\r\n--B--\r\n", "The form is malformed"),
    ],
)
def test_a_malformed_form_is_an_error_that_says_why(body, detail):
    """And what to do, without the words of the program."""
    with pytest.raises(errors.BadParameter, match=detail) as raised:
        parsed(body)
    assert "Error" not in raised.value.detail


@pytest.mark.parametrize("limits", [{"max_form_parts": 2}, {"max_form_memory_size": 2}])
def test_a_form_over_a_limit_is_rejected(limits):
    """Of parts, or of text; files are not text."""
    files = b"".join(HEAD % b"%d.jpg" % n + b"\r\nxyz\r\n" for n in range(2))
    field = b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nabc\r\n--B--\r\n'

    assert parsed(files + b"--B--\r\n", **limits)
    with pytest.raises(exceptions.RequestEntityTooLarge):
        parsed(files + field, **limits)


def test_too_many_fields_are_not_too_many_files():
    """Sending fewer images would not help."""
    fields = FIELD % b"" + b"x\r\n"
    with pytest.raises(multipart.TooManyFormFields):
        parsed(HEAD % b"a.jpg" + b"\r\nx\r\n" + fields * 5_000 + b"--B--\r\n", max_form_parts=30)
