"""The web page at `/` and its static files, without a key, since they contain no data.

The page requests all data from the API, with the key that its user enters. It shows names from untrusted callers, so
its content security policy lets it load nothing from another host, and create no markup from text.
"""

from pathlib import Path

import flask
from werkzeug import Response

from api.http import static_files

blueprint = flask.Blueprint("web", __name__)
STATIC_DIR = Path(__file__).parent.parent / "static"
CONTENT_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
# Named, not listed from the folder, so that another file there does not become public.
PUBLIC_FILES = (
    *("page.css", "icon.svg", "address.js", "agreement.js", "app.js", "charts.js", "dom.js", "files.js"),
    *("http.js", "image_dialog.js", "job.js", "jobs.js", "keys.js", "login.js", "models.js", "notify.js"),
    *("previews.js", "results.js", "review.js", "reviews.js", "search.js", "selection.js", "session.js"),
    *("stats.js", "status_bar.js", "stored_key.js", "thumbnails.js", "upload.js", "upload_area.js", "verdicts.js"),
    *("visibility.js", "workers.js"),
)
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


@blueprint.get("/")
def start() -> Response:
    """Return the page to browsers, and redirect other clients to the documentation."""
    wants_page = flask.request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"
    response = _serve_file("page.html") if wants_page else flask.redirect(flask.url_for("docs.page"), 303)
    response.vary.add("Accept")
    return response


def asset(name: str) -> Response:
    """Return a file of the page."""
    return _serve_file(name)


for _name in PUBLIC_FILES:  # one rule each: any other path needs a key, like everything else
    blueprint.add_url_rule(f"/static/{_name}", "asset", asset, defaults={"name": _name})


def _serve_file(name: str) -> Response:
    path = STATIC_DIR / name
    response = static_files.serve(path, CONTENT_TYPES[path.suffix], CONTENT_SECURITY_POLICY)
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    return response
