"""Decode an image file to the pixels that a network sees, in training and serving alike.

Imports `imaging` and numpy only: decoder processes load this module and must start without torch and pydantic.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from PIL import Image

from imaging import decode as image_decoder
from imaging import errors, limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

MAX_SIDE = 16_384  # of the network's input
MIN_DRAFT_SIDE = 256  # a JPEG is not decoded to fewer pixels a side, however small the network's input
MIN_CROP = 0.1  # a smaller middle would be decoded from more pixels than the decoder's limits allow

Resample = Literal["box", "hamming", "bilinear", "bicubic", "lanczos"]
Fit = Literal["stretch", "crop"]


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """How an image becomes a network's input; stored in its bundle.

    `decode` resizes the image to `width` x `height` with the `resample` filter. With `fit` "stretch" it takes the whole
    image, with "crop" the middle: the largest box of the input's proportions, its sides multiplied by `crop`. The
    classifier then computes (pixels / 255 - mean) / std on the device. The default mean and std divide by 255 only.
    """

    width: int
    height: int
    resample: Resample = "box"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    fit: Fit = "stretch"
    crop: float = 1.0

    def __post_init__(self) -> None:
        if not (1 <= self.width <= MAX_SIDE and 1 <= self.height <= MAX_SIDE):
            raise ValueError(f"width and height must be 1 to {MAX_SIDE}, not {self.width} x {self.height}.")
        if self.resample not in get_args(Resample):
            raise ValueError(f"resample must be one of {', '.join(get_args(Resample))}, not {self.resample!r}.")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError("mean and std need three numbers each, and std must be above zero.")
        if self.fit not in get_args(Fit):
            raise ValueError(f"fit must be one of {', '.join(get_args(Fit))}, not {self.fit!r}.")
        if not MIN_CROP <= self.crop <= 1 or (self.fit == "stretch" and self.crop != 1):
            raise ValueError(f"crop must be {MIN_CROP} to 1, and 1 if fit is stretch, not {self.crop}.")

    @property
    def pixel_format(self) -> tuple[object, ...]:
        """The fields that decide on the decoded pixels; mean and std are applied later, on the device."""
        return self.width, self.height, self.resample, self.fit, self.crop

    def decode(self, data: bytes, *, max_pixels: int = limits.MAX_PIXELS) -> npt.NDArray[np.uint8]:
        """Decode a file's bytes to uint8 RGB [height, width, 3].

        Raises:
            errors.ImageDecodeError: the bytes are not an image in an accepted format, and of at most `max_pixels`.
        """
        sides = (max(math.ceil(2 * side / self.crop), MIN_DRAFT_SIDE) for side in (self.width, self.height))
        image = image_decoder.open_image(data, max_pixels=max_pixels, min_size=(next(sides), next(sides)))
        try:
            resample = Image.Resampling[self.resample.upper()]
            resized = image.resize((self.width, self.height), resample, self._box(*image.size))
            return np.array(resized, dtype=np.uint8)
        except MemoryError:
            raise errors.out_of_memory() from None

    def _box(self, width: int, height: int) -> tuple[float, float, float, float] | None:
        """Return the part of an image of this size that the network sees: left, top, right, bottom; None for all."""
        if self.fit == "stretch":
            return None
        scale = self.crop * min(width / self.width, height / self.height)
        left, top = (max(0, (have - scale * want) / 2) for have, want in ((width, self.width), (height, self.height)))
        return left, top, width - left, height - top

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Preprocess:
        """Parse the output of `to_json`."""
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
        return cls(**values)
