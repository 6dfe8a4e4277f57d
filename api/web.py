"""The web page: `/` for people with a browser, and the files that it is made of; open to all, for they tell of nobody.

The page asks the API for everything, with the key that its user types in. It shows names that strangers chose, so the
policy lets it load nothing from elsewhere, and make no markup out of text.
"""

import functools
import hashlib
from pathlib import Path

import flask
from werkzeug import Response

blueprint = flask.Blueprint("web", __name__)
FOLDER = Path(__file__).parent / "static"
TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
# Named, and not listed from the folder: what else may lie there one day is not open to all.
FILES = (
    *("page.css", "icon.svg", "app.js", "charts.js", "dom.js", "files.js", "http.js", "job.js", "jobs.js", "login.js"),
    *("models.js", "result.js", "results.js", "search.js", "shown.js", "stats.js", "strip.js", "thumbnails.js"),
    *("upload.js", "uploading.js"),
)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


@blueprint.get("/")
def start() -> Response:
    """A browser gets the page, and whatever else asks is shown the way to the manual."""
    wants_page = flask.request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"
    response = _file("page.html") if wants_page else flask.redirect(flask.url_for("docs.page"), 303)
    response.vary.add("Accept")
    return response


def asset(name: str) -> Response:
    """A file of the page."""
    return _file(name)


for _name in FILES:  # a rule for each: what there is not wants a key, like everything else
    blueprint.add_url_rule(f"/static/{_name}", "asset", asset, defaults={"name": _name})


def _file(name: str) -> Response:
    """A file as it is now: asked for at each visit, and sent again only when it is another."""
    data, tag = _read(name)
    response = flask.Response(data)
    response.headers["Content-Type"] = f"{TYPES[Path(name).suffix]}; charset=utf-8"
    response.headers["Content-Security-Policy"] = POLICY
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.cache_control.no_cache = True
    response.set_etag(tag)
    return response.make_conditional(flask.request)


@functools.cache
def _read(name: str) -> tuple[bytes, str]:
    """What is in a file, and its ETag."""
    data = (FOLDER / name).read_bytes()
    return data, hashlib.sha256(data).hexdigest()[:32]
