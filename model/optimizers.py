"""Keeps how weights move: the optimizer, its learning rate at each step, and the running average."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.optim.swa_utils import AveragedModel

from model import muon

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from model.recipe import Recipe


def build(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer. What has one dimension is not decayed: a pull towards zero there is no simplicity."""
    if recipe.optimizer == "muon":
        return muon.Muon(network, recipe.learning_rate, recipe.weight_decay)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=True
        )
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(recipe.momentum, 0.999), fused=True)


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate of a step: a straight line up in the warm-up, then half a cosine down to zero."""
    rising = round(recipe.warmup * steps)
    if step < rising:
        return recipe.learning_rate * (step + 1) / rising
    return recipe.learning_rate * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising))) / 2


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """For all parameters alike."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def averaged(network: nn.Module, recipe: Recipe, steps: int) -> AveragedModel:
    """A copy of the network whose weights and buffers follow it as an exponential average.

    The average reaches back over `recipe.averaging` of the steps; in the first steps over less, lest the fresh
    weights stay in it for long.
    """
    longest = 1 - 1 / (1 + recipe.averaging * steps)

    def follow(averages: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        share = 1 - min(longest, (1 + int(count)) / (10 + int(count)))
        for average, value in zip(averages, current, strict=True):
            if average.is_floating_point():
                average.lerp_(value, share)
            else:
                average.copy_(value)

    return AveragedModel(network, multi_avg_fn=torch.no_grad()(follow), use_buffers=True)


def tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What the optimizer remembers, by flat names."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, values in state.items() for name, value in values.items()}


def restore(optimizer: torch.optim.Optimizer, remembered: Mapping[str, Tensor]) -> None:
    """The inverse of `tensors`, for an optimizer of the same network and recipe."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for key, value in remembered.items():
        index, name = key.split(".")
        parameter = parameters[int(index)]
        if value.shape == parameter.shape:
            # The fused kernels go through memory: it must lie there in the same order as the parameter does.
            value = torch.empty_like(parameter).copy_(value)  # noqa: PLW2901 - the same value, laid out anew
        optimizer.state[parameter][name] = value
