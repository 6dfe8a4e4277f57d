"""GPU: throughput of the model on this machine's GPU, and the utilization that it amounts to.

`python -m benchmarks.gpu` needs the repository, torch, numpy, Pillow and safetensors; measuring the whole worker also
needs the worker's dependencies, and is skipped without them. `--device cpu` only tries the code.
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

if __name__ == "__main__" and __package__ is None:  # run by its path: python benchmarks/gpu.py
    sys.path[0] = str(Path(__file__).parent.parent)

from benchmarks import decode, harness, network_cost, sample_images, upper_bound
from model.inference import classifier
from model.packaging import bundle
from model.preprocessing import normalize

NO_GPU = "This machine has no GPU, so nothing was measured. Use --device cpu to try the code without one."
BUNDLE = harness.BUNDLE.parent / "cookpad-cnn"  # the goals are for the published network
BATCH_SIZES = (64, 256, 1024, 4096)
MATRIX_SIZE = 8192  # rows and columns; large enough for the GPU's best rate
COPY_BYTES = 2 << 30
WORKER_CONFIGS = ((1, 64), (1, 256), (1, 1024), (1, "auto"), (2, 256))
"""Number of workers that share the GPU, and their batch size."""
PARTS = ("forward", "classifier", "decode", "files", "worker")
WORKER_REQUIREMENTS = ("sqlalchemy", "alembic", "celery", "pydantic", "uuid_utils")


@dataclass(frozen=True)
class DevicePeak:
    """Measured peak rates of a device."""

    device: torch.device
    dtype: torch.dtype
    flops: float
    """Of a matrix product, per second."""
    bandwidth: float
    """Bytes read and written per second, by a copy."""

    @property
    def is_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.type == "cuda"


def measure_device(device: torch.device, dtype: torch.dtype, seconds: float) -> DevicePeak:
    """Measure a device's matrix rate in `dtype`, and its memory bandwidth."""
    scale = 1 if device.type == "cuda" else 16  # on a CPU only the code is tried
    side, size = MATRIX_SIZE // scale, COPY_BYTES // scale**2
    left = torch.randn(side, side, device=device).to(dtype)
    right = torch.randn(side, side, device=device).to(dtype)
    products_per_second = measure_rate(lambda: left @ right, device, seconds)
    source = torch.empty(size, dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(source)
    copies_per_second = measure_rate(lambda: target.copy_(source), device, seconds)
    return DevicePeak(device, dtype, products_per_second * 2 * side**3, copies_per_second * 2 * size)


def measure_rate(step: Callable[[], Any], device: torch.device, seconds: float) -> float:
    """Return steps per second after a warm-up."""

    def synchronize() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in range(3):
        step()
    synchronize()
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        for _ in range(10 if device.type == "cuda" else 1):
            step()
            count += 1
        synchronize()
    return count / (time.perf_counter() - started)


def forward_variants(
    network: classifier.Classifier, pixels: torch.Tensor
) -> Iterator[tuple[str, Callable[[], Any] | str]]:
    """Yield the variants of the forward pass on the device: name, and a step or the reason why there is none."""
    normalizer = normalize.Normalize(network.bundle.preprocess, network.device)
    dtype = next(network.bundle.network.parameters()).dtype

    def plain(pixels: torch.Tensor) -> torch.Tensor:
        return torch.softmax(network.bundle.network(normalizer.from_uint8(pixels).to(dtype)).float(), dim=1)

    yield "plain PyTorch", lambda: plain(pixels)
    if pixels.device.type != "cuda":
        yield "plain, in a CUDA graph", "needs a GPU"
        return
    yield "plain, in a CUDA graph", _capture_cuda_graph(plain, pixels)
    yield "the product's, in a graph", _capture_cuda_graph(network.forward, pixels)


def _capture_cuda_graph(network: Callable[[torch.Tensor], Any], pixels: torch.Tensor) -> Callable[[], Any]:
    side_stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side_stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side_stream):
        for _ in range(3):
            network(pixels)
    torch.cuda.current_stream().wait_stream(side_stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        network(pixels)
    return graph.replay


@torch.inference_mode()
def measure_forward(network: classifier.Classifier, peak: DevicePeak, seconds: float) -> Iterator[str]:
    """Measure images per second of the network alone, and the utilization at its best."""
    preprocess = network.bundle.preprocess
    best = 0.0
    for count in BATCH_SIZES[: None if peak.is_gpu else 1]:
        pixels = torch.randint(
            0, 256, (count, preprocess.height, preprocess.width, 3), dtype=torch.uint8, device=peak.device
        )
        for name, step in forward_variants(network, pixels):
            if isinstance(step, str):
                yield f"  batch {count:5}, {name:26} not measured: {step}"
                continue
            images_per_second = measure_rate(step, peak.device, seconds) * count
            best = max(best, images_per_second)
            yield f"  batch {count:5}, {name:26} {images_per_second:12,.0f} images/s"
    yield from _utilization_lines(
        network_cost.measure(network.bundle.network, preprocess.height, preprocess.width), best, peak
    )


def _utilization_lines(
    image_cost: network_cost.NetworkCost, images_per_second: float, peak: DevicePeak
) -> Iterator[str]:
    size = torch.finfo(peak.dtype).bits // 8
    flops_share, memory_share = (
        image_cost.flops * images_per_second / peak.flops,
        image_cost.values_moved * size * images_per_second / peak.bandwidth,
    )
    megaflop, kilobytes = image_cost.flops / 1e6, image_cost.values_moved * size / 1e3
    yield f"  {megaflop:.1f} MFLOP and at least {kilobytes:.0f} kB of memory traffic per image"
    yield f"  best: {flops_share:.1%} of the measured matrix rate, {memory_share:.1%} of the measured memory bandwidth"
    yield f"  the nearer bound is the {'matrix rate' if flops_share > memory_share else 'memory bandwidth'}"


def measure_classifier(network: classifier.Classifier, peak: DevicePeak, seconds: float) -> Iterator[str]:
    """Measure images per second of the product's classifier: pixels from host memory, probabilities to host memory."""
    preprocess = network.bundle.preprocess
    for count in BATCH_SIZES[: None if peak.is_gpu else 1]:
        pixels = np.random.default_rng(count).integers(
            0, 256, (count, preprocess.height, preprocess.width, 3), np.uint8
        )
        images_per_second = measure_rate(lambda pixels=pixels: network.classify(pixels), peak.device, seconds) * count  # type: ignore[misc]
        yield f"  batch {count:5} {images_per_second:12,.0f} images/s"


def measure_decoding(network: classifier.Classifier, files: list[Path], cores: int) -> Iterator[str]:
    """Measure images per second that one core and all cores decode: an upper bound for every worker."""
    sample = files[: max(1, len(files) // cores)]
    decode.initialize(network.bundle.preprocess)
    started = time.perf_counter()
    decode.decode_files(sample)
    yield f"  one core: {len(sample) / (time.perf_counter() - started):12,.0f} images/s"
    if network.device.type != "cuda":
        return
    with harness.TimedPool(cores, decode.initialize, (network.bundle.preprocess,)) as pool:
        started = time.perf_counter()
        cpu_seconds = sum(cpu for _, cpu in pool.map(decode.decode_files, harness.chunks(files, 64)))
        total_rate = len(files) / (time.perf_counter() - started)
    yield f"  {cores} cores: {total_rate:12,.0f} images/s, {cpu_seconds / len(files) * 1e6:.0f} µs of CPU per image"


def measure_from_files(network: classifier.Classifier, files: list[Path], cores: int) -> Iterator[str]:
    """Measure images per second from JPEG files: decoder processes, and this process classifies."""
    for decoders in (max(1, cores - 1), cores) if network.device.type == "cuda" else (cores,):
        result = upper_bound.run_decoder_processes(decoders, 64, network, files)
        yield f"  {decoders} decoders: {result.rate:12,.0f} images/s, {result.cpu_us:.0f} µs of CPU per image"


def measure_workers(files: list[Path], bundle_dir: Path, device: str, cores: int) -> Iterator[str]:
    """Measure images per second of whole workers on one SQLite file: claim, decode, classify, commit."""
    missing = [name for name in WORKER_REQUIREMENTS if importlib.util.find_spec(name) is None]
    if missing:
        yield f"  not measured: not installed: {', '.join(missing)}"
        return
    from benchmarks import prefilled_queue  # noqa: PLC0415 (needs the worker's dependencies)

    with tempfile.TemporaryDirectory(prefix="sortbelt-bench-") as work_dir:
        stored_files = prefilled_queue.StoredFiles(files, Path(work_dir))
        for workers, batch in WORKER_CONFIGS if device != "cpu" else WORKER_CONFIGS[:1]:
            decoders_each = max(1, (cores - 1) // workers)
            worker_settings = {"device": device, "decoder_processes": decoders_each, "batch_size": batch}
            images_per_second = prefilled_queue.run_workers(
                stored_files, bundle=bundle_dir, workers=workers, **worker_settings
            )
            label = "1 worker" if workers == 1 else f"{workers} workers"
            options = f"{label}, {decoders_each} decoders each, batches of {batch:>5}"
            yield f"  {options}: {images_per_second:12,.0f} images/s"


def main(args: argparse.Namespace) -> int:
    """Measure and print; return 3 if there is no GPU."""
    if args.device == "cuda" and not torch.cuda.is_available():
        print(NO_GPU)
        return 3
    loaded_bundle = bundle.load(args.bundle)
    network = classifier.Classifier(loaded_bundle, args.device)
    dtype = torch.bfloat16 if network.precision == "bfloat16" else torch.float32
    name = torch.cuda.get_device_name() if network.device.type == "cuda" else "a CPU"
    cores = len(os.sched_getaffinity(0))
    _print_lines(f"{loaded_bundle.name} on {name}, torch {torch.__version__}, {network.precision}, {cores} cores")
    if {"forward", "classifier"} & set(args.parts):
        peak = measure_device(network.device, dtype, args.seconds)
        _print_lines(
            f"matrix rate {peak.flops / 1e12:,.3g} TFLOP/s, memory {peak.bandwidth / 1e9:,.3g} GB/s, both measured"
        )
        if "forward" in args.parts:
            _print_lines("forward alone, pixels on the device", *measure_forward(network, peak, args.seconds))
        if "classifier" in args.parts:
            _print_lines(
                "the product's classifier, pixels on the host", *measure_classifier(network, peak, args.seconds)
            )
    if {"decode", "files", "worker"} & set(args.parts):
        with tempfile.TemporaryDirectory(prefix="sortbelt-bench-") as work_dir:
            _measure_files(args, network, Path(work_dir), cores)
    return 0


def _measure_files(args: argparse.Namespace, network: classifier.Classifier, work_dir: Path, cores: int) -> None:
    """Measure the parts that start from files."""
    originals = sample_images.find_or_draw(args.images, work_dir / "drawn", args.drawn)
    files = sample_images.write_unique_copies(originals, work_dir / "files", args.count, b"gpu")
    mean_bytes = sum(path.stat().st_size for path in files) / len(files)
    _print_lines(f"{len(files):,} files of {mean_bytes / 1000:.0f} KB")
    if "decode" in args.parts:
        _print_lines("decoding alone", *measure_decoding(network, files, cores))
    if "files" in args.parts:
        _print_lines("decode and forward", *measure_from_files(network, files, cores))
    if "worker" in args.parts:
        _print_lines("the whole worker over SQLite")
        for line in measure_workers(files, args.bundle, args.device, cores):
            _print_lines(line)


def _print_lines(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--bundle", type=Path, metavar="FOLDER", default=BUNDLE, help="the model (cookpad-cnn)")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="use these JPEGs instead of drawn ones")
    parser.add_argument("--drawn", type=int, default=500, help="images to draw")
    parser.add_argument("--count", type=int, default=20_000, help="number of files")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="parts to measure (all)")
    parser.add_argument("--seconds", type=float, default=1.0, help="duration of each measurement on the device")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(_parse_args()))
