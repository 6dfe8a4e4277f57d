"""Prefilled queue: whole workers drain a SQLite database filled beforehand, without API and Redis."""

import hashlib
import multiprocessing
import queue
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core import enums, settings
from core.db import database, new_image
from core.db.queries import api_keys, invariants, jobs
from core.storage import factory
from migrations.__main__ import upgrade
from worker import runtime

IMAGES_PER_JOB = 1000
STALL_TIMEOUT_SECONDS = 60.0
START_TIMEOUT_SECONDS = 120.0


class StoredFiles:
    """Files stored in a blob store once, for any number of queues."""

    def __init__(self, files: Sequence[Path], work_dir: Path) -> None:
        self.blob_store_url = f"{work_dir}/blobs"
        store = factory.open_blob_store(self.blob_store_url)
        self.images: list[new_image.NewImage] = []
        for start in range(0, len(files), IMAGES_PER_JOB):
            chunk = [(path.name, path.read_bytes()) for path in files[start : start + IMAGES_PER_JOB]]
            digests = [hashlib.sha256(data).hexdigest() for _, data in chunk]
            store.put([(sha256, data) for sha256, (_, data) in zip(digests, chunk, strict=True)])
            for sha256, (name, data) in zip(digests, chunk, strict=True):
                self.images.append(new_image.NewImage(name, sha256, len(data)))

    def fill(self, db: database.Database, model: str) -> None:
        """Queue all files in a database."""
        owner = db.write(api_keys.create, "bench", enums.Role.SUBMIT, api_keys.generate()).id
        for start in range(0, len(self.images), IMAGES_PER_JOB):
            db.write(jobs.insert_jobs, [(jobs.NewJob(owner, model), self.images[start : start + IMAGES_PER_JOB])])


def run_workers(files: StoredFiles, *, bundle: Path, workers: int = 1, **worker_settings: Any) -> float:
    """Return images per second of `workers` workers with these settings, from the first claim to the last commit.

    Raises:
        TimeoutError: a worker did not start, or made no progress.
    """
    with tempfile.TemporaryDirectory(prefix="sortbelt-bench-") as work_dir:
        setting_values = {
            "database_url": f"sqlite:///{work_dir}/queue.db",
            "blob_store": files.blob_store_url,
            "idle_poll_seconds": "3600",
        }
        setting_values |= {"model": bundle.name, "bundles": str(bundle.parent)} | {
            name: str(value) for name, value in worker_settings.items()
        }
        db = database.Database(setting_values["database_url"])
        db.write(upgrade)
        files.fill(db, bundle.name)
        db.close()
        started_at, ended_at = _run_in_processes(
            setting_values, workers, [image.sha256 for image in files.images[:1024]]
        )
    return len(files.images) / (ended_at - started_at)


def _run_in_processes(
    setting_values: Mapping[str, str], workers: int, warmup_digests: Sequence[str]
) -> tuple[float, float]:
    """Drain the queue with worker processes; return their start and end by the monotonic clock."""
    context = multiprocessing.get_context("spawn")
    ready, start_event, done = context.Queue(), context.Event(), context.Queue()
    children = [
        context.Process(target=_run_worker, args=(setting_values, warmup_digests, ready, start_event, done))
        for _ in range(workers)
    ]
    for child in children:
        child.start()
    try:
        for _ in children:
            ready.get(timeout=START_TIMEOUT_SECONDS)
        started_at = time.monotonic()
        start_event.set()
        return started_at, max(done.get(timeout=600) for _ in children)
    except queue.Empty:
        raise TimeoutError("A worker did not start, or made no progress. Its log is above.") from None
    finally:
        for child in children:
            child.join(30)
            child.kill()


def _run_worker(
    setting_values: Mapping[str, str], warmup_digests: Sequence[str], ready: Any, start_event: Any, done: Any
) -> None:
    worker_settings = settings.read({f"SORTBELT_{name.upper()}": value for name, value in setting_values.items()})
    worker_runtime = runtime.WorkerRuntime(worker_settings)
    try:
        _warm_up(worker_runtime, warmup_digests)
        ready.put(worker_runtime.id)
        start_event.wait()
        progress, remaining = time.monotonic(), -1
        while remaining:
            worker_runtime.pipeline.run()
            open_images = worker_runtime.db.read(invariants.queued_images)
            progress, remaining = (time.monotonic() if open_images != remaining else progress), open_images
            if time.monotonic() - progress > STALL_TIMEOUT_SECONDS:
                raise TimeoutError(f"{remaining} images are left, and there is no progress.")
        done.put(time.monotonic())
    finally:
        worker_runtime.close()


def _warm_up(worker_runtime: runtime.WorkerRuntime, digests: Sequence[str]) -> None:
    """Start every decoder, and run the network once with every batch size, for both batches in flight."""
    preprocess, batch_classifier = (
        worker_runtime.model_manager.default_model.preprocess,
        worker_runtime.model_manager.default_model.batch_classifier,
    )
    worker_runtime.decoder_pool.submit(digests, preprocess).result()
    size = worker_runtime.settings.batch_size
    for count in [size] if size != "auto" else [2**power for power in range(11)]:
        for _ in range(2):
            batch_classifier.network.score(np.zeros((count, preprocess.height, preprocess.width, 3), np.uint8))
