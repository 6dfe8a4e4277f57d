"""The ASGI scope and body as a WSGI environment (PEP 3333)."""

import io
import sys
from collections.abc import MutableMapping
from typing import Any


def build_environ(scope: MutableMapping[str, Any], body: io.BytesIO, length: int) -> dict[str, Any]:
    """Return the environment; `length` is that of the whole body, of which `body` may hold nothing."""
    host, port = scope.get("server") or ("localhost", 80)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": scope.get("root_path", ""),
        "PATH_INFO": scope["path"].encode("utf-8", "surrogateescape").decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port or 0),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": (scope.get("client") or ("", 0))[0],
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": body,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in scope["headers"]:
        key = "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
        text = value.decode("latin-1")
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    environ["CONTENT_TYPE"] = environ.pop("HTTP_CONTENT_TYPE", "")
    environ.pop("HTTP_CONTENT_LENGTH", None)
    for name in ("HTTP_TRANSFER_ENCODING", "HTTP_CONTENT_ENCODING"):  # the body is complete and decoded by now
        environ.pop(name, None)
    environ["CONTENT_LENGTH"] = str(length)
    return environ
