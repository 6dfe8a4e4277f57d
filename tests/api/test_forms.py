"""Forms, as bytes: what other parsers of them see, ours sees too."""

import io

import pytest
from werkzeug import exceptions

from api import forms

BOUNDARY = {"boundary": "B"}
HEAD = b'--B\r\nContent-Disposition: form-data; name="images"; filename="%s"\r\n'


def parsed(body, options=BOUNDARY, **limits):
    """The fields and files of a form."""
    parser = forms.Parser(**{"max_form_parts": 10, "max_form_memory_size": 100_000} | limits, silent=False)
    _, fields, files = parser.parse(io.BytesIO(body), "multipart/form-data", len(body), options)
    return list(fields.items(multi=True)), [(f.name, f.filename, f.read()) for f in files.getlist("images")]


def test_files_and_fields_come_as_they_were_sent():
    """Bytes of all kinds, a name in UTF-8, a field between two files."""
    data = bytes(range(256)) * 400 + b"\r\n--A--\r\n"
    field = b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\ncookpad-cnn\r\n'
    body = HEAD % b"a.jpg" + b"\r\n" + data + b"\r\n" + field + HEAD % "ü.png".encode() + b"\r\nx\r\n--B--\r\n"

    assert parsed(body) == ([("model", "cookpad-cnn")], [("images", "a.jpg", data), ("images", "ü.png", b"x")])


def test_an_empty_part_without_its_blank_line_hides_nothing():
    """RFC 2046 allows it, and Werkzeug's own test client sends it."""
    empty = HEAD % b"empty.jpg" + b"\r\n--B\r\n"
    body = empty + (HEAD % b"next.jpg").removeprefix(b"--B\r\n") + b"\r\nx\r\n--B--\r\n"

    assert parsed(body)[1] == [("images", "empty.jpg", b""), ("images", "next.jpg", b"x")]


@pytest.mark.parametrize("options", [BOUNDARY, {"boundary": "C"}, {"boundary": ""}, {}, None])
def test_a_form_that_cannot_be_read_is_no_empty_form(options):
    """It is cut off, or of another boundary, or of none."""
    with pytest.raises(ValueError, match=r"."):
        parsed(HEAD % b"a.jpg" + b"\r\nx\r\n", options)


@pytest.mark.parametrize("limits", [{"max_form_parts": 2}, {"max_form_memory_size": 2}])
def test_a_form_of_too_much_is_refused(limits):
    """Parts, or text of fields; files are not text."""
    files = b"".join(HEAD % b"%d.jpg" % n + b"\r\nxyz\r\n" for n in range(2))
    field = b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nabc\r\n--B--\r\n'

    assert parsed(files + b"--B--\r\n", **limits)
    with pytest.raises(exceptions.RequestEntityTooLarge):
        parsed(files + field, **limits)
