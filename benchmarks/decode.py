"""Decode files to pixels with the product's preprocessing, for all loops; does not import torch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imaging import errors
from model.preprocessing import decode

Pixels = npt.NDArray[np.uint8]
_preprocess: decode.Preprocess


def initialize(preprocess: decode.Preprocess) -> None:
    """Set the network's preprocessing, once in each process."""
    global _preprocess  # noqa: PLW0603 (a pool's process has no other place for state)
    _preprocess = preprocess


def decode_file(path: Path) -> Pixels | None:
    """Return a file's pixels, uint8 [height, width, 3]; None if it cannot be decoded."""
    try:
        return _preprocess.decode(path.read_bytes())
    except errors.ImageDecodeError:
        return None


def decode_files(paths: Sequence[Path]) -> list[Pixels | None]:
    """Decode several files, in order."""
    return [decode_file(path) for path in paths]
