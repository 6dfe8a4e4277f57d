"""Read, check and write a bundle's `familiarity.safetensors`: what the model has seen in training."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import safetensors
import safetensors.torch
import torch

from model.packaging.manifest import FAMILIARITY_FILE, InvalidBundle

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

MAX_BYTES = 16_000_000
MAX_REFERENCES = 5000
MAX_PHOTOS = 100_000
QUANTILES = 101
DIGEST_BYTES = 8
_DTYPES = {"references": torch.int8, "distances": torch.float32, "photos": torch.uint8, "predicted": torch.int32}


@dataclasses.dataclass(frozen=True)
class Familiarity:
    """The features that familiarity is computed from, and the photos that the model was trained on.

    `references` int8 [R, D] are features of some training photos, each row at a scale of its own. `distances` float32
    [101] are the percentiles, ascending, of the distances of held-out training photos to their references.
    `photos` uint8 [P, 8] are the first bytes of the SHA-256 of the training photos, `predicted` int32 [P] the indices
    of the labels that they got when they were held out, -1 if they never were; both are empty for a training on more
    than 100,000 photos.
    """

    references: Tensor
    distances: Tensor
    photos: Tensor
    predicted: Tensor

    def __post_init__(self) -> None:
        for name, dtype in _DTYPES.items():
            if getattr(self, name).dtype != dtype:
                raise ValueError(f"{name} must be {dtype}, not {getattr(self, name).dtype}")
        rows, photos = self.references.shape[:1], self.photos.shape[:1]
        if self.references.ndim != 2 or not 1 <= rows[0] <= MAX_REFERENCES:
            raise ValueError(f"references must be 1 to {MAX_REFERENCES} rows, not {tuple(self.references.shape)}")
        if self.photos.ndim != 2 or self.photos.shape[1] != DIGEST_BYTES or photos[0] > MAX_PHOTOS:
            problem = f"not {tuple(self.photos.shape)}"
            raise ValueError(f"photos must be at most {MAX_PHOTOS} rows of {DIGEST_BYTES} bytes, {problem}")
        if self.predicted.shape != photos or self.distances.shape != (QUANTILES,):
            raise ValueError(f"there must be one prediction for each photo and {QUANTILES} distances")
        if not self.distances.isfinite().all() or (self.distances.diff() < 0).any():
            raise ValueError("distances must be finite and ascending")


def encode(familiarity: Familiarity) -> bytes:
    """Return the file's bytes."""
    return safetensors.torch.save({name: getattr(familiarity, name).contiguous() for name in _DTYPES})


def decode(data: bytes, path: Path) -> Familiarity:
    """Parse the file's bytes.

    Raises:
        InvalidBundle: they are not such a file, or have other shapes.
    """
    if len(data) > MAX_BYTES:
        raise InvalidBundle(f"{path} has {len(data):,} bytes, at most {MAX_BYTES:,} are accepted: train again.")
    try:
        return Familiarity(**safetensors.torch.load(data))
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        problem = str(error).removeprefix("Familiarity.__init__() ")
        raise InvalidBundle(f"{path} is not a {FAMILIARITY_FILE} ({problem}): restore the bundle.") from error
