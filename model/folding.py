"""Keeps the form in which `cookpad-cnn` is trained, and folds it back into the published network.

The published network has no normalisation, and 94 of 100 of its weights are in one dense layer that learns anew for
each of 36 places; on a few hundred photos it learns slowly, and then by heart. In training every convolution is
followed by batch normalisation (Ioffe and Szegedy, 2015), and the dense layer sees the mean over the places (Lin and
others, 2014).
Both are linear maps once the training is over, so they fold into the weights of the published layers (as RepVGG folds
its branches: Ding and others, 2021), which then give the same answers.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from torch import nn
from torch.nn.utils import fusion

if TYPE_CHECKING:
    from torch import Tensor


class Unfolded(nn.Module):
    """A sequence of convolutions, `Flatten` and dense layers, layer by layer in its training form."""

    def __init__(self, plain: nn.Sequential) -> None:
        """Starts from the fresh weights of `plain`, but for the dense layer behind `Flatten`."""
        super().__init__()
        # A tuple hides it from torch, for which its weights would be some of ours.
        self._plain = (plain,)
        self.layers = nn.Sequential(*(_unfolded(layer, plain) for layer in plain))

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits [N, classes] of pictures [N, 3, H, W]."""
        logits: Tensor = self.layers(pictures)
        return logits

    def folded(self) -> nn.Sequential:
        """The plain network, in eval mode on the CPU, that answers as this one does in eval mode."""
        (network,) = copy.deepcopy(self._plain)
        for layer, trained in zip(network.cpu(), copy.deepcopy(self.layers).cpu().eval(), strict=True):
            if isinstance(layer, nn.Conv2d | nn.Linear):
                _fill(layer, _fused(trained))
        return network.eval()


def _unfolded(layer: nn.Module, plain: nn.Sequential) -> nn.Module:
    if isinstance(layer, nn.Conv2d):
        bare = copy.deepcopy(layer)
        bare.bias = None
        return nn.Sequential(bare, nn.BatchNorm2d(layer.out_channels))
    if isinstance(layer, nn.Flatten):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    if isinstance(layer, nn.Linear) and layer is not plain[-1]:
        channels = [conv.out_channels for conv in plain if isinstance(conv, nn.Conv2d)][-1]
        dense = nn.Linear(channels, layer.out_features, bias=False)
        nn.init.kaiming_normal_(dense.weight, nonlinearity="relu")
        return nn.Sequential(dense, nn.BatchNorm1d(layer.out_features))
    return copy.deepcopy(layer)


def _fused(trained: nn.Module) -> nn.Module:
    match list(trained.children()):
        case [nn.Conv2d() as convolution, nn.BatchNorm2d() as norm]:
            return fusion.fuse_conv_bn_eval(convolution, norm)
        case [nn.Linear() as dense, nn.BatchNorm1d() as norm]:
            return fusion.fuse_linear_bn_eval(dense, norm)
        case _:
            return trained


def _fill(layer: nn.Module, fused: nn.Module) -> None:
    weights = fused.state_dict()
    # Each place has an equal share in the mean over all of them; Flatten puts the places of a channel side by side.
    places = layer.state_dict()["weight"].shape[1] // weights["weight"].shape[1]
    layer.load_state_dict({**weights, "weight": (weights["weight"] / places).repeat_interleave(places, dim=1)})
