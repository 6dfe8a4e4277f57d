"""A small residual network that learns from a few hundred images, from scratch, on two CPU cores.

Its parts, and the reasons for them:

- A first 5x5 convolution of stride 2 and a max pool, as in ResNet (He and others, 2016): at 160 x 160 pixels it costs
  hardly more than `cookpad-cnn` does at 64 x 64, and sees six times as many pixels.
- Three blocks of a convolution, a max pool and a residual convolution. The pool comes after the convolution, as in the
  fastest networks for small images (Jordan, 2024): it selects the strongest response, where a stride drops three of
  four without looking.
- Batch normalisation (Ioffe and Szegedy, 2015); the last one of each residual branch starts at zero, so that a fresh
  block is the identity (Goyal and others, 2017).
- The mean over all positions before the only dense layer (Lin and others, 2014): 1.2 million weights instead of 5
  million, most of which encode positions in `cookpad-cnn`; and the network takes any input size.
- Dense 3x3 convolutions with channel counts that are multiples of 16: depthwise convolutions would save
  multiplications but no time on a CPU.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from torch import nn

from model.networks import initialization

if TYPE_CHECKING:
    from torch import Tensor

MIN_SIDE = 32
_STEM_CHANNELS, _BLOCK_CHANNELS = 32, (64, 128, 256)
_DROPOUT = 0.2


class ResidualNetwork(nn.Sequential):
    """Float [N, 3, height, width] in, logits [N, classes] out; each side at least `MIN_SIDE`."""

    def __init__(self, classes: int) -> None:
        widths = (_STEM_CHANNELS, *_BLOCK_CHANNELS)
        super().__init__(
            nn.Conv2d(3, _STEM_CHANNELS, 5, stride=2, padding=2, bias=False),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(_STEM_CHANNELS),
            nn.ReLU(inplace=True),
            *itertools.starmap(ResidualBlock, itertools.pairwise(widths)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(_DROPOUT),
            nn.Linear(widths[-1], classes),
        )
        initialization.init_weights(self)


class ResidualBlock(nn.Module):
    """Halve the sides and widen the channels, then add a residual branch."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.halved = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )
        # Zero at first, so that a fresh branch adds nothing.
        last_norm = nn.BatchNorm2d(out_channels)
        nn.init.zeros_(last_norm.weight)
        self.branch = nn.Sequential(nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False), last_norm)

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, out_channels, H // 2, W // 2]."""
        halved = self.halved(features)
        output: Tensor = nn.functional.relu(halved + self.branch(halved), inplace=True)
        return output


def build(classes: int, height: int, width: int) -> ResidualNetwork:
    """Build the network with fresh weights.

    Raises:
        ValueError: the images are so small that they would be pooled away.
    """
    if min(height, width) < MIN_SIDE:
        raise ValueError(f"residual needs images of at least {MIN_SIDE} x {MIN_SIDE} pixels, not {width} x {height}.")
    return ResidualNetwork(classes)
