"""Upper bound: bare loops that read, decode and classify files; no HTTP, no queue, no SQL, no digest.

They use the product's own decoder and classifier, so that the difference to the product is the cost of the queue.
Which arrangement is fastest depends on the machine, so several are measured; the fastest is the upper bound.
`python -m benchmarks.upper_bound FOLDER` prints them all.
"""

import collections
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks import decode, harness, sample_images
from model.inference import classifier
from model.packaging import bundle

PREFETCH_BATCHES = 2  # batches decoded ahead per decoder

_network: classifier.Classifier


def run_processes(count: int, batch: int, paths: Sequence[Path]) -> harness.RunResult:
    """Run processes with one thread each, which decode a batch and then classify it."""
    with harness.TimedPool(count, _initialize, (1, batch)) as pool:
        return pool.classify(_decode_and_classify, paths, batch)


def run_threads(decoders: int, forward: int, batch: int, paths: Sequence[Path]) -> harness.RunResult:
    """Run one process: threads decode, and one thread classifies with `forward` threads of torch."""
    with harness.TimedPool(1, _initialize, (forward, batch)) as pool:
        ((labels, seconds), cpu), *_ = pool.map(partial(_run_pipelined, decoders, batch), [paths])
    return harness.RunResult(labels, seconds, cpu)


def run_decoder_processes(
    decoders: int, batch: int, network: classifier.Classifier, paths: Sequence[Path]
) -> harness.RunResult:
    """Run processes that decode, while this process classifies, on a GPU or with all threads of torch."""
    labels: list[str] = []
    with harness.TimedPool(decoders, decode.initialize, (network.bundle.preprocess,)) as pool:
        network.classify(np.zeros((batch, *_shape(network), 3), np.uint8))
        started, cpu = time.perf_counter(), time.process_time()
        for pixels, child_cpu in pool.map(decode.decode_files, harness.chunks(paths, batch)):
            labels += classify(network, pixels)
            cpu -= child_cpu
        return harness.RunResult(labels, time.perf_counter() - started, time.process_time() - cpu)


def arrangements(cores: int = harness.CORES) -> Mapping[str, Callable[[Sequence[Path]], harness.RunResult]]:
    """Return the arrangements to measure, by name."""
    return {
        f"{cores} processes, batches of 32": partial(run_processes, cores, 32),
        f"{cores} processes, batches of 64": partial(run_processes, cores, 64),
        f"{cores} threads decode, 1 classifies": partial(run_threads, cores, 1, 64),
    }


def classify(network: classifier.Classifier, pixels: Sequence[decode.Pixels | None]) -> list[str]:
    """Return the label of each image; empty for one that could not be decoded."""
    decoded = [image_pixels for image_pixels in pixels if image_pixels is not None]
    predictions = iter(network.classify(np.stack(decoded)).argmax(axis=1) if decoded else ())
    return ["" if image_pixels is None else network.bundle.labels[next(predictions)] for image_pixels in pixels]


def _initialize(threads: int, batch: int) -> None:
    torch.set_num_threads(threads)
    global _network  # noqa: PLW0603 (a pool's process has no other place for state)
    _network = classifier.Classifier(bundle.load(harness.BUNDLE))
    for _ in range(3):
        _network.classify(np.zeros((batch, *_shape(_network), 3), np.uint8))
    decode.initialize(_network.bundle.preprocess)


def _shape(network: classifier.Classifier) -> tuple[int, int]:
    return network.bundle.preprocess.height, network.bundle.preprocess.width


def _decode_and_classify(paths: Sequence[Path]) -> list[str]:
    return classify(_network, decode.decode_files(paths))


def _run_pipelined(decoders: int, batch: int, paths: Sequence[Path]) -> tuple[list[str], float]:
    pending_chunks = collections.deque(harness.chunks(paths, batch))
    in_flight: collections.deque[list[futures.Future[decode.Pixels | None]]] = collections.deque()
    labels: list[str] = []
    with futures.ThreadPoolExecutor(decoders) as pool:
        started = time.perf_counter()
        while pending_chunks or in_flight:
            while pending_chunks and len(in_flight) < PREFETCH_BATCHES * decoders:
                in_flight.append([pool.submit(decode.decode_file, path) for path in pending_chunks.popleft()])
            labels += classify(_network, [future.result() for future in in_flight.popleft()])
        return labels, time.perf_counter() - started


if __name__ == "__main__":
    files = sample_images.find_jpegs(Path(sys.argv[1]))
    for name, measure in arrangements().items():
        run = measure(files)
        print(f"{name:40} {run.rate:6.0f} images/s {run.cpu_us:6.0f} us of CPU per image")
