"""The GPU: how fast this model is on the card that is here, and what part of the card that is.

`python -m bench.gpu` wants the repository, torch, numpy, Pillow and safetensors; the worker over SQLite also what the
product's worker wants, and is left out with a reason where that is not installed. `--device cpu` tries the code only.
"""

import argparse
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

if __name__ == "__main__" and __package__ is None:  # run by its path: python bench/gpu.py
    sys.path[0] = str(Path(__file__).parent.parent)

from bench import bare, cost, decode, loop, pictures
from model import bundle, classifier, inputs

NO_GPU = "There is no GPU here, so nothing was measured; --device cpu tries the code without one."
BUNDLE = loop.BUNDLE.parent / "cookpad-cnn"  # the goals are about the published network
BATCHES = (64, 256, 1024, 4096)
MATRIX = 8192  # rows and columns, as large as gives the card's best rate
COPY_BYTES = 2 << 30
WORKERS = ((1, 64), (1, 256), (1, 1024), (1, "auto"), (2, 256))
"""How many whole workers share the card, and how large their batches are."""
PARTS = ("forward", "classifier", "decode", "files", "worker")
WORKER_NEEDS = ("sqlalchemy", "alembic", "celery", "pydantic", "uuid_utils")


@dataclass(frozen=True)
class Card:
    """What the device was seen to do."""

    device: torch.device
    dtype: torch.dtype
    flops: float
    """Of a product of matrices, a second."""
    bandwidth: float
    """Bytes read and written a second, by a copy."""

    @property
    def is_gpu(self) -> bool:
        """Whether it is one."""
        return self.device.type == "cuda"


def card(device: torch.device, dtype: torch.dtype, seconds: float) -> Card:
    """Measure a device: its rate in this type, and its memory."""
    small = 1 if device.type == "cuda" else 16  # a CPU is only to be tried
    side, size = MATRIX // small, COPY_BYTES // small**2
    left = torch.randn(side, side, device=device).to(dtype)
    right = torch.randn(side, side, device=device).to(dtype)
    product = rate(lambda: left @ right, device, seconds)
    source = torch.empty(size, dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(source)
    copied = rate(lambda: target.copy_(source), device, seconds)
    return Card(device, dtype, product * 2 * side**3, copied * 2 * size)


def rate(step: Callable[[], Any], device: torch.device, seconds: float) -> float:
    """Steps a second, once it is warm."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in range(3):
        step()
    wait()
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        for _ in range(10 if device.type == "cuda" else 1):
            step()
            count += 1
        wait()
    return count / (time.perf_counter() - started)


def forwards(network: classifier.Classifier, pixels: torch.Tensor) -> Iterator[tuple[str, Callable[[], Any] | str]]:
    """Ways from bytes on the device to probabilities there: a step, or why it cannot be had."""
    how = inputs.Normalise(network.bundle.preprocess, network.device)
    dtype = next(network.bundle.network.parameters()).dtype

    def plain(pixels: torch.Tensor) -> torch.Tensor:
        return torch.softmax(network.bundle.network(how.pixels(pixels).to(dtype)).float(), dim=1)

    yield "plain PyTorch", lambda: plain(pixels)
    if pixels.device.type != "cuda":
        yield "plain, in a CUDA graph", "only a GPU has them"
        return
    yield "plain, in a CUDA graph", _graph(plain, pixels)
    yield "the product's, in a graph", _graph(network.forward, pixels)


def _graph(network: Callable[[torch.Tensor], Any], pixels: torch.Tensor) -> Callable[[], Any]:
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(3):
            network(pixels)
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        network(pixels)
    return graph.replay


@torch.inference_mode()
def forward_alone(network: classifier.Classifier, seen: Card, seconds: float) -> Iterator[str]:
    """Images a second of the network alone, and the share of the card that its best is."""
    how = network.bundle.preprocess
    best = 0.0
    for count in BATCHES[: None if seen.is_gpu else 1]:
        pixels = torch.randint(0, 256, (count, how.height, how.width, 3), dtype=torch.uint8, device=seen.device)
        for name, step in forwards(network, pixels):
            if isinstance(step, str):
                yield f"  batch {count:5}, {name:26} not measured: {step}"
                continue
            images = rate(step, seen.device, seconds) * count
            best = max(best, images)
            yield f"  batch {count:5}, {name:26} {images:12,.0f} images/s"
    yield from _share(cost.of(network.bundle.network, how.height, how.width), best, seen)


def _share(each: cost.Cost, images: float, seen: Card) -> Iterator[str]:
    size = torch.finfo(seen.dtype).bits // 8
    flops, moved = each.flops * images / seen.flops, each.values * size * images / seen.bandwidth
    yield f"  {each.flops / 1e6:.1f} MFLOP and at least {each.values * size / 1e3:.0f} kB of memory traffic for each"
    yield f"  the best is {flops:.1%} of the measured matrix rate and {moved:.1%} of the measured bandwidth:"
    yield f"  the nearer bound is {'the matrix rate' if flops > moved else 'the bandwidth of the memory'}"


def classified(network: classifier.Classifier, seen: Card, seconds: float) -> Iterator[str]:
    """Images a second of the product's classifier: pixels of the host in, probabilities of the host out."""
    how = network.bundle.preprocess
    for count in BATCHES[: None if seen.is_gpu else 1]:
        pixels = np.random.default_rng(count).integers(0, 256, (count, how.height, how.width, 3), np.uint8)
        images = rate(lambda pixels=pixels: network.classify(pixels), seen.device, seconds) * count  # type: ignore[misc]
        yield f"  batch {count:5} {images:12,.0f} images/s"


def decoded(network: classifier.Classifier, files: list[Path], cores: int) -> Iterator[str]:
    """Images a second that one core decodes, and all of them, with nothing else to do: no worker can do more."""
    some = files[: max(1, len(files) // cores)]
    decode.start(network.bundle.preprocess)
    started = time.perf_counter()
    decode.some(some)
    yield f"  one core: {len(some) / (time.perf_counter() - started):12,.0f} images/s"
    if network.device.type != "cuda":
        return
    with loop.Pool(cores, decode.start, (network.bundle.preprocess,)) as pool:
        started = time.perf_counter()
        used = sum(cpu for _, cpu in pool.map(decode.some, loop.chunks(files, 64)))
        rate_of_all = len(files) / (time.perf_counter() - started)
    yield f"  {cores} cores: {rate_of_all:12,.0f} images/s, {used / len(files) * 1e6:.0f} µs of CPU each"


def from_files(network: classifier.Classifier, files: list[Path], cores: int) -> Iterator[str]:
    """Images a second from JPEG files: decoder processes, and this one, which classifies."""
    for decoders in (max(1, cores - 1), cores) if network.device.type == "cuda" else (cores,):
        done = bare.apart(decoders, 64, network, files)
        yield f"  {decoders} decoders: {done.rate:12,.0f} images/s, {done.cpu_us:.0f} µs of CPU each"


def worker(files: list[Path], folder: Path, device: str, cores: int) -> Iterator[str]:
    """Images a second of whole workers: claimed from one SQLite file, decoded, classified, committed."""
    missing = [name for name in WORKER_NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        yield f"  not measured: {', '.join(missing)} is not installed"
        return
    from bench import queue_of_files  # noqa: PLC0415 (only where all that it wants is installed)

    with tempfile.TemporaryDirectory(prefix="sortbelt-bench-") as work:
        queued = queue_of_files.Files(files, Path(work))
        for workers, batch in WORKERS if device != "cpu" else WORKERS[:1]:
            each = max(1, (cores - 1) // workers)
            how = {"device": device, "decoders": each, "batch_size": batch}
            done = queue_of_files.drain(queued, bundle=folder, workers=workers, **how)
            named = "1 worker" if workers == 1 else f"{workers} workers"
            yield f"  {named}, {each} decoders each, batches of {batch:>5}: {done:12,.0f} images/s"


def main(asked: argparse.Namespace) -> int:
    """Measure, and print; 3 where there is no GPU."""
    if asked.device == "cuda" and not torch.cuda.is_available():
        print(NO_GPU)
        return 3
    made = bundle.load(asked.bundle)
    network = classifier.Classifier(made, asked.device)
    dtype = torch.bfloat16 if network.precision == "bfloat16" else torch.float32
    name = torch.cuda.get_device_name() if network.device.type == "cuda" else "a CPU"
    cores = len(os.sched_getaffinity(0))
    _say(f"{made.name} on {name}, torch {torch.__version__}, {network.precision}, {cores} cores")
    if {"forward", "classifier"} & set(asked.parts):
        seen = card(network.device, dtype, asked.seconds)
        _say(f"matrix rate {seen.flops / 1e12:,.3g} TFLOP/s, memory {seen.bandwidth / 1e9:,.3g} GB/s, both measured")
        if "forward" in asked.parts:
            _say("forward alone, pixels on the device", *forward_alone(network, seen, asked.seconds))
        if "classifier" in asked.parts:
            _say("the product's classifier, pixels on the host", *classified(network, seen, asked.seconds))
    if {"decode", "files", "worker"} & set(asked.parts):
        with tempfile.TemporaryDirectory(prefix="sortbelt-bench-") as work:
            _files(asked, network, Path(work), cores)
    return 0


def _files(asked: argparse.Namespace, network: classifier.Classifier, work: Path, cores: int) -> None:
    """What begins with files."""
    drawn = pictures.found(asked.images) if asked.images else pictures.folder(work / "drawn", asked.drawn)
    files = pictures.copies(drawn, work / "files", asked.count, b"gpu")
    mean = sum(path.stat().st_size for path in files) / len(files)
    _say(f"{len(files):,} files of {mean / 1000:.0f} KB")
    if "decode" in asked.parts:
        _say("decoding alone", *decoded(network, files, cores))
    if "files" in asked.parts:
        _say("decode and forward", *from_files(network, files, cores))
    if "worker" in asked.parts:
        _say("the whole worker over SQLite")
        for line in worker(files, asked.bundle, asked.device, cores):
            _say(line)


def _say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--bundle", type=Path, metavar="FOLDER", default=BUNDLE, help="the model (cookpad-cnn)")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="JPEGs of yours, instead of drawn ones")
    parser.add_argument("--drawn", type=int, default=500, help="pictures to draw")
    parser.add_argument("--count", type=int, default=20_000, help="files to go through")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (all)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement on the device")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(_asked()))
