"""Keeps the forward pass on a CPU: the same network with fewer passes over memory.

A batch normalisation is folded into the convolution before it, also through a max pool, whose maximum a positive scale
does not move. A ReLU is done by the convolution before it, also through a max pool, which does not mind the order.
Weights lie as oneDNN wants them. A network that cannot be traced stays as it is.
"""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import fx, nn
from torch.nn.utils import fusion

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)
ONEDNN: Any = torch.ops.mkldnn
RELUS = (nn.functional.relu, torch.relu)


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


@dataclass
class _Chain:
    """A convolution, and what after it can be done within it."""

    conv: fx.Node
    norm: fx.Node | None = None
    relu: fx.Node | None = None
    seen: list[fx.Node] = field(default_factory=list)


def fused(network: nn.Module) -> nn.Module:
    """The network, in evaluation mode and on a CPU, in a form that is faster; its answers differ by rounding only."""
    if not _computes(network):
        return network
    try:
        traced = fx.symbolic_trace(copy.deepcopy(network).eval())
    except Exception as error:  # noqa: BLE001 (a strange network may raise anything; it is served as it is)
        log.info("the network is served as it is, not fused: %s", str(error).partition("\n")[0])
        return network
    made: dict[str, nn.Module] = {}
    for node in list(traced.graph.nodes):
        module = _module(traced, node)
        if isinstance(module, nn.Conv2d) and isinstance(module.padding, tuple) and module.padding_mode == "zeros":
            _merge(traced, _chain(traced, node), made)
        elif isinstance(module, nn.MaxPool2d) and _halves(module):
            traced.add_submodule(f"halving_{node.name}", Halving())
            node.target = f"halving_{node.name}"
        elif isinstance(module, nn.Dropout | nn.Identity):
            _bypass(traced, node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced.eval()


def _computes(network: nn.Module) -> bool:
    """Whether oneDNN is there, and computes in the type of these weights on this CPU."""
    if any(weights.dtype is torch.bfloat16 for weights in network.parameters()):
        return bool(ONEDNN._is_mkldnn_bf16_supported())  # noqa: SLF001 (as above)
    return bool(torch._C._has_mkldnn)  # noqa: SLF001 (what torch.backends.mkldnn.is_available tells, with types)


def _merge(traced: fx.GraphModule, chain: _Chain, made: dict[str, nn.Module]) -> None:
    """Put one module in the place of a chain; a convolution that is used twice, in two like chains, is made once."""
    norm = _module(traced, chain.norm)
    name = "_".join(str(node.target) for node in (chain.conv, chain.norm) if node is not None).replace(".", "_")
    name += "_relu" if chain.relu is not None else ""
    if name not in made:
        conv = _module(traced, chain.conv)
        if norm is not None:
            conv = fusion.fuse_conv_bn_eval(conv, norm)
        made[name] = Convolution(conv, relu=chain.relu is not None)
        traced.add_submodule(name, made[name])
    chain.conv.target = name
    for node in (chain.norm, chain.relu):
        if node is not None:
            _bypass(traced, node)


def _chain(traced: fx.GraphModule, conv: fx.Node) -> _Chain:
    """Follow what only the next step uses, to the first ReLU."""
    chain, node, pooled = _Chain(conv), conv, False
    while chain.relu is None and len(node.users) == 1:
        node = next(iter(node.users))
        module = _module(traced, node)
        if isinstance(module, nn.BatchNorm2d) and chain.norm is None and (not pooled or _rises(module)):
            chain.norm = node
        elif isinstance(module, nn.ReLU) or node.target in RELUS:
            chain.relu = node
        elif isinstance(module, nn.MaxPool2d | Halving):
            pooled = True
        elif not isinstance(module, nn.Dropout | nn.Identity):
            break
    return chain


def _module(traced: fx.GraphModule, node: fx.Node | None) -> Any:
    """What a node calls, if it is a module."""
    return traced.get_submodule(str(node.target)) if node is not None and node.op == "call_module" else None


def _rises(norm: nn.BatchNorm2d) -> bool:
    """Whether what is larger before is larger after."""
    return bool((norm.weight > 0).all())


def _halves(pool: nn.MaxPool2d) -> bool:
    plain: Sequence[Any] = (pool.padding, pool.dilation, pool.ceil_mode, pool.return_indices)
    return pool.kernel_size in (2, (2, 2)) and pool.stride in (2, (2, 2)) and plain == (0, 1, False, False)


def _bypass(traced: fx.GraphModule, node: fx.Node) -> None:
    node.replace_all_uses_with(cast("fx.Node", node.args[0]))
    traced.graph.erase_node(node)
