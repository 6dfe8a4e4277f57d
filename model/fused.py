"""Keeps the forward pass on a CPU: the same network with fewer passes over memory.

In what is called one after the other, a batch normalisation is folded into the convolution before it, also through a
max pool, whose maximum a positive scale does not move. A ReLU is done by the convolution before it, also through a max
pool, which does not mind the order. Weights lie as oneDNN wants them.

Only `nn.Sequential` says that its layers follow each other. To trace a network would find more, but while torch.fx
traces, every network of the process is traced, also those that other threads classify with.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.utils import fusion

if TYPE_CHECKING:
    from collections.abc import Sequence

ONEDNN: Any = torch.ops.mkldnn


class Convolution(nn.Module):
    """A convolution with the ReLU after it, by oneDNN."""

    def __init__(self, conv: nn.Conv2d, *, relu: bool) -> None:
        super().__init__()
        self._how = [list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups]
        self._weight = conv.weight.detach().contiguous(memory_format=torch.channels_last)
        self._bias = None if conv.bias is None else conv.bias.detach()
        self._after = "relu" if relu else "none"
        self._packed: dict[torch.Size, torch.Tensor] = {}
        self._layouts: dict[bytes, torch.Tensor] = {}

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[N, C, H, W] to [N, channels, H', W']."""
        how = (*self._how, self._after, [], "")
        # What torch's own compiler calls; it has no public name.
        convolved: torch.Tensor = ONEDNN._convolution_pointwise(features, self._for(features.shape), self._bias, *how)  # noqa: SLF001
        return convolved

    def _for(self, shape: torch.Size) -> torch.Tensor:
        """The weights as oneDNN wants them for an input of this shape.

        In another layout they would be laid out anew at every call, which took up to fifty times as long as the
        convolution of one picture. Several shapes share a layout, which is kept once.
        """
        if shape not in self._packed:
            packed = ONEDNN._reorder_convolution_weight(self._weight, *self._how, list(shape))  # noqa: SLF001
            layout = bytes(ONEDNN._get_mkldnn_serialized_md(packed).numpy())  # noqa: SLF001
            self._packed[shape] = self._layouts.setdefault(layout, packed)
        return self._packed[shape]


class Halving(nn.Module):
    """A max pool of 2 x 2: two maxima of neighbours take half the time of one that keeps indices for training."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[N, C, H, W] to [N, C, H // 2, W // 2]."""
        height, width = (side // 2 * 2 for side in features.shape[2:])
        rows = torch.maximum(features[:, :, 0:height:2], features[:, :, 1:height:2])
        return torch.maximum(rows[..., 0:width:2], rows[..., 1:width:2])


def fused(network: nn.Module) -> nn.Module:
    """The network, in evaluation mode and on a CPU, in a form that is faster; its answers differ by rounding only.

    The network stays as it is; what is not merged shares its weights with it.
    """
    if not _computes(network):
        return network
    weights = (*network.parameters(), *network.buffers())
    made = copy.deepcopy(network, {id(some): some for some in weights}).eval()
    for layers in [layers for layers in made.modules() if isinstance(layers, nn.Sequential)]:
        if type(layers).forward is nn.Sequential.forward:
            for place, layer in enumerate(layers):
                if _merges(layer):
                    _merge(layers, place)
                elif isinstance(layer, nn.MaxPool2d) and _halves(layer):
                    layers[place] = Halving()
    return made


def _computes(network: nn.Module) -> bool:
    """Whether oneDNN is there, and computes in the type of these weights on this CPU."""
    if any(weights.dtype is torch.bfloat16 for weights in network.parameters()):
        return bool(ONEDNN._is_mkldnn_bf16_supported())  # noqa: SLF001 (as above)
    return bool(torch._C._has_mkldnn)  # noqa: SLF001 (what torch.backends.mkldnn.is_available tells, with types)


def _merges(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and isinstance(layer.padding, tuple) and layer.padding_mode == "zeros"


def _merge(layers: nn.Sequential, place: int) -> None:
    """Put what does a convolution's work, and that of what follows to the first ReLU, into its place; nothing moves."""
    conv: Any = layers[place]
    normed, pooled, relu = False, False, False
    for after in range(place + 1, len(layers)):
        layer = layers[after]
        if isinstance(layer, nn.BatchNorm2d) and not normed and (not pooled or _rises(layer)):
            conv, normed = fusion.fuse_conv_bn_eval(conv, layer), True
            layers[after] = nn.Identity()
        elif isinstance(layer, nn.ReLU):
            relu = True
            layers[after] = nn.Identity()
            break
        elif isinstance(layer, nn.MaxPool2d):
            pooled = True
        elif not isinstance(layer, nn.Dropout | nn.Identity):
            break
    layers[place] = Convolution(conv, relu=relu)


def _rises(norm: nn.BatchNorm2d) -> bool:
    """Whether what is larger before is larger after."""
    return bool((norm.weight > 0).all())


def _halves(pool: nn.MaxPool2d) -> bool:
    plain: Sequence[Any] = (pool.padding, pool.dilation, pool.ceil_mode, pool.return_indices)
    return pool.kernel_size in (2, (2, 2)) and pool.stride in (2, (2, 2)) and plain == (0, 1, False, False)
