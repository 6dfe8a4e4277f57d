"""Augment training images, a batch at a time in torch: random crops, flips, colours, mixup and cutmix.

A crop is resampled by the same area filter as in serving (preprocessing/decode.py), so that training and serving blur
images alike. It is written as two matrix products per image, which keeps up with the network on two cores.
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor

_CHUNK_SIZE = 16


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Augmentation:
    """The strength of the random changes; all values but `max_stretch` are fractions."""

    min_area: Annotated[float, Field(gt=0, le=1, description="smallest area of a crop, as a share of the image")] = 0.4
    max_stretch: Annotated[float, Field(ge=1, description="maximum change of a crop's aspect ratio")] = 4 / 3
    brightness: Annotated[float, Field(ge=0, description="maximum change of brightness")] = 0.3
    contrast: Annotated[float, Field(ge=0, description="maximum change of contrast")] = 0.3
    saturation: Annotated[float, Field(ge=0, description="maximum change of saturation")] = 0.4

    def __call__(self, batch: Tensor, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Crop, flip and recolour at random: uint8 [N, H, W, 3] to float [N, 3, height, width] in 0..1."""
        left, top, crop_width, crop_height = self._crop_boxes(len(batch), generator)
        flipped = torch.rand(len(batch), generator=generator) < 0.5
        rows = area_weights(top, crop_height, batch.shape[1], height)
        columns = area_weights(left, crop_width, batch.shape[2], width) / 255
        columns = torch.where(flipped[:, None, None], columns.flip(1), columns)
        parameters = [tensor.to(batch.device) for tensor in (rows, columns, self._color_factors(len(batch), generator))]
        # In chunks that stay in a core's cache from the first step to the last: half the time.
        chunks = zip(*(torch.split(tensor, _CHUNK_SIZE) for tensor in (batch, *parameters)), strict=True)
        return torch.cat([color_jitter(resample(*inputs), factors) for *inputs, factors in chunks])

    def _crop_boxes(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Draw left, top, width and height of random crops, as fractions of the image."""
        area, stretch, x, y = torch.rand(4, count, generator=generator)
        side = (self.min_area + (1 - self.min_area) * area).sqrt()
        ratio = torch.exp((2 * stretch - 1) * math.log(self.max_stretch) / 2)
        width, height = (side * ratio).clamp(max=1), (side / ratio).clamp(max=1)
        return x * (1 - width), y * (1 - height), width, height

    def _color_factors(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw factors [N, 3] of brightness, contrast and saturation."""
        strengths = torch.tensor([self.brightness, self.contrast, self.saturation])
        return 1 + strengths * (2 * torch.rand(count, 3, generator=generator) - 1)


def color_jitter(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply brightness, contrast and saturation of images [N, 3, H, W] in 0..1 by factors [N, 3]."""
    brightness, contrast, saturation = factors.T[:, :, None, None, None]
    images = images * brightness
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    images = mean + (images - mean) * contrast
    grey = images.mean(dim=1, keepdim=True)
    saturated: Tensor = grey + (images - grey) * saturation
    return saturated.clamp_(0, 1)


def area_weights(start: Tensor, length: Tensor, inputs: int, outputs: int) -> Tensor:
    """Return matrices [N, outputs, inputs] that average the part of a side at `start`, `length` long (fractions)."""
    step = (length * inputs / outputs)[:, None, None]
    low = (start * inputs)[:, None, None] + step * torch.arange(outputs)[None, :, None]
    pixel = torch.arange(inputs)[None, None, :]
    overlap = torch.minimum(low + step, pixel + 1) - torch.maximum(low, pixel.to(low.dtype))
    return overlap.clamp(min=0) / step


def resample(pixels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Apply matrices to the rows and columns of pixels [N, H, W, C]; return float [N, C, height, width]."""
    count, height, width, channels = pixels.shape
    resized_rows = rows @ pixels.float().view(count, height, width * channels)
    return resized_rows.view(count, -1, width, channels).permute(0, 3, 1, 2) @ columns[:, None].transpose(-1, -2)


def shrink(images: Tensor, height: int, width: int) -> Tensor:
    """Resize float images [N, C, H, W] as in serving; in their own size they are returned unchanged."""
    if images.shape[2:] == (height, width):
        return images
    start, length = torch.zeros(1), torch.ones(1)
    rows = area_weights(start, length, images.shape[2], height)
    columns = area_weights(start, length, images.shape[3], width)
    shrunk: Tensor = rows @ images @ columns.transpose(-1, -2)
    return shrunk


def mixup(inputs: Tensor, targets: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Blend each image and its one-hot target with another's (Zhang and others, 2018).

    One ratio per batch, drawn from Beta(alpha, alpha).
    """
    # torch.distributions accepts no generator, so numpy draws with a seed from ours.
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    weight = float(np.random.default_rng(seed).beta(alpha, alpha))
    permutation = torch.randperm(len(inputs), generator=generator)
    return weight * inputs + (1 - weight) * inputs[permutation], weight * targets + (1 - weight) * targets[permutation]


def cutmix(inputs: Tensor, targets: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Paste a box of another image into each, and blend the targets by its area (Yun and others, 2019).

    One box per batch, its area drawn from Beta(alpha, alpha).
    """
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    side = math.sqrt(1 - float(np.random.default_rng(seed).beta(alpha, alpha)))
    box_center = torch.rand(2, generator=generator).tolist()
    (top, bottom), (left, right) = (
        (max(0, round((center - side / 2) * length)), min(length, round((center + side / 2) * length)))
        for center, length in zip(box_center, inputs.shape[2:], strict=True)
    )
    permutation = torch.randperm(len(inputs), generator=generator)
    mixed = inputs.clone()
    mixed[:, :, top:bottom, left:right] = inputs[permutation, :, top:bottom, left:right]
    weight = 1 - (bottom - top) * (right - left) / (inputs.shape[2] * inputs.shape[3])
    return mixed, weight * targets + (1 - weight) * targets[permutation]


def mix(
    inputs: Tensor,
    targets: Tensor,
    mixup_alpha: float,
    cutmix_alpha: float,
    probability: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Apply mixup or cutmix, or one of both at random, with some probability."""
    enabled = [(mixer, alpha) for mixer, alpha in ((mixup, mixup_alpha), (cutmix, cutmix_alpha)) if alpha > 0]
    draws = torch.rand(2, generator=generator).tolist()
    if not enabled or draws[0] >= probability:
        return inputs, targets
    mixer, alpha = enabled[int(draws[1] * len(enabled))]
    return mixer(inputs, targets, alpha, generator)
