"""Sources: folders and buckets of the server whose images can be classified without being uploaded."""

import flask

from api.http import auth
from api.openapi.operations import describe
from api.schemas import source_responses
from api.services import container
from core import enums

blueprint = flask.Blueprint("sources", __name__, url_prefix="/v1/sources")


@blueprint.get("")
@describe(source_responses.Sources, '"$URL/v1/sources"', role=enums.Role.SUBMIT)
def index() -> source_responses.Sources:
    """Return the sources from which `POST /v1/jobs/{job_id}/scan` imports images; admins see their addresses too."""
    show_address = auth.caller().is_admin
    sources = container.services().sources
    return {"sources": [source_responses.serialize_source(source, show_address=show_address) for source in sources]}
