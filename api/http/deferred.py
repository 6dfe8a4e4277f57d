"""Deferred responses: a view leaves the rest of a request to the ASGI adapter, which waits without a thread."""

import flask

DEFERRED_KEY = "sortbelt.deferred"
"""The key of a deferred response in the WSGI environment; only the ASGI adapter sets it, to None at first."""


def defer(response: object) -> bool:
    """Leave a long poll or an event stream to the ASGI adapter; return whether the app runs under one."""
    environ = flask.request.environ
    has_adapter = DEFERRED_KEY in environ
    environ[DEFERRED_KEY] = response
    return has_adapter
