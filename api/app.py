"""The Flask application, put together."""

import flask

from api import (
    auth,
    blobs,
    docs,
    errors,
    forms,
    health,
    holder,
    images,
    jobs,
    keys,
    limits,
    meter,
    metrics,
    models,
    parts,
    purges,
    results,
    sources,
    traces,
    web,
    webhooks,
)
from jobs import settings


def create_app(wanted: settings.Settings) -> flask.Flask:
    """The application for these settings; opens nothing before the first request."""
    app = flask.Flask("sortbelt", static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]  # Flask's default provider has it
    app.request_class = forms.Request
    app.url_map.merge_slashes = False  # an id left out is a path that is not there, and no redirect
    app.config["MAX_CONTENT_LENGTH"] = wanted.max_body_bytes
    app.config["MAX_FORM_PARTS"] = wanted.max_images_per_request + 20
    made = app.extensions["sortbelt"] = parts.make(wanted)
    traces.register(app)
    meter.register(app, made.meter)
    errors.register(app)
    auth.register(app)
    limits.register(app)
    views = (jobs, blobs, results, images, keys, holder, models, sources, purges, webhooks, health, metrics, docs, web)
    for blueprint in (module.blueprint for module in views):
        app.register_blueprint(blueprint)
    return app
