"""Baseline: the loop one would write first. Its labels are the reference for all other contenders.

Pillow's `convert`, and its `resize` or `fit` of the full image, as the bundle says, and the network as it was trained,
in float32; none of the product's preprocessing or classifier. It uses as many processes as the upper bound, so that
only these differ.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from benchmarks import harness
from model.packaging import bundle
from model.preprocessing import decode

BATCH = 32
_bundle: bundle.Bundle


def run(paths: Sequence[Path], processes: int = harness.CORES) -> harness.RunResult:
    """Classify files, all of which must be decodable."""
    with harness.TimedPool(processes, _start, ()) as pool:
        return pool.classify(_classify, paths, BATCH)


def _start() -> None:
    torch.set_num_threads(1)
    global _bundle  # noqa: PLW0603 (a pool's process has no other place for state)
    _bundle = bundle.load(harness.BUNDLE)
    preprocess = _bundle.preprocess
    _bundle.network(torch.zeros(BATCH, 3, preprocess.height, preprocess.width))


@torch.inference_mode()
def _classify(paths: Sequence[Path]) -> list[str]:
    preprocess = _bundle.preprocess
    pixels = np.stack([np.asarray(preprocess_plainly(_open_rgb(path), preprocess)) for path in paths])
    batch = (torch.from_numpy(pixels) / 255 - torch.tensor(preprocess.mean)) / torch.tensor(preprocess.std)
    predictions = _bundle.network(batch.permute(0, 3, 1, 2)).argmax(dim=1)
    return [_bundle.labels[row] for row in predictions]


def preprocess_plainly(image: Image.Image, preprocess: decode.Preprocess) -> Image.Image:
    """Resize an image, or its middle, to the network's input with one call of Pillow."""
    size, resample = (preprocess.width, preprocess.height), Image.Resampling[preprocess.resample.upper()]
    if preprocess.fit == "stretch":
        return image.resize(size, resample)
    return ImageOps.fit(image, size, resample, bleed=(1 - preprocess.crop) / 2)


def _open_rgb(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")
