"""Keeps what training does to pictures, a batch at a time in torch; preprocess.py is its serving side.

A crop is resampled by the same area filter as in serving, written as two matrix products a picture, so two
cores keep up with the network and nothing is blurred differently from what is served.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Augment:
    """How far a training picture may be from its original; all strengths are fractions."""

    min_area: float = 0.4
    max_stretch: float = 4 / 3
    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.4

    def __call__(self, batch: Tensor, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Random crops, flips and colours: uint8 [N, H, W, 3] to float [N, 3, height, width] in 0..1."""
        pictures = batch.permute(0, 3, 1, 2).float() / 255
        left, top, crop_width, crop_height = self._boxes(len(batch), generator)
        flipped = torch.rand(len(batch), generator=generator) < 0.5
        rows = area_weights(top, crop_height, pictures.shape[2], height)
        columns = area_weights(left, crop_width, pictures.shape[3], width)
        columns = torch.where(flipped[:, None, None], columns.flip(1), columns)
        return self._coloured(resampled(pictures, rows, columns), generator)

    def _boxes(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Left, top, width and height of random crops, as fractions of the picture."""
        area, stretch, x, y = torch.rand(4, count, generator=generator)
        side = (self.min_area + (1 - self.min_area) * area).sqrt()
        ratio = torch.exp((2 * stretch - 1) * math.log(self.max_stretch) / 2)
        width, height = (side * ratio).clamp(max=1), (side / ratio).clamp(max=1)
        return x * (1 - width), y * (1 - height), width, height

    def _coloured(self, pictures: Tensor, generator: torch.Generator) -> Tensor:
        strengths = torch.tensor([self.brightness, self.contrast, self.saturation])
        factors = 1 + strengths[:, None] * (2 * torch.rand(3, len(pictures), generator=generator) - 1)
        brightness, contrast, saturation = factors[:, :, None, None, None]
        pictures = pictures * brightness
        mean = pictures.mean(dim=(1, 2, 3), keepdim=True)
        pictures = mean + (pictures - mean) * contrast
        grey = pictures.mean(dim=1, keepdim=True)
        saturated: Tensor = grey + (pictures - grey) * saturation
        return saturated.clamp(0, 1)


def area_weights(start: Tensor, length: Tensor, inputs: int, outputs: int) -> Tensor:
    """Matrices [N, outputs, inputs] that average a side's part from `start` on, `length` long (both fractions)."""
    step = (length * inputs / outputs)[:, None, None]
    low = (start * inputs)[:, None, None] + step * torch.arange(outputs)[None, :, None]
    pixel = torch.arange(inputs)[None, None, :]
    overlap = torch.minimum(low + step, pixel + 1) - torch.maximum(low, pixel.to(low.dtype))
    return overlap.clamp(min=0) / step


def resampled(pictures: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pictures [N, 3, H, W] through the matrices of their rows and columns."""
    return rows[:, None] @ pictures @ columns[:, None].transpose(-1, -2)


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
