"""Train the networks of a recipe, one after the other, each to its last epoch."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch

from model.networks import factory
from model.training import trainer

if TYPE_CHECKING:
    from torch import Tensor, nn

    from model.training.trainer import RunContext, TrainingTask


@dataclasses.dataclass(frozen=True)
class FitResult:
    """A trained network in eval mode on the CPU, and its logits [epochs, N, classes] for the held-out images."""

    network: nn.Module
    held_out: Tensor


def fit(task: TrainingTask, context: RunContext) -> FitResult:
    """Train `recipe.members` networks with different seeds and combine them into an ensemble.

    Raises:
        TrainingDiverged: the loss is NaN or infinite.
        TrainingStopped: `context.stop_requested` returned true; a checkpoint was written.
    """
    for adapt in task.adaptations:
        task = adapt(task, context)
    members = task.recipe.members
    results = []
    for number in range(members):
        title = task.title if members == 1 else f"{task.title}, network {number + 1}/{members}"
        results.append(_fit_network(dataclasses.replace(task, title=title, seed=task.seed + number), context))
    network = factory.ensemble([result.network for result in results], mirrored=task.recipe.mirrored)
    return FitResult(network.eval(), torch.stack([result.held_out for result in results]).mean(dim=0))


def _fit_network(task: TrainingTask, context: RunContext) -> FitResult:
    """Train one network, or resume it, and return the running average of its weights.

    The same seed, data, device and thread count give the same weights, with or without an interruption. The average
    is that of the last epoch, or of `task.stop_epoch` as chosen by cross-validation: choosing the best epoch on the
    same fifty held-out images would overfit them.
    """
    network_trainer = trainer.Trainer(task, context)
    saved = context.checkpoints.read(task.title) if context.checkpoints else None
    if saved:
        network_trainer.restore(saved)
    epochs = task.stop_epoch or task.recipe.epochs
    if network_trainer.epoch < epochs:
        with context.reporter.track(task.title, epochs, network_trainer.epoch):
            while network_trainer.epoch < epochs:
                network_trainer.train_epoch()
        network_trainer.save_result()
    return FitResult(factory.inference_form(network_trainer.ema.module.cpu().eval()), network_trainer.held_out_logits)
