"""The limit: bare loops that read, decode and classify files; no HTTP, no queue, no SQL, no digest.

They decode and classify with the product's own code, so that what is between them and the product is its own cost.
Which arrangement is fastest depends on the machine, so several are measured; the fastest is the limit.
`python -m bench.bare FOLDER` prints them all.
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

from bench import decode, loop, pictures
from model import bundle, classifier

AHEAD = 2  # batches for each decoder that are decoded before the network asks for them

_network: classifier.Classifier


def processes(count: int, batch: int, paths: Sequence[Path]) -> loop.Run:
    """Processes of one thread each, that decode a batch and then classify it."""
    with loop.Pool(count, _start, (1, batch)) as pool:
        started = time.perf_counter()
        done = list(pool.map(_decode_and_classify, loop.chunks(paths, batch)))
        seconds = time.perf_counter() - started
    return loop.Run([label for labels, _ in done for label in labels], seconds, sum(cpu for _, cpu in done))


def threads(decoders: int, forward: int, batch: int, paths: Sequence[Path]) -> loop.Run:
    """One process: threads that decode, and one that classifies with `forward` threads of torch."""
    with loop.Pool(1, _start, (forward, batch)) as pool:
        ((labels, seconds), cpu), *_ = pool.map(partial(_threads, decoders, batch), [paths])
    return loop.Run(labels, seconds, cpu)


def apart(decoders: int, batch: int, network: classifier.Classifier, paths: Sequence[Path]) -> loop.Run:
    """Processes that decode, and this one, which classifies; on a GPU, or with all of torch's threads."""
    labels: list[str] = []
    with loop.Pool(decoders, decode.start, (network.bundle.preprocess,)) as pool:
        network.classify(np.zeros((batch, *_shape(network), 3), np.uint8))
        started, cpu = time.perf_counter(), time.process_time()
        for pixels, theirs in pool.map(decode.some, loop.chunks(paths, batch)):
            labels += classify(network, pixels)
            cpu -= theirs
        return loop.Run(labels, time.perf_counter() - started, time.process_time() - cpu)


def ways(cores: int = loop.CORES) -> Mapping[str, Callable[[Sequence[Path]], loop.Run]]:
    """The arrangements that are tried."""
    return {
        f"{cores} processes, batches of 32": partial(processes, cores, 32),
        f"{cores} processes, batches of 64": partial(processes, cores, 64),
        f"{cores} threads decode, 1 classifies": partial(threads, cores, 1, 64),
    }


def classify(network: classifier.Classifier, pixels: Sequence[decode.Pixels | None]) -> list[str]:
    """The label of each picture; empty for one that could not be decoded."""
    good = [some for some in pixels if some is not None]
    best = iter(network.classify(np.stack(good)).argmax(axis=1) if good else ())
    return ["" if some is None else network.bundle.labels[next(best)] for some in pixels]


def _start(threads: int, batch: int) -> None:
    torch.set_num_threads(threads)
    global _network  # noqa: PLW0603 (a process of a pool has no other place)
    _network = classifier.Classifier(bundle.load(loop.BUNDLE))
    for _ in range(3):
        _network.classify(np.zeros((batch, *_shape(_network), 3), np.uint8))
    decode.start(_network.bundle.preprocess)


def _shape(network: classifier.Classifier) -> tuple[int, int]:
    return network.bundle.preprocess.height, network.bundle.preprocess.width


def _decode_and_classify(paths: Sequence[Path]) -> list[str]:
    return classify(_network, decode.some(paths))


def _threads(decoders: int, batch: int, paths: Sequence[Path]) -> tuple[list[str], float]:
    waiting = collections.deque(loop.chunks(paths, batch))
    decoded: collections.deque[list[futures.Future[decode.Pixels | None]]] = collections.deque()
    labels: list[str] = []
    with futures.ThreadPoolExecutor(decoders) as pool:
        started = time.perf_counter()
        while waiting or decoded:
            while waiting and len(decoded) < AHEAD * decoders:
                decoded.append([pool.submit(decode.one, path) for path in waiting.popleft()])
            labels += classify(_network, [one.result() for one in decoded.popleft()])
        return labels, time.perf_counter() - started


if __name__ == "__main__":
    files = pictures.found(Path(sys.argv[1]))
    for name, way in ways().items():
        run = way(files)
        print(f"{name:40} {run.rate:6.0f} images/s {run.cpu_us:6.0f} us of CPU each")
