"""The Muon optimizer for convolutions: orthogonalised steps.

The gradient of a convolution, as a matrix [outputs, inputs x height x width], is dominated by a few directions. A step
along the nearest orthogonal matrix moves all directions alike (Jordan and others, 2024).

`torch.optim.Muon` takes two-dimensional parameters only, so not convolutions, and iterates five times in bfloat16.
This one flattens the convolutions and iterates four times in float32.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor
    from torch.nn import Parameter

# Jordan's polynomial: a few iterations move every singular value in 0.01..1 to about 1 (0.7..1.2).
_NS_A, _NS_B, _NS_C = 3.4445, -4.7750, 2.0315
_NS_STEPS = 4
_MOMENTUM = 0.95
# Makes a step about as large as AdamW's (Liu and others, 2025), so that one learning rate fits both.
_UPDATE_SCALE = 0.2


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose update is orthogonalised, with decoupled weight decay."""

    def __init__(self, convolutions: Iterable[Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(convolutions, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002 - the base class's signature
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group["lr"], group["weight_decay"])

    def _update(self, weight: Tensor, gradient: Tensor, lr: float, weight_decay: float) -> None:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        state["momentum"].lerp_(gradient, 1 - _MOMENTUM)
        update = zeropower_via_newton_schulz(gradient.lerp(state["momentum"], _MOMENTUM).flatten(1))
        weight.mul_(1 - lr * weight_decay)
        weight.add_(update.reshape(weight.shape), alpha=-lr * _UPDATE_SCALE * math.sqrt(max(update.shape)))


def is_orthogonalised(weight: Tensor) -> bool:
    """Whether Muon suits a parameter: convolutions with more than three input channels.

    The first convolution (of colours), depthwise ones, norms and biases have gradients of few directions; a dense
    layer's matrix is too large to orthogonalise at every step.
    """
    return weight.ndim == 4 and weight.shape[1] > 3


def zeropower_via_newton_schulz(matrix: Tensor) -> Tensor:
    """Return a matrix with the same singular vectors and singular values near 1, by a Newton-Schulz iteration."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(_NS_STEPS):
        gram = wide @ wide.T
        wide = _NS_A * wide + (_NS_B * gram + _NS_C * gram @ gram) @ wide
    result: Tensor = wide if matrix.shape[0] <= matrix.shape[1] else wide.T
    return result
