"""Model child process: load a bundle under a memory limit, test it, and classify what the parent sends.

A version that needs too much memory, or crashes, ends this process and not the worker. It computes on the CPU.
"""

import contextlib
import json
import os
import sys
from multiprocessing import connection
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from core.sandbox import process_limits
from model.inference import classifier, selftest
from model.packaging import manifest
from worker import batch_sizer, inference

MAX_FILE_BYTES = 1_000_000  # libraries look for a folder of temporary files by writing one


def main(pipe: int, config: str) -> None:
    """Report how the bundle was loaded, and classify pixels until the parent closes the pipe."""
    options = json.loads(config)
    process_limits.exit_with_parent(options["parent"])
    process_limits.prefer_oom_kill()
    os.nice(options["niceness"])
    torch.set_num_threads(1)
    process_limits.apply_rlimits(options["memory_bytes"], MAX_FILE_BYTES)
    with connection.Connection(pipe) as parent, contextlib.suppress(EOFError, BrokenPipeError):
        try:
            network = selftest.load_verified(Path(options["folder"]), "cpu")
            _classify_full_batch(network)
        except (manifest.InvalidBundle, RuntimeError, MemoryError, ValueError, OSError) as error:
            parent.send_bytes(json.dumps({"error": _reason(error)}).encode())
            return
        parent.send_bytes(json.dumps({"error": None}).encode())
        preprocess = network.bundle.preprocess
        while True:
            pixels = np.frombuffer(parent.recv_bytes(), np.uint8).reshape(-1, preprocess.height, preprocess.width, 3)
            scores = network.score(pixels.copy())
            parent.send_bytes(_to_outputs(scores).tobytes())


def _to_outputs(scores: classifier.Scores) -> npt.NDArray[np.float32]:
    """Return scores as one array: float32 [N, classes], or [N, classes + 1] with the familiarity last."""
    if scores.familiarity is None:
        return scores.probabilities
    return np.concatenate([scores.probabilities, scores.familiarity[:, None]], axis=1)


def _classify_full_batch(network: classifier.Classifier) -> None:
    """Classify as many images at once as a worker does on its CPU cores."""
    preprocess = network.bundle.preprocess
    image_bytes = preprocess.height * preprocess.width * 3
    count = batch_sizer.limit(image_bytes, inference.MAX_CPU_BATCH)
    network.classify(np.zeros((count, preprocess.height, preprocess.width, 3), np.uint8))


def _reason(error: BaseException) -> str:
    if isinstance(error, manifest.InvalidBundle):
        return str(error)
    first_line = (str(error) or type(error).__name__).splitlines()[0][:300]
    return f"It cannot be loaded and run within SORTBELT_MODEL_MEMORY_BYTES ({first_line})."


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
