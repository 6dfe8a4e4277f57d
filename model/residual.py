"""Keeps our own small network: it learns from a few hundred photos, from scratch, on two CPU cores.

What it is made of, and why:

- A first 5x5 convolution of stride 2 and a max pool, as in ResNet (He and others, 2016): at 160 x 160 pixels it costs
  hardly more than `cookpad-cnn` does at 64 x 64, and sees six times as many pixels of the food.
- Three blocks of a convolution, a max pool and a residual convolution. The pool comes after the convolution, as in the
  fastest networks for small pictures (Jordan, 2024): it keeps the strongest answer, where a stride keeps any.
- Batch normalisation (Ioffe and Szegedy, 2015); the last one of each residual branch starts at zero, so that a fresh
  block passes on what it gets (Goyal and others, 2017).
- The mean over all places before the one dense layer (Lin and others, 2014): 1.2 million weights instead of 5, most of
  which `cookpad-cnn` spends on where something is, and any input size will do.
- Dense 3x3 convolutions with numbers of channels that are multiples of 16: depthwise ones would save multiplications
  but no time on a CPU.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST = 32
_STEM, _WIDTHS = 32, (64, 128, 256)


class Residual(nn.Sequential):
    """Float [N, 3, height, width] in, logits [N, classes] out; each side at least `SMALLEST`."""

    def __init__(self, classes: int, dropout: float = 0.2) -> None:
        widths = (_STEM, *_WIDTHS)
        super().__init__(
            nn.Conv2d(3, _STEM, 5, stride=2, padding=2, bias=False),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(_STEM),
            nn.ReLU(inplace=True),
            *itertools.starmap(Block, itertools.pairwise(widths)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(widths[-1], classes),
        )
        self._start()

    def _start(self) -> None:
        """Convolutions that keep the spread of their gradients (He and others, 2015), and a last layer of zeros."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)


class Block(nn.Module):
    """Halves the sides and widens the channels, then adds a residual to what that gave."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.halved = nn.Sequential(
            nn.Conv2d(inside, outside, 3, padding=1, bias=False),
            nn.MaxPool2d(2),
            nn.BatchNorm2d(outside),
            nn.ReLU(inplace=True),
        )
        # Zero at first: a fresh block passes on what it gets.
        last = nn.BatchNorm2d(outside)
        nn.init.zeros_(last.weight)
        self.branch = nn.Sequential(nn.Conv2d(outside, outside, 3, padding=1, bias=False), last)

    def forward(self, features: Tensor) -> Tensor:
        """[N, inside, H, W] to [N, outside, H // 2, W // 2]."""
        halved = self.halved(features)
        added: Tensor = nn.functional.relu(halved + self.branch(halved), inplace=True)
        return added


def build(classes: int, height: int, width: int) -> Residual:
    """A network with fresh weights.

    Raises:
        ValueError: for pictures that would be pooled away.
    """
    if min(height, width) < SMALLEST:
        raise ValueError(f"residual needs pictures of at least {SMALLEST} x {SMALLEST} pixels, not {width} x {height}.")
    return Residual(classes)
