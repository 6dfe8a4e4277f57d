"""Keeps the last step before the network, on its device: pixels as normalised floats."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from model.preprocess import Preprocess


class Normalise:
    """Computes (pixels / 255 - mean) / std as one multiplication and one addition."""

    def __init__(self, shape: Preprocess, device: torch.device | str = "cpu") -> None:
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (shape.mean, shape.std))
        self._scale = (1 / std).to(device)
        self._shift = (-mean / std).to(device)

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        """For float pictures [N, 3, H, W] in 0..1."""
        return torch.addcmul(self._shift, pictures, self._scale)

    def pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """For uint8 pixels [N, H, W, 3]: float32 [N, 3, H, W], channels last as the pixels lie."""
        # With the pixels as the first operand: else the answer would lie as the three numbers do, channels first,
        # and the first convolution would take six times as long.
        return (pixels.permute(0, 3, 1, 2) * (self._scale / 255)).add_(self._shift)
