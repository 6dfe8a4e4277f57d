"""Keeps the networks by name: `build` makes one with fresh weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    Builder = Callable[[int, int, int], nn.Module]


def build(name: str, *, classes: int, height: int, width: int) -> nn.Module:
    """A network with fresh weights: float [N, 3, height, width] in, logits [N, classes] out.

    Raises:
        ValueError: for an unknown name, or a size that the network cannot take.
    """
    if name not in NETWORKS:
        raise ValueError(f"There is no network {name!r}; known are: {', '.join(sorted(NETWORKS))}.")
    if classes < 2:
        raise ValueError(f"A network needs at least 2 classes, not {classes}.")
    return NETWORKS[name](classes, height, width)


def _cookpad_cnn(classes: int, height: int, width: int) -> nn.Module:
    """The published sushi-or-sandwich network: six 3x3 convolutions in three blocks, then two dense layers.

    Its input is 64 x 64 there. The softmax is left to the classifier and the loss.
    """
    features = (_cookpad_side(height), _cookpad_side(width))
    if min(features) < 1:
        raise ValueError(f"cookpad-cnn needs pictures of at least 22 x 22 pixels, not {width} x {height}.")
    network = nn.Sequential(
        *_cookpad_block(3, 32),
        *_cookpad_block(32, 64),
        *_cookpad_block(64, 128),
        nn.Flatten(),
        nn.Linear(128 * features[0] * features[1], 1024),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Linear(1024, classes),
    )
    return _started(network)


def _cookpad_block(inside: int, outside: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(inside, outside, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(outside, outside, 3),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
    )


def _started(network: nn.Sequential) -> nn.Sequential:
    """Weights whose outputs keep their spread through ReLUs (He and others, 2015), and a last layer of zeros.

    With torch's own, smaller start, six layers without normalisation learned nothing in their first four epochs.
    """
    layers = [layer for layer in network if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(cast("torch.Tensor", layer.bias))
    nn.init.zeros_(layers[-1].weight)
    return network


def _cookpad_side(side: int) -> int:
    for _ in range(3):
        side = (side - 2) // 2
    return side


NETWORKS: dict[str, Builder] = {"cookpad-cnn": _cookpad_cnn}
