"""How to use the API: `/openapi.json` for machines, `/docs` for people; both made from the views, and open to all."""

import functools
import json
import re
from typing import Any

import flask
import markupsafe

from api import document, examples
from api.parts import parts
from jobs import errors, pictures

blueprint = flask.Blueprint("docs", __name__, template_folder="templates")
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@blueprint.get("/openapi.json")
def openapi() -> dict[str, Any]:
    """The document."""
    return _made()


@blueprint.get("/docs")
def page() -> flask.Response:
    """The document as one page that needs nothing else: no script, no other host."""
    root = flask.request.url_root
    said = {
        "document": _made(),
        "url": root.rstrip("/"),
        "settings": parts().settings,
        "formats": pictures.FORMATS,
        "most_side": pictures.MAX_SIDE,
        "pictures": errors.PICTURES,
        "variables": document.VARIABLES,
        "job": json.dumps(examples.job(root), indent=2),
        "results": json.dumps(examples.results(), indent=2),
    }
    response = flask.make_response(flask.render_template("docs.html", **said))
    response.headers["Content-Security-Policy"] = POLICY
    return response


@blueprint.app_template_filter("prose")
def prose(text: str) -> markupsafe.Markup:
    """A text as HTML, with code where it has backticks; whatever else is in it stays a text."""
    escaped = str(markupsafe.escape(text))
    return markupsafe.Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped))  # noqa: S704 (it is escaped above)


@functools.cache
def _made() -> dict[str, Any]:
    return document.made()
