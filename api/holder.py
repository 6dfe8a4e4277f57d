"""The holder of a key: they may ask whose it is, and what it may do; `/v1/keys`, about all of them, is for admins."""

import flask

from api import auth, document, shapes

blueprint = flask.Blueprint("holder", __name__, url_prefix="/v1")


@blueprint.get("/key")
@document.call(shapes.Holder, '"$URL/v1/key"')
def show() -> shapes.Holder:
    """The key that is asked with: that it is valid, and what it may do."""
    caller = auth.caller()
    return {"id": caller.id, "name": caller.name, "role": caller.role}
