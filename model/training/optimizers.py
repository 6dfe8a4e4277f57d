"""Build a recipe's optimizers, learning-rate schedule and running average of the weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.swa_utils import AveragedModel

from model.training import muon

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn
    from torch.nn import Parameter

    from model.training.recipe import Recipe

# AdamW's learning rate beside Muon, as a share of Muon's.
_MUON_ADAMW_RATIO = 0.5


def build(network: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Build the recipe's optimizer for a network on its device; with Muon, AdamW takes the other parameters."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    decay, rate = recipe.weight_decay, recipe.learning_rate
    if recipe.optimizer == "sgd":
        groups, momentum = _decay_groups(parameters, decay), recipe.momentum
        return [torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=momentum > 0, fused=True)]
    if recipe.optimizer == "adamw":
        betas = (recipe.momentum, 0.999)
        return [torch.optim.AdamW(_decay_groups(parameters, decay), lr=rate, betas=betas, fused=True)]
    convolutions = [parameter for parameter in parameters if muon.is_orthogonalised(parameter)]
    other_groups = _decay_groups([p for p in parameters if not muon.is_orthogonalised(p)], decay)
    adamw = torch.optim.AdamW(other_groups, lr=rate, fused=True)
    for group in adamw.param_groups:
        group["rate_ratio"] = _MUON_ADAMW_RATIO
    return [*([muon.Muon(convolutions, rate, decay)] if convolutions else []), adamw]


def _decay_groups(parameters: Sequence[Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Split off biases and norms: pulling them towards zero does not make the network simpler."""
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def learning_rate(recipe: Recipe, step: int, total_steps: int) -> float:
    """Return the learning rate of a step: linear warm-up, then a half cosine down to zero."""
    warmup_steps = round(recipe.warmup * total_steps)
    if step < warmup_steps:
        return recipe.learning_rate * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return recipe.learning_rate * (1 + math.cos(math.pi * progress)) / 2


def set_learning_rate(optimizers: Sequence[torch.optim.Optimizer], rate: float) -> None:
    """Set the learning rate of all parameter groups, times their own ratio if they have one."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("rate_ratio", 1.0)


def ema_model(network: nn.Module, recipe: Recipe, total_steps: int) -> AveragedModel:
    """Return a copy of the network whose parameters and buffers are exponential moving averages.

    The window is `recipe.averaging` of all steps, and shorter in the first steps, so that the initial weights are
    forgotten soon.
    """
    max_decay = 1 - 1 / (1 + recipe.averaging * total_steps)

    def update_average(averages: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        share = 1 - min(max_decay, (1 + int(count)) / (10 + int(count)))
        for average, value in zip(averages, current, strict=True):
            if average.is_floating_point():
                average.lerp_(value, share)
            else:
                average.copy_(value)

    return AveragedModel(network, multi_avg_fn=torch.no_grad()(update_average), use_buffers=True)


def state_tensors(optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Return the optimizers' state as tensors named OPTIMIZER.PARAMETER.NAME, by position."""
    return {
        f"{number}.{index}.{name}": value
        for number, optimizer in enumerate(optimizers)
        for index, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
    }


def load_state_tensors(optimizers: Sequence[torch.optim.Optimizer], saved_state: Mapping[str, Tensor]) -> None:
    """Restore the state of optimizers of the same network and recipe."""
    for key, saved in saved_state.items():
        number, index, name = key.split(".")
        optimizer = optimizers[int(number)]
        parameter = [weight for group in optimizer.param_groups for weight in group["params"]][int(index)]
        # Fused kernels walk through memory: a tensor must have the same layout as its parameter.
        fits = saved.shape == parameter.shape
        optimizer.state[parameter][name] = torch.empty_like(parameter).copy_(saved) if fits else saved
