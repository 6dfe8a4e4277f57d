"""Purges: what of whose jobs has been removed, and when."""

import flask

from api import asked, auth, document, pages, shapes
from api.parts import parts
from jobs.store import receipts

blueprint = flask.Blueprint("purges", __name__, url_prefix="/v1/purges")


@blueprint.get("")
@document.call(shapes.Receipts, '"$URL/v1/purges"', answered=pages.ANSWERED)
def index(query: asked.Receipts) -> flask.Response:
    """A receipt for each job that was purged, the latest first: one's own; everybody's for `read` and `admin`.

    Its pictures, their results and bytes are gone, but for bytes that another job has too; its counts stay.
    """
    after = pages.moment_place(query.cursor)
    place = after and receipts.Place(*after)
    rows = parts().db.read(receipts.page, auth.caller().sees, limit=query.limit, after=place)
    return pages.answer("purges", query, rows, shapes.receipt, lambda row: pages.moment_key(row.purged_at, row.id))
