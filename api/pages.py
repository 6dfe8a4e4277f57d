"""Pages of a list: the limit, the cursor that says where the next one begins, and the link to it."""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any

import flask
from werkzeug import datastructures

from jobs import errors

DEFAULT = 100
MOST = 1000
NOT_OURS = "The cursor is not one of ours: take it from the Link of the page before."


def limit() -> int:
    """How many rows are asked for."""
    return number("limit", int, 1, MOST) or DEFAULT


def cursor() -> str | None:
    """Where the page begins: the key of the last row of the page before."""
    given = flask.request.args.get("cursor")
    if given is None:
        return None
    try:
        return base64.urlsafe_b64decode(given.encode()).decode()
    except (binascii.Error, UnicodeError):
        raise errors.BadParameter(NOT_OURS) from None


def row_cursor() -> int | None:
    """As `cursor`, where rows are numbered."""
    given = cursor()
    if given is None:
        return None
    if not given.isdecimal() or len(given) > 18:
        raise errors.BadParameter(NOT_OURS)
    return int(given)


def answer(name: str, rows: Sequence[Any], shape: Callable[[Any], Any], key: Callable[[Any], Any]) -> flask.Response:
    """A page of rows, with a Link to the next where there may be one."""
    response = flask.jsonify({name: [shape(row) for row in rows]})
    if len(rows) == limit():
        args = datastructures.MultiDict(flask.request.args)
        args["cursor"] = base64.urlsafe_b64encode(str(key(rows[-1])).encode()).decode()
        url = flask.url_for(
            flask.request.endpoint or "", _external=True, **(flask.request.view_args or {}), **args.to_dict()
        )
        response.headers["Link"] = f'<{url}>; rel="next"'
    return response


def number(name: str, kind: Callable[[str], Any], low: float, high: float) -> Any:
    """A number among the parameters, or None.

    Raises:
        errors.BadParameter: it is none, or not between `low` and `high`.
    """
    given = flask.request.args.get(name)
    if given is None:
        return None
    try:
        value = kind(given)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        raise errors.BadParameter(f"{name}={given!r} is not acceptable: it must be a number from {low} to {high}.")
    return value
