"""The server process: the ASGI application for the settings of the environment."""

import functools
import gc
import multiprocessing

from api import app as apps
from api.http import auth, requests
from api.server import asgi, connection_guard, cors, proxy
from api.services import container
from core import settings, specs
from core.maintenance import orphans, retention
from core.sandbox import process_limits
from core.tracing import tracer


def create() -> asgi.AsgiApp:
    """Return the application, and start its background threads; the process ends with its parent."""
    if (parent := multiprocessing.parent_process()) is not None and parent.pid is not None:
        process_limits.exit_with_parent(parent.pid)
    config = settings.read_or_exit()
    tracer.start_or_exit("sortbelt-api", enabled=config.tracing)
    app = apps.create_app(config)
    services: container.Services = app.extensions["sortbelt"]
    services.blob_store.remove_temp_files()
    services.request_metrics.start()
    orphans.start_sweep_thread(services.db, services.blob_store)
    retention.start_purge_thread(services.db, services.blob_store, days=config.retention_days or 0.0)
    max_connections = connection_guard.raise_file_limit(config.max_connections)
    proxy_headers = proxy.ProxyHeaders(config.public_url, config.trusted_proxies)
    guard = connection_guard.ConnectionGuard(max_connections, proxy_headers.is_trusted)
    guard.start()
    # Everything loaded so far stays for good: collections skip it, and are cheap enough to come often.
    gc.collect()
    gc.freeze()
    return asgi.AsgiApp(
        app,
        threads=config.api_threads,
        max_body_bytes=config.max_body_bytes,
        max_json_bytes=max(config.max_base64_bytes, requests.MAX_JSON_BYTES),
        max_body_bytes_by_path=app.config["MAX_BODY_BYTES_BY_PATH"],
        job_watcher=services.job_watcher,
        is_authorized=functools.partial(auth.is_authorized, services),
        is_cached=functools.partial(auth.is_cached, services),
        is_known=services.auth_cache.is_known,
        metrics=services.request_metrics,
        proxy_headers=proxy_headers,
        cors_policy=cors.CorsPolicy(specs.parse_origins(config.cors_origins)),
        busy_clients=guard.busy,
    )
