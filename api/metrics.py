"""Metrics, for Prometheus."""

import flask
import prometheus_client

from api import auth, document
from api.parts import parts
from jobs import tables

blueprint = flask.Blueprint("metrics", __name__)


@blueprint.get("/metrics")
@auth.needs(tables.Role.READ)
@document.call(str, '"$URL/metrics"', media="text/plain", says={200: "text, as Prometheus reads it"})
def show() -> flask.Response:
    """How it stands, as Prometheus reads it: what is open, who works, what was finished, how batches and requests went.

    It tells of all jobs together and of nobody's pictures, so a key of any role is enough. Every process of the
    server tells the same: ask one address, not each of them. `sortbelt_images_open` is what to scale workers by.
    """
    return flask.Response(parts().exposition.text(), content_type=prometheus_client.CONTENT_TYPE_LATEST)
