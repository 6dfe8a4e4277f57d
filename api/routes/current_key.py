"""The caller's own key; `/v1/keys`, about all keys, is for admins."""

import flask

from api.http import auth
from api.openapi.operations import describe
from api.schemas import key_responses

blueprint = flask.Blueprint("holder", __name__, url_prefix="/v1")


@blueprint.get("/key")
@describe(key_responses.CurrentKey, '"$URL/v1/key"')
def show() -> key_responses.CurrentKey:
    """Return the key of the request and its role: a check that the key is valid."""
    caller = auth.caller()
    return {"id": caller.id, "name": caller.name, "role": caller.role}
