"""The tutorial's web half: Flask takes a picture, Celery gets a task for it, its result is asked for or waited for."""

import base64

import flask

from bench.peers import tutorial_celery

app = flask.Flask(__name__)


@app.post("/submit")
def submit() -> tuple[dict[str, str], int]:
    """Take one picture in."""
    return {"id": _task().id}, 202


@app.post("/predict")
def predict() -> dict[str, str]:
    """Take one picture in, and wait for its label."""
    return {"label": _task().get(timeout=60, interval=0.005)}


def _task() -> tutorial_celery.Waiting:
    text = base64.b64encode(flask.request.get_data()).decode()
    return tutorial_celery.classify.delay(text)
