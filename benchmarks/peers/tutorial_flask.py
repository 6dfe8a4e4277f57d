"""Web server of the usual tutorial: Flask accepts an image, sends a Celery task, and may wait for its result."""

import base64

import flask

from benchmarks.peers import tutorial_celery

app = flask.Flask(__name__)


@app.post("/submit")
def submit() -> tuple[dict[str, str], int]:
    """Accept one image."""
    return {"id": _start_task().id}, 202


@app.post("/predict")
def predict() -> dict[str, str]:
    """Accept one image, and wait for its label."""
    return {"label": _start_task().get(timeout=60, interval=0.005)}


def _start_task() -> tutorial_celery.TaskResult:
    image_base64 = base64.b64encode(flask.request.get_data()).decode()
    return tutorial_celery.classify.delay(image_base64)
