"""Results across jobs: what an admin asks."""

import flask

from api import asked, auth, pages, shapes
from api.parts import parts
from jobs.store import results

blueprint = flask.Blueprint("results", __name__, url_prefix="/v1/results")


@blueprint.get("")
def index() -> flask.Response:
    """Results, newest first: everybody's for an admin, else one's own."""
    page = asked.Results.parameters()
    wanted = results.Filter(
        owner=None if auth.caller().is_admin else auth.caller().id,
        **page.model_dump(exclude={"limit", "cursor"}),
    )
    rows = parts().db.read(results.page, wanted, limit=page.limit, after=page.after_row, newest_first=True)
    return pages.answer("results", page, rows, shapes.result, lambda row: row.image_id)
