"""Hooks that observe every response for the request metrics."""

import time

import flask

from api.services import request_metrics


def register(app: flask.Flask, metrics: request_metrics.RequestMetrics) -> None:
    """Observe every response of an app."""

    def start_timer() -> None:
        flask.g.began = time.monotonic()

    def observe_response(response: flask.Response) -> flask.Response:
        seconds = time.monotonic() - flask.g.began
        metrics.observe(flask.request.method, current_route(), response.status_code, seconds)
        return response

    app.before_request(start_timer)
    app.after_request(observe_response)


def current_route() -> str:
    """Return the route of the current request, as the OpenAPI document writes it.

    Rules that differ only in a default value of their view are one route.
    """
    rule = flask.request.url_rule
    if rule is None:
        return request_metrics.NO_ROUTE
    template = str(rule.rule)
    for name, value in (rule.defaults or {}).items():
        template = template.replace(value, f"<{name}>")
    return template.replace("<", "{").replace(">", "}")
