"""Keeps the Muon optimizer: steps of convolutions are orthogonalised, all other weights move as AdamW moves them.

The gradient of a convolution, seen as a matrix [outputs, inputs x height x width], is dominated by a few directions;
a step that is stretched to the nearest orthogonal matrix moves all of them alike (Jordan and others, 2024).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

# Jordan's polynomial: it takes every singular value in 0.01..1 to about 1 (0.7..1.2) within a few rounds.
_FIRST, _THIRD, _FIFTH = 3.4445, -4.7750, 2.0315
_ROUNDS = 4
# A step of Muon so scaled is as large as one of AdamW typically is (Liu and others, 2025): one learning rate fits both.
_SCALE = 0.2


class Muon(torch.optim.Optimizer):
    """Muon for convolutions with more than three input channels, AdamW for the rest.

    The first convolution (of colours), depthwise ones, dense layers, norms and biases are the rest: their gradients
    are no matrices of many directions, or too large to orthogonalise at every step.
    """

    def __init__(
        self,
        network: nn.Module,
        learning_rate: float,
        weight_decay: float,
        *,
        momentum: float = 0.95,
        rest: float = 0.5,
    ) -> None:
        """Takes the trainable weights of a network.

        Args:
            network: on its device already.
            learning_rate: of the convolutions.
            weight_decay: share of a weight that a step takes away, times the learning rate; not of biases and norms.
            momentum: of the convolutions' gradients.
            rest: the learning rate of the rest, as a share of that of the convolutions.
        """
        weights = [weight for weight in network.parameters() if weight.requires_grad]
        filters = [weight for weight in weights if weight.ndim == 4 and weight.shape[1] > 3]
        taken = {id(weight) for weight in filters}
        others = [weight for weight in weights if id(weight) not in taken]
        groups: list[dict[str, Any]] = [
            {"params": filters, "orthogonal": True},
            {"params": [weight for weight in others if weight.ndim > 1]},
            {"params": [weight for weight in others if weight.ndim <= 1], "weight_decay": 0.0},
        ]
        shared = {"lr": learning_rate, "weight_decay": weight_decay, "momentum": momentum, "rest": rest}
        super().__init__([group for group in groups if group["params"]], {**shared, "orthogonal": False})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002 - torch's name, no use
        """Moves every weight that has a gradient."""
        for group in self.param_groups:
            move = self._orthogonal if group["orthogonal"] else self._adamw
            for weight in group["params"]:
                if weight.grad is not None:
                    move(weight, weight.grad, group)

    def _orthogonal(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        state["momentum"].lerp_(gradient, 1 - group["momentum"])
        ahead = gradient.lerp(state["momentum"], group["momentum"])
        step = orthogonalised(ahead.flatten(1))
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(step.reshape(ahead.shape), alpha=-group["lr"] * _SCALE * math.sqrt(max(step.shape)))

    def _adamw(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state |= {"step": torch.zeros(()), "mean": torch.zeros_like(weight), "square": torch.zeros_like(weight)}
        state["step"] += 1
        state["mean"].lerp_(gradient, 0.1)
        state["square"].mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        count, rate = float(state["step"]), group["lr"] * group["rest"]
        spread = (state["square"] / (1 - 0.999**count)).sqrt_().add_(1e-8)
        weight.mul_(1 - rate * group["weight_decay"])
        weight.addcdiv_(state["mean"], spread, value=-rate / (1 - 0.9**count))


def orthogonalised(matrix: Tensor) -> Tensor:
    """A matrix with the same singular vectors whose singular values are all near 1, by a Newton-Schulz iteration."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(_ROUNDS):
        square = wide @ wide.T
        wide = _FIRST * wide + (_THIRD * square + _FIFTH * square @ square) @ wide
    level: Tensor = wide if matrix.shape[0] <= matrix.shape[1] else wide.T
    return level
