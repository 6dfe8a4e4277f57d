"""Decoder and network for all peers: the product's own, so that only the serving differs."""

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from benchmarks import harness
from model.inference import classifier
from model.packaging import bundle


class Network:
    """The shipped bundle, with `BENCH_TORCH_THREADS` threads (default 1)."""

    def __init__(self) -> None:
        torch.set_num_threads(setting("torch_threads", 1))
        self._classifier = classifier.Classifier(bundle.load(harness.BUNDLE))
        self._preprocess = self._classifier.bundle.preprocess
        self.labels([np.zeros((self._preprocess.height, self._preprocess.width, 3), np.uint8)] * 32)  # warm up

    def pixels(self, jpeg: bytes) -> npt.NDArray[np.uint8]:
        """Decode one image; uint8 [height, width, 3]."""
        return self._preprocess.decode(jpeg)

    def labels(self, pixels: Sequence[npt.NDArray[np.uint8]]) -> list[str]:
        """Return the labels of a batch."""
        predictions = self._classifier.classify(np.stack(pixels)).argmax(axis=1)
        return [self._classifier.bundle.labels[row] for row in predictions]


def setting(name: str, default: int) -> int:
    """Return a setting of this peer, passed in the environment."""
    return int(os.environ.get(f"BENCH_{name.upper()}", default))


def port() -> int:
    """Return the port to listen on."""
    return int(os.environ["BENCH_PORT"])
