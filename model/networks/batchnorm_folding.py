"""Train `cookpad-cnn` with batch normalisation, then fold it into the published layers.

The published network has no normalisation, and 94 % of its weights are in one dense layer with separate weights for
each of 36 positions. On a few hundred images it learns slowly, and then overfits. In training, every convolution is
followed by batch normalisation (Ioffe and Szegedy, 2015), and the dense layer sees the mean over all positions (Lin
and others, 2014). After training both are linear maps, so they fold into the weights of the published layers without
changing the output (as RepVGG folds its branches: Ding and others, 2021).
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from torch import nn
from torch.nn.utils import fusion

if TYPE_CHECKING:
    from torch import Tensor


class BatchNormTrainingForm(nn.Module):
    """The training form of a sequence of convolutions, `Flatten` and dense layers."""

    def __init__(self, plain: nn.Sequential) -> None:
        """Copy the fresh weights of `plain`, except those of the dense layer behind `Flatten`."""
        super().__init__()
        # In a tuple, so that torch does not register its weights as parameters of this module.
        self._plain = (plain,)
        self.layers = nn.Sequential(*(_to_training_form(layer, plain) for layer in plain))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, classes] for images [N, 3, H, W]."""
        logits: Tensor = self.layers(images)
        return logits

    def fold(self) -> nn.Sequential:
        """Return the plain network, in eval mode on the CPU, with the same outputs as this one in eval mode."""
        (network,) = copy.deepcopy(self._plain)
        for layer, trained in zip(network.cpu(), copy.deepcopy(self.layers).cpu().eval(), strict=True):
            if isinstance(layer, nn.Conv2d | nn.Linear):
                _copy_weights(layer, _fuse_batchnorm(trained))
        return network.eval()


def _to_training_form(layer: nn.Module, plain: nn.Sequential) -> nn.Module:
    if isinstance(layer, nn.Conv2d):
        biasless = copy.deepcopy(layer)
        biasless.bias = None
        return nn.Sequential(biasless, nn.BatchNorm2d(layer.out_channels))
    if isinstance(layer, nn.Flatten):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    if isinstance(layer, nn.Linear) and layer is not plain[-1]:
        channels = [conv.out_channels for conv in plain if isinstance(conv, nn.Conv2d)][-1]
        dense = nn.Linear(channels, layer.out_features, bias=False)
        nn.init.kaiming_normal_(dense.weight, nonlinearity="relu")
        return nn.Sequential(dense, nn.BatchNorm1d(layer.out_features))
    return copy.deepcopy(layer)


def _fuse_batchnorm(trained: nn.Module) -> nn.Module:
    match list(trained.children()):
        case [nn.Conv2d() as convolution, nn.BatchNorm2d() as norm]:
            return fusion.fuse_conv_bn_eval(convolution, norm)
        case [nn.Linear() as dense, nn.BatchNorm1d() as norm]:
            return fusion.fuse_linear_bn_eval(dense, norm)
        case _:
            return trained


def _copy_weights(layer: nn.Module, fused: nn.Module) -> None:
    weights = fused.state_dict()
    # The mean weighs all positions equally; Flatten puts the positions of a channel side by side.
    position_count = layer.state_dict()["weight"].shape[1] // weights["weight"].shape[1]
    layer.load_state_dict(
        {**weights, "weight": (weights["weight"] / position_count).repeat_interleave(position_count, dim=1)}
    )
