"""Keeps a way to run `cookpad-cnn` on a GPU with kernels of our own: from bytes to features in six of them.

cuDNN takes a kernel for each convolution and another for each pool, and brings what lies between through the card's
memory; with 32 channels it leaves most of the multipliers idle (docs/decisions/0021).
"""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.preprocess import Preprocess

log = logging.getLogger(__name__)
_BLOCK = (nn.Conv2d, nn.ReLU, nn.Conv2d, nn.ReLU, nn.MaxPool2d, nn.Dropout)
_LAYERS = (*_BLOCK, *_BLOCK, *_BLOCK, nn.Flatten, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear)
_PLACES = 200 * 200  # of a picture: with more, 32 bits could not count the numbers of a large batch
_CAPABILITY = 8  # the first generation of cards that multiplies bfloat16


def fast(network: nn.Module, how: Preprocess, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Logits of uint8 pixels [N, H, W, 3] on the device, in bfloat16; None where this is not to be had.

    It wants the layers of `cookpad-cnn`, Triton, and a C compiler, with which Triton makes its launchers.
    """
    if tuple(type(layer) for layer in network.children()) != _LAYERS:
        return None
    if torch.cuda.get_device_capability(device)[0] < _CAPABILITY or how.height * how.width > _PLACES:
        return None
    try:
        made = Blocks(cast("nn.Sequential", network), how, device)
        made(torch.zeros(1, how.height, how.width, 3, dtype=torch.uint8, device=device))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001 (whatever Triton, its compiler or an older card lacks)
        reason = (str(error) or type(error).__name__).splitlines()[0]
        log.warning("the network runs without our own kernels, at a quarter of the speed: %s", reason)
        return None
    return made


class Blocks:
    """The convolutions by our kernels, the dense layers by cuBLAS."""

    def __init__(self, network: nn.Sequential, how: Preprocess, device: torch.device, dtype: Any = None) -> None:
        """Packs the weights; `dtype` is bfloat16 but in tests without a GPU."""
        dtype = dtype or torch.bfloat16
        start, *others = [layer for layer in network if isinstance(layer, nn.Conv2d)]
        self._first = _First(start, how, device, dtype)
        # A block's first convolution stands alone; its second is followed by the pool.
        self._others = [
            _Convolution.of(conv, pooled=number % 2 == 0, device=device, dtype=dtype)
            for number, conv in enumerate(others)
        ]
        features, answer = [layer for layer in network if isinstance(layer, nn.Linear)]
        channels = others[-1].out_channels
        # Flatten puts the places of a channel side by side; here the channels of a place are.
        weight = features.weight.reshape(len(features.weight), channels, -1).transpose(1, 2).flatten(1).detach()
        self._features = weight.to(device, dtype).t(), _moved(features.bias, device, torch.float32)
        self._answer = _moved(answer.weight, device, torch.float32), _moved(answer.bias, device, torch.float32)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits [N, classes] of uint8 pixels [N, H, W, 3]."""
        with torch.cuda.device_of(pixels):  # type: ignore[no-untyped-call]  # Triton would take the first card
            pictures = self._first(pixels)
            for layer in self._others:
                pictures = layer(pictures)
        weights, bias = self._features
        # Sums in float32 to the end: rounded to bfloat16, the third digit of an answer would hang on the batch's size.
        places = pictures.flatten(1)
        hidden = torch.mm(places, weights, torch.float32) if places.is_cuda else places.float() @ weights.float()
        return functional.linear(functional.relu(hidden + bias), *self._answer)


class _First:
    """The layer that sees bytes."""

    def __init__(self, conv: nn.Conv2d, how: Preprocess, device: torch.device, dtype: Any) -> None:
        self._channels = conv.out_channels
        rows = conv.weight.detach().permute(2, 3, 1, 0).flatten(0, 2)
        self._weights = functional.pad(rows, (0, 0, 0, 32 - len(rows))).to(device, dtype).contiguous()
        self._bias = _moved(conv.bias, device, torch.float32)
        mean, std = torch.tensor(how.mean), torch.tensor(how.std)
        self._scale, self._shift = (
            functional.pad(v.repeat(9), (0, 5)).to(device) for v in (1 / std / 255, -mean / std)
        )

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        from model import kernels  # noqa: PLC0415 (Triton, which only comes with a GPU's torch)

        count, height, width, _ = pixels.shape
        out = torch.empty(count, height, width, self._channels, dtype=self._weights.dtype, device=pixels.device)
        total = count * height * width
        given = (pixels, self._scale, self._shift, self._weights, self._bias, out, total, height, width, self._channels)
        kernels.first[(-(-total // 128),)](*given, 128, num_warps=4)
        return out


@dataclasses.dataclass(frozen=True)
class _Convolution:
    """Any other: 3x3 and ReLU, perhaps with a pool."""

    weights: torch.Tensor
    bias: torch.Tensor
    rim: int
    pool: int
    inside: int
    outside: int

    @classmethod
    def of(cls, conv: nn.Conv2d, *, pooled: bool, device: torch.device, dtype: Any) -> _Convolution:
        from model import kernels  # noqa: PLC0415 (as above)

        # With so few columns the multipliers of matrices wait; with four windows' in one product they do not, though
        # 7 of 16 of its weights are zeros.
        wide = pooled and conv.out_channels <= 32
        pool = (kernels.COLUMNS if wide else kernels.ROWS) if pooled else kernels.EACH
        weights = conv.weight.detach().float().permute(2, 3, 1, 0)
        weights = _wide(weights) if wide else weights.flatten(0, 2)
        bias = _moved(conv.bias, device, torch.float32)
        rim = cast("int", conv.padding[0])
        return cls(weights.to(device, dtype).contiguous(), bias, rim, pool, conv.in_channels, conv.out_channels)

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        from model import kernels  # noqa: PLC0415 (as above)

        count, height, width, _ = pictures.shape
        shrink = 2 if self.pool else 1
        size = (height + 2 * self.rim - 2) // shrink, (width + 2 * self.rim - 2) // shrink
        out = torch.empty(count, *size, self.outside, dtype=pictures.dtype, device=pictures.device)
        total = count * size[0] * size[1]
        programs = -(-total * (4 if self.pool == kernels.ROWS else 1) // 128)
        shape = (height, width, *size, self.rim, self.pool, self.inside, self.outside, 128, min(64, self.inside))
        warps = 8 if self.outside >= 128 else 4
        given = (pictures, self.weights, self.bias, out, total)
        kernels.convolve[(programs,)](*given, *shape, num_warps=warps, num_stages=3)
        return out


def _wide(weights: torch.Tensor) -> torch.Tensor:
    """[3, 3, inside, outside] as the four windows of a pool side by side: [4 * 4 * inside, 2 * 2 * outside]."""
    inside, outside = weights.shape[2:]
    spread = torch.zeros(4, 4, inside, 2, 2, outside, device=weights.device)
    for down in range(2):
        for right in range(2):
            spread[down : down + 3, right : right + 3, :, down, right] = weights
    return spread.flatten(3).flatten(0, 2)


def _moved(tensor: torch.Tensor | None, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    return cast("torch.Tensor", tensor).detach().to(device, dtype).contiguous()
