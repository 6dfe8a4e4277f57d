"""Keyset pagination: a page of rows, and the link to the next page."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib import parse

import flask

from api.schemas import base
from core.db import expressions

LINK_HEADERS = {
    "Link": 'the next page, with rel="next", while there may be one; a page may be short or empty and still have one, '
    "since each request scans a limited number of rows"
}
EPOCH, MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


def list_response(
    field_name: str,
    query: base.PageQuery,
    rows: Sequence[Any],
    serialize: Callable[[Any], Any],
    cursor_of: Callable[[Any], Any],
    extra_fields: Mapping[str, Any] | None = None,
) -> flask.Response:
    """Return a page of rows, with a Link to the next page if there may be one.

    `cursor_of` makes the cursor of a row, or of the position at which an `expressions.Page` ends.
    """
    response = flask.jsonify({**(extra_fields or {}), field_name: [serialize(row) for row in rows]})
    if isinstance(rows, expressions.Page):
        last_position = rows.next_cursor
    else:
        last_position = rows[-1] if len(rows) == query.limit else None
    if last_position is not None:
        parameters = {**flask.request.args.to_dict(), "cursor": cursor_of(last_position)}
        response.headers["Link"] = f'<{flask.request.base_url}?{parse.urlencode(parameters)}>; rel="next"'
    return response


def timestamp_cursor(timestamp: datetime, row_id: str) -> str:
    """Return the cursor of a list that is sorted by a timestamp and an id."""
    return f"{(timestamp - EPOCH) // MICROSECOND}_{row_id}"


def parse_timestamp_cursor(cursor: str | None) -> tuple[datetime, str] | None:
    """Return the timestamp and the id in a cursor."""
    if cursor is None:
        return None
    microseconds, _, row_id = cursor.partition("_")
    return EPOCH + int(microseconds) * MICROSECOND, row_id
