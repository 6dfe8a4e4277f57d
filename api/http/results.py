"""Results: one, a page of them as JSON, or all pages in one stream of another format."""

import dataclasses
from typing import Any

import flask

from api.http import auth, export_formats, image_links, pagination, streams
from api.schemas import ids, job_requests, result_requests, result_responses
from api.services import container
from core import errors
from core.db import database, expressions
from core.db.queries import results as result_queries

IF_NONE_MATCH_HEADER = {
    "If-None-Match": {"description": "the ETag of a page of JSON that you have: 304 if it is unchanged"}
}
ETAG_HEADERS = {"ETag": "of this page of JSON"}
FILTER_PROBLEMS = {404: ["job_not_found"], 410: ["job_purged"]}


def read_result(result_id: str) -> Any:
    """Return a result that the caller may see.

    Raises:
        errors.ResultNotFound: there is none.
    """
    return container.services().db.read(
        result_queries.get, ids.require_row_id(result_id, errors.ResultNotFound), auth.caller().visible_owner
    )


def results_response(
    db: database.Database,
    query: job_requests.JobResultsQuery | result_requests.ResultListQuery,
    filters: result_queries.ResultFilter,
    order: result_queries.ResultOrder = result_queries.ResultOrder.IMAGE,
) -> flask.Response:
    """Return results in the accepted format: a page as JSON, or all pages in one stream."""

    def read_page(after: result_queries.ResultCursor | None, limit: int) -> expressions.Page:
        return db.read(result_queries.list_page, filters, limit=limit, after=after, order=order)

    accepted, after = export_formats.negotiate(export_formats.EXPORTERS), _parse_cursor(query.cursor)
    if accepted.media_type != export_formats.JSON_MEDIA_TYPE:
        return streams.stream_response(db, accepted, _table(db, accepted), query, read_page, after)
    rows = read_page(after, query.limit)
    cursor_of = _value_cursor if order in result_queries.VALUE_COLUMNS else lambda cursor: cursor.image_id
    response = pagination.list_response("results", query, rows, result_responses.serialize_result, cursor_of)
    response.headers["Vary"] = "Accept"
    response.add_etag(weak=True)
    response.make_conditional(flask.request)
    return response


def _table(db: database.Database, accepted: export_formats.Accepted) -> export_formats.Table:
    """Return the exported form of results, with links to the images if the request asks for them."""
    wants_links = accepted.parameters.get("images", "").lower() == "links"
    if accepted.media_type != export_formats.LABEL_STUDIO_MEDIA_TYPE or not wants_links:
        return export_formats.RESULTS
    sign = image_links.signer(db, auth.caller().id)
    return dataclasses.replace(export_formats.RESULTS, image=lambda row: sign(row.image_id))


def _parse_cursor(cursor: str | int | None) -> result_queries.ResultCursor | None:
    if cursor is None:
        return None
    value, _, image_id = str(cursor).rpartition("_")
    return result_queries.ResultCursor(int(image_id), float(value or 0))


def _value_cursor(position: result_queries.ResultCursor) -> str:
    return f"{position.value:.20f}".rstrip("0").rstrip(".") + f"_{position.image_id}"
