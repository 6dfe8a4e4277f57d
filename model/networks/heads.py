"""The head of a classifier, its last dense layer: separate it from the backbone, or let it return the features too."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from model.networks import factory

if TYPE_CHECKING:
    from collections.abc import Iterable


def head_name(network: nn.Module, classes: int) -> str:
    """Return the name of the head: the only dense layer with one output per class.

    Raises:
        ValueError: the network has no such layer, or several.
    """
    names: list[str] = [
        name
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and layer.out_features == classes
    ]
    if len(names) != 1:
        kind = type(network).__name__
        raise ValueError(
            f"{kind} has {len(names)} dense layers of {classes} outputs: choose a network with one, its head."
        )
    return names[0]


def backbone(network: nn.Module, classes: int) -> nn.Module:
    """Return a network with the same weights that gives the head's inputs, features [N, F], instead of logits.

    Raises:
        ValueError: the network has no head.
    """
    name = head_name(network, classes)
    shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    without_head = copy.deepcopy(network, shared)
    without_head.set_submodule(name, nn.Identity())
    return without_head


class FeatureHead(nn.Module):
    """A head that returns its input too: [N, features] in, [N, classes + features] out."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the logits, followed by the features."""
        return torch.cat([self.linear(features), features.to(self.linear.weight.dtype)], dim=1)


def has_features(network: nn.Module, classes: int) -> bool:
    """Return whether `expose_features` can be used."""
    try:
        for member in _members(network):
            head_name(member, classes)
    except ValueError:
        return False
    return True


def expose_features(network: nn.Module, classes: int) -> int:
    """Replace the head in place, so that the network returns logits and features side by side; return their number.

    The mean of an ensemble then covers both, and so do CUDA graphs and fused layers, which know one output.

    Raises:
        ValueError: the network has no head.
    """
    for member in _members(network):
        name = head_name(member, classes)
        linear = cast("nn.Linear", member.get_submodule(name))
        member.set_submodule(name, FeatureHead(linear))
    return linear.in_features


def _members(network: nn.Module) -> Iterable[nn.Module]:
    return network.members if isinstance(network, factory.Ensemble) else [network]
