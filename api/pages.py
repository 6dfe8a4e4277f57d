"""Pages of a list: the rows, and the link to the next page."""

import base64
from collections.abc import Callable, Sequence
from typing import Any
from urllib import parse

import flask

from api import asked


def answer(
    name: str, page: asked.Page, rows: Sequence[Any], shape: Callable[[Any], Any], key: Callable[[Any], Any]
) -> flask.Response:
    """A page of rows, with a Link to the next where there may be one; `key` is what the next begins after."""
    response = flask.jsonify({name: [shape(row) for row in rows]})
    if len(rows) == page.limit:
        cursor = base64.urlsafe_b64encode(str(key(rows[-1])).encode()).decode()
        url = flask.request.base_url + "?" + parse.urlencode({**flask.request.args.to_dict(), "cursor": cursor})
        response.headers["Link"] = f'<{url}>; rel="next"'
    return response
