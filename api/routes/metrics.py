"""Metrics for Prometheus."""

import flask
import prometheus_client

from api.openapi.operations import describe
from api.services import container
from core import enums

blueprint = flask.Blueprint("metrics", __name__)


@blueprint.get("/metrics")
@describe(
    str,
    '"$URL/metrics"',
    role=enums.Role.READ,
    media_type="text/plain",
    descriptions={200: "text in the format of Prometheus"},
)
def show() -> flask.Response:
    """Return metrics in the format of Prometheus: the queue, workers, finished images, batches and requests.

    They are totals over all jobs and show no caller's images, so a key of any role may read them. Every process of the
    server returns the same metrics: scrape one address, not each process. Scale workers by `sortbelt_images_open`.
    """
    content = container.services().metrics_exporter.render()
    return flask.Response(content, content_type=prometheus_client.CONTENT_TYPE_LATEST)
