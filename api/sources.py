"""Sources: the places of the server whose pictures can be classified without being sent."""

import flask

from api import auth, document, shapes
from api.parts import parts
from jobs import tables

blueprint = flask.Blueprint("sources", __name__, url_prefix="/v1/sources")


@blueprint.get("")
@auth.needs(tables.Role.SUBMIT)
@document.call(shapes.Sources, '"$URL/v1/sources"')
def index() -> shapes.Sources:
    """The sources from which `POST /v1/jobs/{job_id}/scan` fills a job; to admins also where they are."""
    whole = auth.caller().is_admin
    return {"sources": [shapes.source(found, whole=whole) for found in parts().sources]}
