"""Keeps the way from a task to trained networks: one after the other, each to its last epoch."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch

from model import networks, training

if TYPE_CHECKING:
    from torch import Tensor, nn

    from model.training import Place, Task


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A trained network in eval mode on the CPU, and its logits [epochs, N, C] for the held-out pictures."""

    network: nn.Module
    held_out: Tensor


def fit(task: Task, place: Place) -> Fitted:
    """Trains as many networks as the recipe asks for; they answer as one, by the mean of their logits.

    Raises:
        Diverged: when the loss is not a number any more.
        Stopped: when `place` wants to stop; what was learned is in its work folder.
    """
    members = task.recipe.members
    titles = [f"{task.title}, network {number}/{members}" for number in range(1, members + 1)]
    fitted = [
        _fit_one(dataclasses.replace(task, title=title if members > 1 else task.title, seed=task.seed + number), place)
        for number, title in enumerate(titles)
    ]
    network = networks.together([one.network for one in fitted], mirrored=task.recipe.mirrored)
    return Fitted(network.eval(), torch.stack([one.held_out for one in fitted]).mean(dim=0))


def _fit_one(task: Task, place: Place) -> Fitted:
    """The running average of one network's weights.

    The same seed, data, device and number of threads give the same weights, whether or not it was stopped on the
    way. The last average is kept, or that of the epoch `task.until`, which folds have chosen: on some fifty
    held-out pictures, picking one's own best epoch would be picking luck.
    """
    trained = training.Training(task, place)
    kept = place.work.read(task.title) if place.work else None
    if kept:
        trained.restore(kept)
    epochs = task.until or task.recipe.epochs
    if trained.epoch < epochs:
        with place.watch.training(task.title, epochs, trained.epoch):
            while trained.epoch < epochs:
                trained.learn_epoch()
        trained.finish()
    return Fitted(networks.trained(trained.averaged.module.cpu().eval()), trained.held_out)
