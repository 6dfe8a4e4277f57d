"""Static files, each with its ETag and a content security policy."""

import functools
import hashlib
from pathlib import Path

import flask
from werkzeug import Response


def serve(path: Path, content_type: str, security_policy: str) -> Response:
    """Return a file of text; browsers revalidate it at each visit by its ETag."""
    data, etag = _read_file(path)
    response = flask.Response(data, content_type=f"{content_type}; charset=utf-8")
    response.headers["Content-Security-Policy"] = security_policy
    response.headers["Referrer-Policy"] = "no-referrer"
    response.cache_control.no_cache = True
    response.set_etag(etag)
    return response.make_conditional(flask.request)


@functools.cache
def _read_file(path: Path) -> tuple[bytes, str]:
    """Return the content of a file, and its ETag."""
    data = path.read_bytes()
    return data, hashlib.sha256(data).hexdigest()[:32]
