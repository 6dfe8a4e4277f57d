"""The limit: a bare loop that reads, decodes and classifies files; no HTTP, no queue, no SQL.

`python -m bench.bare FOLDER` prints images/s. One process for each core, each with one thread, because on few cores
nothing that was tried kept them busier (see README.md beside this file).
"""

import hashlib
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from model import bundle, classifier, preprocess

BATCH = 32
BUNDLE = Path(__file__).parent.parent / "model" / "bundles" / "sushi-or-sandwich"


def _start() -> None:
    torch.set_num_threads(1)
    global _network  # noqa: PLW0603 (a worker process of a pool has no other place)
    _network = classifier.Classifier(bundle.load(BUNDLE))
    _network.classify(np.zeros((BATCH, 64, 64, 3), np.uint8))


def _classify(paths: Sequence[Path]) -> list[str | None]:
    how, pixels, good = _network.bundle.preprocess, [], []
    for path in paths:
        data = path.read_bytes()
        hashlib.sha256(data).hexdigest()  # the bare loop checks what it reads, as the worker does
        try:
            pixels.append(how.pixels(data))
            good.append(path)
        except preprocess.BadPicture:
            continue
    scores = _network.classify(np.stack(pixels)) if pixels else np.zeros((0, 1))
    labels = {path: _network.bundle.labels[row.argmax()] for path, row in zip(good, scores, strict=True)}
    return [labels.get(path) for path in paths]


def run(folder: Path, processes: int) -> tuple[int, float]:
    """Classify every picture below a folder; how many, and in how many seconds once the processes are ready."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    chunks = [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]
    with multiprocessing.get_context("spawn").Pool(processes, _start) as pool:
        pool.map(_classify, [[]] * processes * 4, chunksize=1)  # all are up
        started = time.perf_counter()
        labels = [label for some in pool.imap(_classify, chunks) for label in some]
        return len(labels), time.perf_counter() - started


if __name__ == "__main__":
    count, seconds = run(Path(sys.argv[1]), len(os.sched_getaffinity(0)))
    print(f"{count} pictures in {seconds:.2f} s: {count / seconds:.0f} images/s")
