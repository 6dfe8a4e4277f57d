"""Fresh weights of convolutional networks."""

from __future__ import annotations

from torch import nn


def init_weights(network: nn.Module) -> None:
    """Use He initialisation (fan-out) for convolutions (He and others, 2015), and zeros for the last layer."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
