"""Cost: what one picture costs a network at the least, in arithmetic and in memory traffic."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Cost:
    """For one picture; weights are not counted, because a batch shares them."""

    flops: float
    """Two for each multiplication with its addition, of the convolutions and the dense layers."""
    values: float
    """Numbers read and written if each layer with weights reads its input once and writes its output once, and all
    that lies between is fused into it."""


def of(network: nn.Module, height: int, width: int) -> Cost:
    """The cost of a network for a picture of this size."""
    flops = values = 0.0

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal flops, values
        flops += 2.0 * output.numel() * _terms(layer)
        values += inputs[0].numel() + output.numel()

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    some: Any = next(network.parameters())
    network(torch.zeros(1, 3, height, width, device=some.device, dtype=some.dtype))
    for hook in hooks:
        hook.remove()
    return Cost(flops, values)


def _terms(layer: nn.Module) -> int:
    """How many products each number of the output is the sum of."""
    if isinstance(layer, nn.Conv2d):
        return layer.in_channels // layer.groups * layer.kernel_size[0] * layer.kernel_size[1]
    assert isinstance(layer, nn.Linear)  # noqa: S101 (for the type checker)
    return layer.in_features
