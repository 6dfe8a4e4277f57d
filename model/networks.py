"""Keeps the networks by name: `build` makes one with fresh weights, `together` one of several."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from model import folding, residual, zoo

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from model.manifest import Network

    Builder = Callable[[int, int, int], nn.Module]


def build(name: str, *, classes: int, height: int, width: int) -> nn.Module:
    """A network with fresh weights: float [N, 3, height, width] in, logits [N, classes] out.

    Raises:
        ValueError: for an unknown name, or a size that the network cannot take.
    """
    if classes < 2:
        raise ValueError(f"A network needs at least 2 classes, not {classes}.")
    check_name(name)
    return NETWORKS[name](classes, height, width) if name in NETWORKS else zoo.build(name, classes, height, width)


def check_name(name: str) -> None:
    """Raises ValueError with all the names when there is no such network."""
    if name not in NETWORKS and name not in zoo.names():
        known = f"{', '.join(NETWORKS)} are ours; {', '.join(zoo.names())} are torchvision's"
        raise ValueError(f"There is no network {name!r}: {known}.")


class Committee(nn.Module):
    """Several networks that answer as one: the mean of their logits, each over a picture and its mirror image too."""

    def __init__(self, members: Sequence[nn.Module], *, mirrored: bool) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self._mirrored = mirrored

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Logits [N, classes] of pictures [N, 3, H, W]."""
        views = [pictures, pictures.flip(3)] if self._mirrored else [pictures]
        return torch.stack([member(view) for member in self.members for view in views]).mean(dim=0)


def together(members: Sequence[nn.Module], *, mirrored: bool) -> nn.Module:
    """The networks as one; a single one that is asked once stays as it is."""
    return members[0] if len(members) == 1 and not mirrored else Committee(members, mirrored=mirrored)


def described(network: Network) -> nn.Module:
    """The network that a manifest describes, with fresh weights; raises ValueError as `build` does."""
    size = {"height": network.height, "width": network.width}
    members = [build(network.name, classes=network.classes, **size) for _ in range(network.members)]
    return together(members, mirrored=network.mirrored)


def trainable(name: str, network: nn.Module) -> nn.Module:
    """The form in which a fresh network is trained; `trained` gives the form that is served."""
    return folding.Unfolded(network) if name == "cookpad-cnn" and isinstance(network, nn.Sequential) else network


def trained(network: nn.Module) -> nn.Module:
    """The form that is served, with the same answers."""
    return network.folded() if isinstance(network, folding.Unfolded) else network


def check(network: Network, sides: Sequence[tuple[int, int]] = ()) -> None:
    """Raises ValueError unless the network can be built, and takes pictures of its size and of these (height, width).

    Nothing is computed: only shapes go through it.
    """
    built = described(network).to("meta")
    for height, width in ((network.height, network.width), *sides):
        try:
            built(torch.zeros(2, 3, height, width, device="meta"))
        except (RuntimeError, ValueError, AssertionError, TypeError) as wrong:
            other = f"it takes {network.width} x {network.height} only" if sides else "choose another --size"
            raise ValueError(f"{network.name} cannot take pictures of {width} x {height}: {other}.") from wrong


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


NETWORKS: dict[str, Builder] = {"cookpad-cnn": _cookpad_cnn, "residual": residual.build}
