"""Documentation: `/openapi.json` for programs and `/docs` for people, both made from the views, without a key."""

import functools
import json
import re
from typing import Any

import flask
import markupsafe

from api.openapi import examples, spec
from api.routes import webhooks
from api.services import container
from core import errors
from imaging import formats, limits

blueprint = flask.Blueprint("docs", __name__, template_folder="../templates")
CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@blueprint.get("/openapi.json")
def openapi() -> dict[str, Any]:
    """Return the OpenAPI document."""
    return {**_cached_spec(), "servers": [{"url": flask.request.root_path or "/"}]}


@blueprint.get("/docs")
def page() -> flask.Response:
    """Return the document as one page, which loads no script and nothing from another host."""
    base_url = flask.request.url_root
    context = {
        "document": _cached_spec(),
        "url": base_url.rstrip("/"),
        "settings": container.services().settings,
        "formats": formats.FORMATS,
        "max_side": limits.MAX_SIDE,
        "image_errors": errors.IMAGE_ERRORS,
        "variables": spec.EXAMPLE_VARIABLES,
        "job": json.dumps(examples.job(base_url), indent=2),
        "results": json.dumps(examples.results(), indent=2),
    }
    response = flask.make_response(flask.render_template("docs.html", **context))
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    return response


@blueprint.app_template_filter("prose")
def render_prose(text: str) -> markupsafe.Markup:
    """Return a text as HTML, with code where it has backticks; everything else is escaped."""
    escaped = str(markupsafe.escape(text))
    return markupsafe.Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped))  # noqa: S704 (it is escaped above)


@functools.cache
def _cached_spec() -> dict[str, Any]:
    return spec.build_spec(flask.current_app, [webhooks.JOB_COMPLETED])
