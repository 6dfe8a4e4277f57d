"""Get the features of a network from the same pass as its logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from model.networks import factory, heads

if TYPE_CHECKING:
    from collections.abc import Iterable


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
            heads.head_name(member, classes)
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
        name = heads.head_name(member, classes)
        linear = cast("nn.Linear", member.get_submodule(name))
        member.set_submodule(name, FeatureHead(linear))
    return linear.in_features


def _members(network: nn.Module) -> Iterable[nn.Module]:
    return network.members if isinstance(network, factory.Ensemble) else [network]
