"""Worker of the usual tutorial: one Celery task per image, sent as base64 in the message; results in Redis."""

import base64
import os
from typing import Any, TypeAlias

import celery
from celery import signals

TaskResult: TypeAlias = Any
app = celery.Celery("tutorial", broker=os.environ["BENCH_REDIS"], backend=os.environ["BENCH_REDIS"])
app.conf.update(result_expires=600, worker_prefetch_multiplier=4, task_ignore_result=False)


@signals.worker_process_init.connect
def _load(**_: Any) -> None:
    from benchmarks.peers import network  # noqa: PLC0415 (the web half must not import torch)

    app.network = network.Network()


@app.task
def classify(image_base64: str) -> str:
    """Classify one image."""
    label: str = app.network.labels([app.network.pixels(base64.b64decode(image_base64))])[0]
    return label
