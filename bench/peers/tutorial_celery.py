"""The tutorial's worker half: a Celery task for each picture, which comes as base64 in the message; Redis keeps all."""

import base64
import os
from typing import Any, TypeAlias

import celery
from celery import signals

Waiting: TypeAlias = Any
app = celery.Celery("tutorial", broker=os.environ["BENCH_REDIS"], backend=os.environ["BENCH_REDIS"])
app.conf.update(result_expires=600, worker_prefetch_multiplier=4, task_ignore_result=False)


@signals.worker_process_init.connect
def _load(**_: Any) -> None:
    from bench.peers import network  # noqa: PLC0415 (the web half must not import torch)

    app.network = network.Network()


@app.task
def classify(text: str) -> str:
    """The label of one picture."""
    label: str = app.network.labels([app.network.pixels(base64.b64decode(text))])[0]
    return label
