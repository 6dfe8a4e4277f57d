"""The Flask app: request hooks, and one blueprint per resource."""

from api.http import auth, multipart, problems, rate_limit_headers, request_metrics, request_tracing, suspension
from api.routes import (
    blobs,
    current_key,
    docs,
    health,
    images,
    jobs,
    keys,
    metrics,
    models,
    purges,
    results,
    reviews,
    selections,
    sources,
    swagger_ui,
    web,
    webhooks,
    workers,
)
from api.services import container
from core import settings

MODULES = (
    *(jobs, blobs, results, reviews, images, selections, keys, current_key, models, sources, purges, webhooks),
    *(workers, health, metrics, docs, swagger_ui, web),
)


def create_app(config: settings.Settings) -> suspension.App:
    """Return the app for these settings; it opens no connection before the first request."""
    app = suspension.App("sortbelt", static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]  # Flask's default provider has it
    app.request_class = multipart.Request
    app.url_map.merge_slashes = False  # a path with an empty id is not found, instead of redirected
    app.config["MAX_CONTENT_LENGTH"] = config.max_body_bytes
    app.config["MAX_BODY_BYTES_BY_PATH"] = {models.PATH: config.max_bundle_bytes}
    app.config["MAX_FORM_PARTS"] = config.max_images_per_request + multipart.MAX_FIELDS
    services = app.extensions["sortbelt"] = container.build_services(config)
    request_tracing.register(app)
    request_metrics.register(app, services.request_metrics)
    problems.register(app, config)
    auth.register(app, services)
    rate_limit_headers.register(app, services.db)
    for module in MODULES:
        app.register_blueprint(module.blueprint)
    return app
