"""Keeps what training does to pictures, a batch at a time in torch; preprocess.py is its serving side.

A crop is resampled by the same area filter as in serving, written as two matrix products a picture, so two
cores keep up with the network and nothing is blurred differently from what is served.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

_AT_ONCE = 16


def _option(default: float, told: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": told})


@dataclasses.dataclass(frozen=True)
class Augment:
    """How far a training picture may be from its original; all strengths are fractions."""

    min_area: float = _option(0.4, "smallest share of a picture's area that a crop has")
    max_stretch: float = _option(4 / 3, "how much wider or higher a crop may be than the picture")
    brightness: float = _option(0.3, "up to so much brighter or darker")
    contrast: float = _option(0.3, "up to so much more or less contrast")
    saturation: float = _option(0.4, "up to so much more or less colour")

    def __call__(self, batch: Tensor, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Random crops, flips and colours: uint8 [N, H, W, 3] to float [N, 3, height, width] in 0..1."""
        left, top, crop_width, crop_height = self._boxes(len(batch), generator)
        flipped = torch.rand(len(batch), generator=generator) < 0.5
        rows = area_weights(top, crop_height, batch.shape[1], height)
        columns = area_weights(left, crop_width, batch.shape[2], width) / 255
        columns = torch.where(flipped[:, None, None], columns.flip(1), columns)
        drawn = [part.to(batch.device) for part in (rows, columns, self._factors(len(batch), generator))]
        # A few at a time: they stay in the cache of a core from the first step to the last, in half of the time.
        several = zip(*(torch.split(part, _AT_ONCE) for part in (batch, *drawn)), strict=True)
        return torch.cat([coloured(resampled(*few), colours) for *few, colours in several])

    def _boxes(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Left, top, width and height of random crops, as fractions of the picture."""
        area, stretch, x, y = torch.rand(4, count, generator=generator)
        side = (self.min_area + (1 - self.min_area) * area).sqrt()
        ratio = torch.exp((2 * stretch - 1) * math.log(self.max_stretch) / 2)
        width, height = (side * ratio).clamp(max=1), (side / ratio).clamp(max=1)
        return x * (1 - width), y * (1 - height), width, height

    def _factors(self, count: int, generator: torch.Generator) -> Tensor:
        """Factors [N, 3] of brightness, contrast and saturation."""
        strengths = torch.tensor([self.brightness, self.contrast, self.saturation])
        return 1 + strengths * (2 * torch.rand(count, 3, generator=generator) - 1)


def coloured(pictures: Tensor, factors: Tensor) -> Tensor:
    """Pictures [N, 3, H, W] in 0..1 with brightness, contrast and saturation times their factors [N, 3]."""
    brightness, contrast, saturation = factors.T[:, :, None, None, None]
    pictures = pictures * brightness
    mean = pictures.mean(dim=(1, 2, 3), keepdim=True)
    pictures = mean + (pictures - mean) * contrast
    grey = pictures.mean(dim=1, keepdim=True)
    saturated: Tensor = grey + (pictures - grey) * saturation
    return saturated.clamp_(0, 1)


def area_weights(start: Tensor, length: Tensor, inputs: int, outputs: int) -> Tensor:
    """Matrices [N, outputs, inputs] that average a side's part from `start` on, `length` long (both fractions)."""
    step = (length * inputs / outputs)[:, None, None]
    low = (start * inputs)[:, None, None] + step * torch.arange(outputs)[None, :, None]
    pixel = torch.arange(inputs)[None, None, :]
    overlap = torch.minimum(low + step, pixel + 1) - torch.maximum(low, pixel.to(low.dtype))
    return overlap.clamp(min=0) / step


def resampled(pixels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pixels [N, H, W, C] through the matrices of their rows and columns, as float [N, C, height, width]."""
    count, height, width, channels = pixels.shape
    shrunk = rows @ pixels.float().view(count, height, width * channels)
    return shrunk.view(count, -1, width, channels).permute(0, 3, 1, 2) @ columns[:, None].transpose(-1, -2)


def mixup(inputs: Tensor, targets: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Blends each picture and its one-hot target with another's (Zhang and others, 2018).

    One share a batch, drawn from Beta(alpha, alpha); alpha 0 leaves the batch as it is.
    """
    if alpha <= 0:
        return inputs, targets
    # torch.distributions takes no generator; numpy's beta does, seeded from ours.
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    share = float(np.random.default_rng(seed).beta(alpha, alpha))
    order = torch.randperm(len(inputs), generator=generator)
    return share * inputs + (1 - share) * inputs[order], share * targets + (1 - share) * targets[order]


def cutmix(inputs: Tensor, targets: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Puts a box of another picture into each, and blends the targets by its area (Yun and others, 2019).

    One box a batch, its area's share drawn from Beta(alpha, alpha); alpha 0 leaves the batch as it is.
    """
    if alpha <= 0:
        return inputs, targets
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    side = math.sqrt(1 - float(np.random.default_rng(seed).beta(alpha, alpha)))
    centre = torch.rand(2, generator=generator).tolist()
    (top, bottom), (left, right) = (
        (max(0, round((middle - side / 2) * length)), min(length, round((middle + side / 2) * length)))
        for middle, length in zip(centre, inputs.shape[2:], strict=True)
    )
    order = torch.randperm(len(inputs), generator=generator)
    mixed = inputs.clone()
    mixed[:, :, top:bottom, left:right] = inputs[order, :, top:bottom, left:right]
    share = 1 - (bottom - top) * (right - left) / (inputs.shape[2] * inputs.shape[3])
    return mixed, share * targets + (1 - share) * targets[order]


def mix(
    inputs: Tensor, targets: Tensor, mixup_alpha: float, cutmix_alpha: float, chance: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mixup, or cutmix, or one of both by lot, in a share of the batches."""
    ways = [(way, alpha) for way, alpha in ((mixup, mixup_alpha), (cutmix, cutmix_alpha)) if alpha > 0]
    lot = torch.rand(2, generator=generator).tolist()
    if not ways or lot[0] >= chance:
        return inputs, targets
    way, alpha = ways[int(lot[1] * len(ways))]
    return way(inputs, targets, alpha, generator)
