"""PyTorch DataLoader over a folder: worker processes decode, the main process classifies.

`python -m benchmarks.peers.dataloader WORKERS FOLDER` prints {"labels": […], "seconds": …}; the workers have started
before the clock does.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.utils import data

from benchmarks import harness, sample_images, upper_bound
from model.inference import classifier
from model.packaging import bundle

BATCH = 64


def run(workers: int, folder: Path) -> harness.RunResult:
    """Run it in a separate process; its CPU is not measured."""
    command = [sys.executable, "-m", __spec__.name, str(workers), str(folder)]
    process = subprocess.run(command, check=True, capture_output=True, text=True)
    output = json.loads(process.stdout)
    return harness.RunResult(output["labels"], output["seconds"], 0.0)


class ImageFiles(data.Dataset[npt.NDArray[np.uint8]]):
    """Data set of image files, decoded to pixels."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._preprocess = bundle.load(harness.BUNDLE).preprocess

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]:
        return self._preprocess.decode(self._paths[index].read_bytes())


def main(workers: int, folder: Path) -> None:
    """Classify a few images first, so that all workers are ready, then all of them."""
    torch.set_num_threads(1)
    paths = sample_images.find_jpegs(folder)
    network = classifier.Classifier(bundle.load(harness.BUNDLE))
    indices = list(range(min(BATCH * workers, len(paths))))
    batches = data.DataLoader(
        ImageFiles(paths), BATCH, sampler=indices, num_workers=workers, persistent_workers=True, collate_fn=np.stack
    )
    for batch in batches:
        upper_bound.classify(network, batch)
    indices[:] = range(len(paths))
    started = time.perf_counter()
    labels = [label for batch in batches for label in upper_bound.classify(network, batch)]
    print(json.dumps({"seconds": time.perf_counter() - started, "labels": labels}))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
