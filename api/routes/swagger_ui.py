"""The viewer at `/docs/try/`: Swagger UI on `/openapi.json`, to send requests from the browser, without a key to load.

Swagger UI 5.35.0 is in `api/swagger_ui` as its npm package `swagger-ui-dist` has it, with its license. Its page may
load nothing from another host.
"""

import mimetypes
from pathlib import Path

import flask
from werkzeug import Response

from api.http import static_files

blueprint = flask.Blueprint("swagger_ui", __name__, url_prefix="/docs/try")
FOLDER = Path(__file__).parent.parent / "swagger_ui"
FILES = ("viewer.js", "swagger-ui-bundle.js", "swagger-ui-bundle.js.LICENSE.txt", "swagger-ui.css", "LICENSE", "NOTICE")
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@blueprint.get("/")
def page() -> Response:
    """Return the page of the viewer."""
    return _serve("viewer.html")


def asset(name: str) -> Response:
    """Return a file of the viewer."""
    return _serve(name)


for _name in FILES:  # one rule each, as for the web page: any other path needs a key
    blueprint.add_url_rule(f"/{_name}", "asset", asset, defaults={"name": _name})


def _serve(name: str) -> Response:
    content_type = mimetypes.guess_type(name)[0] or "text/plain"
    return static_files.serve(FOLDER / name, content_type, CONTENT_SECURITY_POLICY)
