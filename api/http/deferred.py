"""Deferred responses: a view leaves the rest of a request to the ASGI adapter, which waits without a thread."""

import json
from typing import Any

import flask

DEFERRED_KEY = "sortbelt.deferred"
"""The key in the WSGI environment; the ASGI adapter sets it to None if it can wait."""


def defer(response: object) -> bool:
    """Leave a long poll or an event stream to the ASGI adapter; return whether there is one that can wait."""
    environ = flask.request.environ
    has_adapter = DEFERRED_KEY in environ
    environ[DEFERRED_KEY] = response
    return has_adapter


def encode_json(value: Any) -> bytes:
    """Return compact JSON in a line of its own, as Flask does: a shell's prompt comes after it."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
