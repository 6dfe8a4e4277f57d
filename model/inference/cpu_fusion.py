"""Fuse the layers of a network for CPU inference: the same outputs with fewer passes over memory.

Within an `nn.Sequential`, a convolution takes over what surrounds it: TensorFlow's SAME padding before it, batch
normalisation, ReLU and ReLU6 after it, and the sum of a residual block whose branch it ends. Norms and ReLUs are taken
over through a max pool too: a positive scale does not change which value is the maximum, and max and ReLU commute.
Weights are laid out as oneDNN needs them.

Only `nn.Sequential` and our own residual blocks guarantee the order of their layers. Tracing with torch.fx would find
more, but it patches modules of the whole process, including networks that other threads are running.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.utils import fusion

from model.inference import onednn_conv
from model.inference.onednn_conv import OneDnnConv2d, OneDnnSameConv2d
from model.networks.efficientnet_lite import InvertedResidual, SamePad2d
from model.networks.residual import ResidualBlock

if TYPE_CHECKING:
    from collections.abc import Sequence


class FusedMaxPool2x2(nn.Module):
    """A 2 x 2 max pool as two maxima of neighbours: half the time of `nn.MaxPool2d`, which computes indices too."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map [N, C, H, W] to [N, C, H // 2, W // 2]."""
        height, width = (side // 2 * 2 for side in features.shape[2:])
        rows = torch.maximum(features[:, :, 0:height:2], features[:, :, 1:height:2])
        return torch.maximum(rows[..., 0:width:2], rows[..., 1:width:2])


class FusedResidual(nn.Module):
    """A residual block whose last convolution adds the block's input to its output."""

    def __init__(self, branch: nn.Sequential, *, relu: bool) -> None:
        super().__init__()
        *first_layers, last = [layer for layer in branch if not isinstance(layer, nn.Identity)]
        self._first_layers = nn.Sequential(*first_layers)
        self._last: Any = last
        self._activation = "relu" if relu else None

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map [N, C, H, W] to the same shape."""
        total: torch.Tensor = self._last.add(self._first_layers(features), features, self._activation)
        return total


def fuse(network: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Return a fused copy, in a number format, of a CPU network in eval mode; its outputs differ by rounding only.

    In float32 the copy shares the weights of layers that are not fused. Norms are folded before the conversion, so
    that weights are rounded once. Without oneDNN the network is only converted.
    """
    weights = (*network.parameters(), *network.buffers()) if dtype is torch.float32 else ()
    fused_network = copy.deepcopy(network, {id(tensor): tensor for tensor in weights}).eval()
    if onednn_conv.is_usable(dtype):
        for layers in [layers for layers in fused_network.modules() if isinstance(layers, nn.Sequential)]:
            if type(layers).forward is nn.Sequential.forward:
                _fuse_sequential(layers)
        for parent in list(fused_network.modules()):
            for name, block in list(parent.named_children()):
                parent.set_submodule(name, _fuse_residual(block))
    return fused_network.to(dtype)


def _fuse_sequential(layers: nn.Sequential) -> None:
    for index, layer in enumerate(layers):
        if _is_fusable_conv(layer):
            _fuse_neighbours(layers, index)
        elif isinstance(layer, nn.MaxPool2d) and _is_plain_2x2_pool(layer):
            layers[index] = FusedMaxPool2x2()


def _fuse_neighbours(layers: nn.Sequential, index: int) -> None:
    """Replace a convolution by one that includes padding, norm and activation; replace those by `nn.Identity`."""
    conv, activation = _fold_followers(layers, index)
    padding = layers[index - 1] if index else None
    if isinstance(padding, SamePad2d) and padding.fits(conv):
        layers[index - 1] = nn.Identity()
        layers[index] = OneDnnSameConv2d(conv, activation)
    else:
        layers[index] = OneDnnConv2d(conv, activation)


def _fold_followers(layers: nn.Sequential, index: int) -> tuple[nn.Conv2d, nn.Module | None]:
    """Fold the norm after a convolution into it; return it and the activation, replaced by `nn.Identity`."""
    conv: Any = layers[index]
    has_norm, has_pool = False, False
    for next_index in range(index + 1, len(layers)):
        layer = layers[next_index]
        if isinstance(layer, nn.BatchNorm2d) and not has_norm and (not has_pool or _is_increasing(layer)):
            conv, has_norm = fusion.fuse_conv_bn_eval(conv, layer), True
            layers[next_index] = nn.Identity()
        elif type(layer) in onednn_conv.ACTIVATIONS:
            layers[next_index] = nn.Identity()
            return conv, layer
        elif isinstance(layer, nn.MaxPool2d):
            has_pool = True
        elif not isinstance(layer, nn.Dropout | nn.Identity):
            break
    return conv, None


def _fuse_residual(block: nn.Module) -> nn.Module:
    """Return one of our residual blocks in its fused form, and any other layer as it is."""
    if isinstance(block, InvertedResidual):
        return FusedResidual(block.branch, relu=False)
    if isinstance(block, ResidualBlock):
        return nn.Sequential(block.halved, FusedResidual(block.branch, relu=True))
    return block


def _is_fusable_conv(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and isinstance(layer.padding, tuple) and layer.padding_mode == "zeros"


def _is_increasing(norm: nn.BatchNorm2d) -> bool:
    """Whether the norm preserves the order of its inputs."""
    return bool((norm.weight > 0).all())


def _is_plain_2x2_pool(pool: nn.MaxPool2d) -> bool:
    other_options: Sequence[Any] = (pool.padding, pool.dilation, pool.ceil_mode, pool.return_indices)
    return pool.kernel_size in (2, (2, 2)) and pool.stride in (2, (2, 2)) and other_options == (0, 1, False, False)
