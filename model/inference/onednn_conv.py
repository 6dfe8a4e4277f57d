"""Convolutions as oneDNN calls, by the operators that torch's own compiler uses."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

ONEDNN: Any = torch.ops.mkldnn
ACTIVATIONS: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
}


def is_usable(dtype: torch.dtype) -> bool:
    """Whether oneDNN is available and supports the number format on this CPU."""
    if dtype is torch.bfloat16:
        return bool(ONEDNN._is_mkldnn_bf16_supported())  # noqa: SLF001 (no public name)
    return bool(torch._C._has_mkldnn)  # noqa: SLF001 (the typed form of torch.backends.mkldnn.is_available)


class OneDnnConv2d(nn.Module):
    """A convolution and the activation after it, or the sum of a residual block, in one oneDNN call."""

    def __init__(self, conv: nn.Conv2d, activation: nn.Module | None = None) -> None:
        super().__init__()
        self._conv_args = [list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups]
        weight = conv.weight.detach().contiguous(memory_format=torch.channels_last)
        self.register_buffer("_weight", weight, persistent=False)
        self.register_buffer("_bias", None if conv.bias is None else conv.bias.detach(), persistent=False)
        self._activation, self._limits = ACTIVATIONS[type(activation)] if activation else ("none", [])
        self._packed_by_shape: dict[torch.Size, torch.Tensor] = {}
        self._packed_by_layout: dict[bytes, torch.Tensor] = {}

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map [N, C, H, W] to [N, channels, H', W']."""
        weight = self._packed_weight(features.shape)
        convolved: torch.Tensor = ONEDNN._convolution_pointwise(  # noqa: SLF001
            features, weight, self._bias, *self._conv_args, self._activation, self._limits, ""
        )
        return convolved

    def add(self, features: torch.Tensor, residual: torch.Tensor, activation: str | None) -> torch.Tensor:
        """Return the activation ("relu" or None) of the convolution plus `residual`."""
        weight = self._packed_weight(features.shape)
        total: torch.Tensor = ONEDNN._convolution_pointwise.binary(  # noqa: SLF001
            features, residual, weight, self._bias, *self._conv_args, "add", None, activation, [], None
        )
        return total

    def _packed_weight(self, shape: torch.Size) -> torch.Tensor:
        """Return the weights in oneDNN's layout for an input of this shape.

        Weights in another layout are converted at every call, which took up to fifty times as long as the convolution
        of one image. Shapes with the same layout share one copy.
        """
        if shape not in self._packed_by_shape:
            packed = ONEDNN._reorder_convolution_weight(self._weight, *self._conv_args, list(shape))  # noqa: SLF001
            layout = bytes(ONEDNN._get_mkldnn_serialized_md(packed).numpy())  # noqa: SLF001
            self._packed_by_shape[shape] = self._packed_by_layout.setdefault(layout, packed)
        return self._packed_by_shape[shape]


class OneDnnSameConv2d(nn.Module):
    """A convolution of stride 2 with TensorFlow's SAME padding, which oneDNN pads itself.

    An odd side is padded alike at both ends. On an even side the end gets one more zero than the start: as much as if
    the kernel were one larger, with zeros in its first row and column, and padded alike.
    """

    def __init__(self, conv: nn.Conv2d, activation: nn.Module | None) -> None:
        super().__init__()
        self._odd = OneDnnConv2d(_with_kernel(conv, conv.weight, conv.kernel_size[0] // 2), activation)
        larger = nn.functional.pad(conv.weight.detach(), (1, 0, 1, 0))
        self._even = OneDnnConv2d(_with_kernel(conv, larger, conv.kernel_size[0] // 2), activation)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map [N, C, H, W] to [N, channels, ceil(H / 2), ceil(W / 2)]."""
        height, width = features.shape[2:]
        conv = self._odd if height % 2 and width % 2 else self._even
        if height % 2 != width % 2:
            # One zero before an odd side makes the larger kernel right for it, too.
            features = nn.functional.pad(features, (width % 2, 0, height % 2, 0))
        convolved: torch.Tensor = conv(features)
        return convolved


def _with_kernel(conv: nn.Conv2d, weight: torch.Tensor, padding: int) -> nn.Conv2d:
    """Return a copy of a convolution with other weights and padding."""
    copied = copy.copy(conv)
    copied._parameters = {**conv._parameters, "weight": nn.Parameter(weight, requires_grad=False)}  # noqa: SLF001
    copied.padding = (padding, padding)
    return copied
