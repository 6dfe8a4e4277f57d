"""Streams: all pages of a list in one response, in the format that the request accepts."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flask

from api.http import auth, export_formats
from api.schemas import base
from core import errors
from core.db import database, expressions
from core.db.queries import api_keys

KEY_CHECK_SECONDS = 10.0  # between two checks whether the key of a stream is still valid
STREAM_PAGE_ROWS = 1000  # rows of a stream that are in memory at a time
ReadPage = Callable[[Any, int], expressions.Page]
"""Reads a page, from a cursor on, of so many rows at most."""


class KeyInvalidated(errors.ServiceUnavailable):
    """The key was revoked or has expired during the response."""

    code = "key_ended"


def stream_response(
    db: database.Database,
    accepted: export_formats.Accepted,
    table: export_formats.Table,
    query: base.PageQuery,
    read_page: ReadPage,
    after: Any,
) -> flask.Response:
    """Return all rows from a cursor on, up to the query's limit if one was given; each page is read when it is due.

    The first page is read at once, so that its errors are still a problem response.
    """
    limit = query.limit if "limit" in query.model_fields_set else None
    first_page = read_page(after, _page_rows(limit))
    pages = _iterate_pages(db, auth.caller().id, read_page, first_page, limit)
    media_type = accepted.media_type
    response = flask.Response(export_formats.export(accepted, pages, table))
    response.headers["Content-Type"] = media_type + ("; charset=utf-8" if media_type == "text/csv" else "")
    response.headers["Vary"] = "Accept"
    return response


def _iterate_pages(
    db: database.Database, key_id: str, read_page: ReadPage, rows: expressions.Page, remaining: int | None
) -> Iterator[Sequence[Any]]:
    key_checked_at = time.monotonic()
    while True:
        yield rows  # also none: other callers get their turns between two pages
        remaining = None if remaining is None else remaining - len(rows)
        if rows.next_cursor is None or remaining == 0:
            return
        if time.monotonic() - key_checked_at > KEY_CHECK_SECONDS:
            key_checked_at = time.monotonic()
            if not db.read(api_keys.valid_ids, [key_id]):
                raise KeyInvalidated
        rows = read_page(rows.next_cursor, _page_rows(remaining))


def _page_rows(remaining: int | None) -> int:
    return STREAM_PAGE_ROWS if remaining is None else min(remaining, STREAM_PAGE_ROWS)
