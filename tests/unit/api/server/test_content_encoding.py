import asyncio
import gzip
import json
import re
import time
import zlib

import pytest

from api.server import asgi, content_encoding
from tests.unit.api.server import test_asgi

KEY = (b"authorization", b"Bearer of-a-caller")
ENCODERS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "zstd": content_encoding.zstd.compress,
    "identity": bytes,
    " GZIP ": gzip.compress,
}


def send(body, *encodings, max_body_bytes=5_000_000, headers=(KEY,), is_authorized=True):
    """Send a body with these encodings; return the status, and what the view got or the problem."""
    app = asgi.AsgiApp(
        test_asgi.echo, threads=1, max_body_bytes=max_body_bytes, is_authorized=lambda _address, _key: is_authorized
    )
    all_headers = [*headers, *((b"content-encoding", encoding.encode()) for encoding in encodings)]
    scope = {**test_asgi.SCOPE, "headers": [*all_headers, (b"content-length", str(len(body)).encode())]}
    messages, sent = [{"type": "http.request", "body": body}], []

    async def receive():
        return messages.pop() if messages else await asyncio.sleep(10)

    async def send_message(message):
        sent.append(message)

    asyncio.run(app(scope, receive, send_message))
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent[1:]))


@pytest.mark.parametrize("encoding", ENCODERS)
@pytest.mark.parametrize("size", [1, 100_000, 2_500_000])
def test_an_encoded_body_reaches_the_view_decoded(encoding, size):
    """With its own length, and without the header."""
    status, seen = send(ENCODERS[encoding](b"x" * size), encoding)
    assert (status, seen["body"], seen["CONTENT_LENGTH"]) == (201, "x" * size, str(size))
    assert encoding.strip() == "identity" or "HTTP_CONTENT_ENCODING" not in seen


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_several_members_are_one_body(encoding):
    """As a program makes them that appends."""
    encode = ENCODERS[encoding]
    assert send(encode(b"ab") + encode(b"cd"), encoding)[1]["body"] == "abcd"


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize("size", [1, 10_000])
def test_a_body_of_many_members_is_decoded(encoding, size):
    """Up to the limit, also those that are empty."""
    encode = ENCODERS[encoding]
    members = content_encoding.MAX_MEMBERS // 2
    seen = send((encode(b"x" * size) + encode(b"")) * members, encoding, max_body_bytes=50_000_000)[1]
    assert seen["CONTENT_LENGTH"] == str(size * members)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize("content", [b"", b"x"])
def test_a_body_of_too_many_members_is_400_at_once(encoding, content):
    """Each costs time, whatever comes out of it, and a body of 64 MB could have millions."""
    started_at = time.monotonic()
    status, problem = send(ENCODERS[encoding](content) * 200_000, encoding)
    assert time.monotonic() - started_at < 1
    assert (status, problem["code"]) == (400, "bad_request")
    assert problem["detail"] == f"The body is made of more than 1,000 pieces of {encoding}; encode it as one."


def test_a_gzip_body_may_be_padded_with_zeros():
    """As tapes and some file systems do, between its members and after them; the zeros are skipped quickly."""
    started_at = time.monotonic()
    body = gzip.compress(b"ab") + bytes(30_000_000) + gzip.compress(b"cd") + bytes(10)
    assert send(body, "gzip", max_body_bytes=50_000_000)[1]["body"] == "abcd"
    assert time.monotonic() - started_at < 1


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_the_limit_is_that_of_the_decoded_body(encoding):
    """A bomb is decoded up to the limit, and the view rejects it by its length."""
    status, seen = send(ENCODERS[encoding](bytes(50_000_000)), encoding, max_body_bytes=2_000_000)
    assert status == 201
    assert 2_000_000 < int(seen["CONTENT_LENGTH"]) <= 3_000_000
    assert seen["body"] == ""


@pytest.mark.parametrize(
    "encodings", [["br"], ["deflate"], ["gzip, zstd"], ["gzip", "gzip"], ["compress"], ["x" * 500]]
)
def test_another_encoding_is_415_and_names_the_header(encodings):
    """And those that are supported."""
    status, problem = send(b"x", *encodings)
    assert (status, problem["code"]) == (415, "unsupported_media_type")
    assert "Content-Encoding" in problem["detail"]
    assert "gzip or zstd" in problem["detail"]


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize(
    "damage", [lambda _: b"not encoded", lambda b: b[:-1], lambda b: b[:20], lambda b: b + b"junk"]
)
def test_a_body_that_is_not_what_the_header_says_is_400(encoding, damage):
    """Plain, cut off, or followed by something else."""
    status, problem = send(damage(ENCODERS[encoding](bytes(range(256)))), encoding)
    assert (status, problem["code"]) == (400, "bad_request")
    assert re.fullmatch(
        f"The body is not {encoding}, as Content-Encoding says: it is (cut off|damaged, or has another encoding or "
        r"none)\. Encode all of it, or omit the header\.",
        problem["detail"],
    )
    assert f"not {encoding}" in problem["detail"]


def test_a_zstd_body_that_needs_much_memory_is_refused():
    """Its window is limited."""
    parameters = {content_encoding.zstd.CompressionParameter.window_log: 27}
    compressor = content_encoding.zstd.ZstdCompressor(options=parameters)
    body = compressor.compress(b"x" * 1000) + compressor.flush()
    assert send(body, "zstd")[0] == 400


@pytest.mark.parametrize("headers", [(), (KEY,)])
def test_nothing_is_decoded_without_a_valid_key(headers, monkeypatch):
    """However small it is: a small body may decode to a large one."""
    monkeypatch.setattr(content_encoding, "DECODERS", {})
    assert send(gzip.compress(bytes(1000)), "gzip", headers=headers, is_authorized=False)[0] == 201


def test_a_body_of_the_wrong_kind_of_deflate_is_415():
    """It is named, since programs take it for gzip."""
    assert send(zlib.compress(b"x"), "deflate")[0] == 415
