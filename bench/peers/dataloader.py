"""PyTorch's DataLoader over a folder: worker processes decode, the main process classifies.

`python -m bench.peers.dataloader WORKERS FOLDER` prints {"labels": […], "seconds": …}; the workers are up before the
clock starts.
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

from bench import bare, loop, pictures
from model import bundle, classifier

BATCH = 64


def run(workers: int, folder: Path) -> loop.Run:
    """In a process of its own; its CPU is not counted."""
    command = [sys.executable, "-m", __spec__.name, str(workers), str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    answer = json.loads(done.stdout)
    return loop.Run(answer["labels"], answer["seconds"], 0.0)


class Photos(data.Dataset[npt.NDArray[np.uint8]]):
    """Files, as pixels."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._how = bundle.load(loop.BUNDLE).preprocess

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]:
        return self._how.pixels(self._paths[index].read_bytes())


def main(workers: int, folder: Path) -> None:
    """A few pictures first, so that all is up; then all of them."""
    torch.set_num_threads(1)
    paths = pictures.found(folder)
    network = classifier.Classifier(bundle.load(loop.BUNDLE))
    order = list(range(min(BATCH * workers, len(paths))))
    batches = data.DataLoader(
        Photos(paths), BATCH, sampler=order, num_workers=workers, persistent_workers=True, collate_fn=np.stack
    )
    for batch in batches:
        bare.classify(network, batch)
    order[:] = range(len(paths))
    started = time.perf_counter()
    labels = [label for batch in batches for label in bare.classify(network, batch)]
    print(json.dumps({"seconds": time.perf_counter() - started, "labels": labels}))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
