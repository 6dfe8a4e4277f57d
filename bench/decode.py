"""The decoding half of every loop: files to pixels, by the product's own preprocessing; knows no torch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model import preprocess

Pixels = npt.NDArray[np.uint8]
_how: preprocess.Preprocess


def start(how: preprocess.Preprocess) -> None:
    """Say once, in each process, what the network expects."""
    global _how  # noqa: PLW0603 (a process of a pool has no other place)
    _how = how


def one(path: Path) -> Pixels | None:
    """A file's pixels, uint8 [height, width, 3]; None if it cannot be decoded."""
    try:
        return _how.pixels(path.read_bytes())
    except preprocess.BadPicture:
        return None


def some(paths: Sequence[Path]) -> list[Pixels | None]:
    """Those of several files."""
    return [one(path) for path in paths]
