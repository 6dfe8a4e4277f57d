"""The plain loop: what anybody writes first, and what the labels of all others are held against.

Pillow's `convert` and `resize` of the whole picture, the network as it was trained, in float32; not a line of the
product's preprocessing or classifier. It gets as many processes as the limit, so that only these differ.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from bench import loop
from model import bundle

BATCH = 32
_bundle: bundle.Bundle


def run(paths: Sequence[Path], processes: int = loop.CORES) -> loop.Run:
    """Classify files that all can be decoded."""
    with loop.Pool(processes, _start, ()) as pool:
        started = time.perf_counter()
        done = list(pool.map(_classify, loop.chunks(paths, BATCH)))
        seconds = time.perf_counter() - started
    return loop.Run([label for labels, _ in done for label in labels], seconds, sum(cpu for _, cpu in done))


def _start() -> None:
    torch.set_num_threads(1)
    global _bundle  # noqa: PLW0603 (a process of a pool has no other place)
    _bundle = bundle.load(loop.BUNDLE)
    how = _bundle.preprocess
    _bundle.network(torch.zeros(BATCH, 3, how.height, how.width))


@torch.inference_mode()
def _classify(paths: Sequence[Path]) -> list[str]:
    how = _bundle.preprocess
    size, filter_ = (how.width, how.height), Image.Resampling[how.resample.upper()]
    pixels = np.stack([np.asarray(_open(path).resize(size, filter_)) for path in paths])
    batch = (torch.from_numpy(pixels) / 255 - torch.tensor(how.mean)) / torch.tensor(how.std)
    best = _bundle.network(batch.permute(0, 3, 1, 2)).argmax(dim=1)
    return [_bundle.labels[row] for row in best]


def _open(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return ImageOps.exif_transpose(picture).convert("RGB")
