"""How to use the API: `/openapi.json` for machines, `/docs` for people; both made from the views, and open to all."""

import functools
from typing import Any

import flask

from api import document

blueprint = flask.Blueprint("docs", __name__, template_folder="templates")
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@blueprint.get("/openapi.json")
def openapi() -> dict[str, Any]:
    """The document."""
    return _made()


@blueprint.get("/docs")
def page() -> flask.Response:
    """The document as one page that needs nothing else: no script, no other host."""
    response = flask.make_response(flask.render_template("docs.html", document=_made(), url=flask.request.url_root))
    response.headers["Content-Security-Policy"] = POLICY
    return response


@functools.cache
def _made() -> dict[str, Any]:
    return document.made()
