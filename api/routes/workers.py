"""Workers: which are alive, and what they are doing."""

import flask

from api.openapi.operations import describe
from api.schemas import worker_responses
from api.services import container
from core.db.queries import workers

blueprint = flask.Blueprint("workers", __name__, url_prefix="/v1/workers")


@blueprint.get("")
@describe(worker_responses.Workers, '"$URL/v1/workers"', needs_global_read=True)
def index() -> worker_responses.Workers:
    """Return the workers that have sent a heartbeat lately, with the images that each holds."""
    read = container.services().db.read
    running = read(workers.count_running)
    return {"workers": [worker_responses.serialize_worker(row, running) for row in read(workers.list_alive)]}
