"""The purge log: which jobs were removed, and when."""

import flask

from api.http import auth, pagination
from api.openapi.operations import describe
from api.schemas import purge_requests, purge_responses
from api.services import container
from core.db.queries import purge_log

blueprint = flask.Blueprint("purges", __name__, url_prefix="/v1/purges")


@blueprint.get("")
@describe(purge_responses.PurgeRecords, '"$URL/v1/purges"', response_headers=pagination.LINK_HEADERS)
def index(query: purge_requests.PurgeListQuery) -> flask.Response:
    """Return a record of each purged job, the latest first: the caller's own, or all for other roles than `submit`.

    Its images, their results and bytes are removed, except bytes that another job has too; its counts stay.
    """
    after = pagination.parse_timestamp_cursor(query.cursor)
    owner = auth.caller().visible_owner
    rows = container.services().db.read(purge_log.list_page, owner, limit=query.limit, after=after)
    cursor_of = lambda row: pagination.timestamp_cursor(row.purged_at, row.id)  # noqa: E731 (a line, as short as its use)
    return pagination.list_response("purges", query, rows, purge_responses.serialize_purge, cursor_of)
