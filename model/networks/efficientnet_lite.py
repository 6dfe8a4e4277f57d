"""EfficientNet-Lite (Tan and Le, 2019; the Lite form without squeeze-and-excitation and with ReLU6 is Google's, 2020).

The layers run one after the other in one `nn.Sequential` that ends in the classifier: `network[:-1]` gives the
features [N, 1280], and inference can fuse the layers. The weights come from TensorFlow, hence its epsilon and its
padding: on an even side, a convolution of stride 2 has one more zero at the end than at the start.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from model.networks import initialization
from model.networks.spec import PublishedInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

MIN_SIDE = 32
_MEAN, _STD, _CROP = (127 / 255,) * 3, (128 / 255,) * 3, 0.875
_STEM_CHANNELS, _FEATURES = 32, 1280


@dataclasses.dataclass(frozen=True)
class Variant:
    """How a network is scaled; `side` is the input size of the published weights."""

    width: float
    depth: float
    side: int
    dropout: float


@dataclasses.dataclass(frozen=True)
class _Stage:
    """Inverted residual blocks of one width; the first one has the stride."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


VARIANTS = {
    "efficientnet-lite0": Variant(1.0, 1.0, 224, 0.2),
    "efficientnet-lite1": Variant(1.0, 1.1, 240, 0.2),
    "efficientnet-lite2": Variant(1.1, 1.2, 260, 0.3),
}
_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


class SamePad2d(nn.Module):
    """TensorFlow's SAME padding for a convolution of stride 2: an odd zero goes to the right and the bottom."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, features: Tensor) -> Tensor:
        """Pad [N, C, H, W] with zeros."""
        (top, bottom), (left, right) = (self.sides(side) for side in features.shape[2:])
        return nn.functional.pad(features, (left, right, top, bottom))

    def sides(self, length: int) -> tuple[int, int]:
        """Return how many zeros a side of this length gets at its start and at its end."""
        total = self.kernel - 2 + length % 2
        return total // 2, total - total // 2

    def fits(self, conv: nn.Conv2d) -> bool:
        """Whether a convolution is the one that this layer pads for."""
        kernel, stride, others = (self.kernel, self.kernel), (2, 2), ((0, 0), (1, 1))
        return conv.kernel_size == kernel and conv.stride == stride and (conv.padding, conv.dilation) == others


class InvertedResidual(nn.Module):
    """Add the branch to its input (Sandler and others, 2018)."""

    def __init__(self, branch: nn.Sequential) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        output: Tensor = features + self.branch(features)
        return output


def published_input(name: str) -> PublishedInput:
    """Return the input that the published weights were trained on."""
    return PublishedInput(VARIANTS[name].side, "bicubic", _MEAN, _STD, _CROP)


def builder(variant: Variant) -> Callable[[int, int, int], nn.Sequential]:
    """Return a function of classes, height and width that builds the variant with fresh weights.

    The function raises ValueError if the images are smaller than `MIN_SIDE`.
    """

    def build(classes: int, height: int, width: int) -> nn.Sequential:
        if min(height, width) < MIN_SIDE:
            raise ValueError(
                f"EfficientNet-Lite needs images of at least {MIN_SIDE} x {MIN_SIDE} pixels, not {width} x {height}."
            )
        network = nn.Sequential(*_layers(variant, classes))
        initialization.init_weights(network)
        return network

    return build


def parameter_names(name: str) -> list[str]:
    """Return the names of a variant's parameters and buffers, in the order of its layers."""
    with torch.device("meta"):
        return list(builder(VARIANTS[name])(1000, MIN_SIDE, MIN_SIDE).state_dict())


def _layers(variant: Variant, classes: int) -> Iterator[nn.Module]:
    yield from _convolution(3, _STEM_CHANNELS, kernel=3, stride=2)
    channels = _STEM_CHANNELS
    for stage in _STAGES:
        outputs = _scale_channels(stage.channels, variant.width)
        yield nn.Sequential(*_blocks(stage, channels, outputs, variant.depth))
        channels = outputs
    yield from _convolution(channels, _FEATURES, kernel=1)
    yield from (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(variant.dropout), nn.Linear(_FEATURES, classes))


def _blocks(stage: _Stage, inputs: int, outputs: int, depth: float) -> Iterator[nn.Module]:
    # The first and the last stage are not repeated in any variant.
    repeats = stage.repeats if stage in (_STAGES[0], _STAGES[-1]) else math.ceil(depth * stage.repeats)
    yield _branch(stage, inputs, outputs, stage.stride)
    for _ in range(repeats - 1):
        yield InvertedResidual(_branch(stage, outputs, outputs, 1))


def _branch(stage: _Stage, inputs: int, outputs: int, stride: int) -> nn.Sequential:
    expanded = inputs * stage.expansion
    expand = _convolution(inputs, expanded, kernel=1) if stage.expansion > 1 else ()
    depthwise = _convolution(expanded, expanded, kernel=stage.kernel, stride=stride, groups=expanded)
    project = itertools.islice(_convolution(expanded, outputs, kernel=1), 2)  # no activation
    return nn.Sequential(*expand, *depthwise, *project)


def _convolution(inputs: int, outputs: int, *, kernel: int, stride: int = 1, groups: int = 1) -> Iterator[nn.Module]:
    if stride > 1:
        yield SamePad2d(kernel)
    padding = kernel // 2 if stride == 1 else 0
    yield nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    yield nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)
    yield nn.ReLU6(inplace=True)


def _scale_channels(channels: int, width: float) -> int:
    """Round to a multiple of 8, and not down by more than a tenth."""
    rounded = max(8, int(channels * width + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels * width else rounded + 8
