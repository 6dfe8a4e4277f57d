"""Pages of a list: the rows, and the link to the next page; results also as one stream of all pages."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib import parse

import flask

from api import asked, auth, formats, shapes, watch
from api.parts import parts
from jobs import errors
from jobs.store import keys, sql
from jobs.store import results as store_results

UNLESS = {"If-None-Match": {"description": "the ETag of a page that is known, as JSON: 304 says that it is still so"}}
TAGGED = {"ETag": "of this page, as JSON"}
ANSWERED = {
    "Link": 'the next page, with rel="next", while there may be one, also below a page that is short or empty: what is '
    "rare is looked for a stretch at a time"
}
EPOCH, MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
PAGE_ROWS = 1000  # of a stream: so many rows are in memory at a time


class KeyEnded(errors.Unavailable):
    """The key was revoked, or its time is over."""

    code = "key_ended"


def answer(
    name: str,
    page: asked.Page,
    rows: Sequence[Any],
    shape: Callable[[Any], Any],
    key: Callable[[Any], Any],
    beside: Mapping[str, Any] | None = None,
) -> flask.Response:
    """A page of rows, with a Link to the next where there may be one; `key` makes the cursor of a row or a place."""
    response = flask.jsonify({**(beside or {}), name: [shape(row) for row in rows]})
    last = rows.next if isinstance(rows, sql.Page) else rows[-1] if len(rows) == page.limit else None
    if last is not None:
        url = flask.request.base_url + "?" + parse.urlencode({**flask.request.args.to_dict(), "cursor": key(last)})
        response.headers["Link"] = f'<{url}>; rel="next"'
    return response


def results(
    page: asked.Rows | asked.Results,
    wanted: store_results.Filter,
    order: store_results.Order = store_results.Order.IMAGE,
) -> flask.Response:
    """Results in the form that is accepted: a page as JSON, or all pages in one stream."""
    form = formats.accepted()
    if form == formats.JSON:
        rows = parts().db.read(store_results.page, wanted, limit=page.limit, after=_place(page.cursor), order=order)
        by_confidence = order is store_results.Order.CONFIDENCE
        key = _confident_key if by_confidence else lambda place: place.image_id
        response = answer("results", page, rows, shapes.result, key)
    else:
        response = flask.Response(formats.STREAMS[form](_all(page, wanted, order)))
        response.headers["Content-Type"] = form + ("; charset=utf-8" if form == "text/csv" else "")
    response.headers["Vary"] = "Accept"
    if form == formats.JSON:
        response.add_etag(weak=True)
        response.make_conditional(flask.request)
    return response


def moment_key(moment: datetime, id_: str) -> str:
    """The cursor of a list that is ordered by a moment and an id."""
    return f"{(moment - EPOCH) // MICROSECOND}_{id_}"


def moment_place(cursor: str | None) -> tuple[datetime, str] | None:
    """The moment and the id that a cursor is about."""
    if cursor is None:
        return None
    made, _, id_ = cursor.partition("_")
    return EPOCH + int(made) * MICROSECOND, id_


def _place(cursor: str | int | None) -> store_results.Place | None:
    if cursor is None:
        return None
    confidence, _, image = str(cursor).rpartition("_")
    return store_results.Place(int(image), float(confidence or 0))


def _confident_key(place: store_results.Place) -> str:
    return f"{place.confidence:.20f}".rstrip("0").rstrip(".") + f"_{place.image_id}"


def _all(
    page: asked.Rows | asked.Results, wanted: store_results.Filter, order: store_results.Order
) -> Iterator[Sequence[Any]]:
    """Every page from the cursor on, up to the limit if one was given; each is read when the one before has gone."""
    db, left = parts().db, page.limit if "limit" in page.model_fields_set else None
    holder = auth.caller().id

    def read(after: store_results.Place | None, left: int | None) -> sql.Page:
        limit = PAGE_ROWS if left is None else min(left, PAGE_ROWS)
        return db.read(store_results.page, wanted, limit=limit, after=after, order=order)

    def walk(rows: sql.Page, left: int | None) -> Iterator[Sequence[Any]]:
        looked_at = time.monotonic()
        while True:
            if rows:
                yield rows
            left = None if left is None else left - len(rows)
            if rows.next is None or left == 0:
                return
            if time.monotonic() - looked_at > watch.KEYS_SECONDS:
                looked_at = time.monotonic()
                if not db.read(keys.good, [holder]):
                    raise KeyEnded
            rows = read(rows.next, left)

    return walk(read(_place(page.cursor), left), left)  # the first page now: what is wrong can still be told
