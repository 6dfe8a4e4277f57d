"""What every peer is given: the product's own decoder and forward pass, so that only the serving differs."""

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from bench import loop
from model import bundle, classifier


class Network:
    """The bundle that is shipped, with `BENCH_TORCH_THREADS` threads (one if unsaid)."""

    def __init__(self) -> None:
        torch.set_num_threads(setting("torch_threads", 1))
        self._classifier = classifier.Classifier(bundle.load(loop.BUNDLE))
        self._how = self._classifier.bundle.preprocess
        self.labels(
            [np.zeros((self._how.height, self._how.width, 3), np.uint8)] * 32
        )  # whatever is slow the first time

    def pixels(self, jpeg: bytes) -> npt.NDArray[np.uint8]:
        """One picture, decoded."""
        return self._how.pixels(jpeg)

    def labels(self, pixels: Sequence[npt.NDArray[np.uint8]]) -> list[str]:
        """The labels of a batch."""
        best = self._classifier.classify(np.stack(pixels)).argmax(axis=1)
        return [self._classifier.bundle.labels[row] for row in best]


def setting(name: str, otherwise: int) -> int:
    """What the search gave this peer."""
    return int(os.environ.get(f"BENCH_{name.upper()}", otherwise))


def port() -> int:
    """Where to answer."""
    return int(os.environ["BENCH_PORT"])
