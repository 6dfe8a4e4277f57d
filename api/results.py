"""Results across jobs: what an admin asks."""

from datetime import UTC, datetime

import flask

from api import auth, pages, shapes
from api.parts import parts
from jobs import errors
from jobs.store import results

blueprint = flask.Blueprint("results", __name__, url_prefix="/v1/results")
FILTERS = ("job", "label", "status", "error", "model", "name")


@blueprint.get("")
def index() -> flask.Response:
    """Results, newest first: everybody's for an admin, else one's own."""
    rows = parts().db.read(results.page, _wanted(), limit=pages.limit(), after=pages.row_cursor(), newest_first=True)
    return pages.answer("results", rows, shapes.result, lambda row: row.image_id)


def _wanted() -> results.Filter:
    given = {name: flask.request.args.get(name) for name in FILTERS}
    caller = auth.caller()
    return results.Filter(
        owner=None if caller.is_admin else caller.id,
        min_confidence=pages.number("min_confidence", float, 0, 1),
        max_confidence=pages.number("max_confidence", float, 0, 1),
        since=_moment("since"),
        until=_moment("until"),
        **given,
    )


def _moment(name: str) -> datetime | None:
    given = flask.request.args.get(name)
    if given is None:
        return None
    try:
        moment = datetime.fromisoformat(given)
    except ValueError:
        raise errors.BadParameter(f"{name}={given!r} is no moment: write it like 2026-01-31T12:00:00Z.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
