"""The published sushi-or-sandwich network: six 3x3 convolutions in three blocks, then two dense layers."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn


def build(classes: int, height: int, width: int) -> nn.Sequential:
    """Build the network with fresh weights; the published input is 64 x 64.

    The softmax is part of the classifier and the loss.

    Raises:
        ValueError: the images are so small that they would be pooled away.
    """
    features = (_output_side(height), _output_side(width))
    if min(features) < 1:
        raise ValueError(f"cookpad-cnn needs images of at least 22 x 22 pixels, not {width} x {height}.")
    network = nn.Sequential(
        *_block(3, 32),
        *_block(32, 64),
        *_block(64, 128),
        nn.Flatten(),
        nn.Linear(128 * features[0] * features[1], 1024),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Linear(1024, classes),
    )
    return _init_weights(network)


def _block(in_channels: int, out_channels: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, 3),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
    )


def _init_weights(network: nn.Sequential) -> nn.Sequential:
    """Use He initialisation (He and others, 2015), and zeros for the last layer.

    With torch's smaller default weights, six layers without normalisation learned nothing in the first four epochs.
    """
    layers = [layer for layer in network if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(cast("torch.Tensor", layer.bias))
    nn.init.zeros_(layers[-1].weight)
    return network


def _output_side(side: int) -> int:
    for _ in range(3):
        side = (side - 2) // 2
    return side
