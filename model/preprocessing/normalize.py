"""Normalise pixels on the network's device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from model.preprocessing.decode import Preprocess


class Normalize:
    """Compute (pixels / 255 - mean) / std as one multiplication and one addition."""

    def __init__(self, preprocess: Preprocess, device: torch.device | str = "cpu") -> None:
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (preprocess.mean, preprocess.std))
        self._scale = (1 / std).to(device)
        self._shift = (-mean / std).to(device)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Normalise float images [N, 3, H, W] in 0..1."""
        return torch.addcmul(self._shift, images, self._scale)

    def from_uint8(self, pixels: torch.Tensor) -> torch.Tensor:
        """Convert uint8 pixels [N, H, W, 3] to normalised float32 [N, 3, H, W] in channels-last memory format."""
        # The first operand sets the memory format of the result. With the scale first it would be channels-first, and
        # the first convolution would take six times as long.
        return (pixels.permute(0, 3, 1, 2) * (self._scale / 255)).add_(self._shift)
