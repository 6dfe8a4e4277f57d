"""Separate the head of a classifier, its last dense layer, from the backbone that computes its features."""

from __future__ import annotations

import copy

from torch import nn


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
