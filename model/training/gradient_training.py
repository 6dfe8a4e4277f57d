"""Train a whole network by steps, after cross-validation if there are folds."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch

from model.evaluation.logits import compute_logits
from model.training import crossvalidation, features, references
from model.training import fit as fit_networks
from model.training.result import TrainingResult

if TYPE_CHECKING:
    from torch import nn

    from model.packaging.manifest import Manifest
    from model.training.prepare import PreparedRun


def fit(run: PreparedRun, fold_epochs: int | None) -> TrainingResult:
    """Cross-validate the recipe, then train on all images; without folds, evaluate on `--held-out`.

    Args:
        run: the training.
        fold_epochs: epochs of each fold; None is those of the training.

    Raises:
        TrainingDiverged: the loss is NaN or infinite.
        TrainingStopped: a signal arrived; a checkpoint was written.
    """
    if not run.method.folds:
        network = fit_networks.fit(run.task, run.context).network
        return TrainingResult(network, _evaluate_held_out(run, network) if run.held_out else run.manifest)
    recipe = dataclasses.replace(run.task.recipe, epochs=fold_epochs or run.task.recipe.epochs)
    serving_images = run.serving_images
    assert serving_images is not None  # noqa: S101 - read whenever there are folds
    fold_task = dataclasses.replace(run.task, recipe=recipe)
    result = crossvalidation.run(fold_task, serving_images, run.method.folds, run.context)
    stop_epoch = result.metric_values["epoch"] if recipe.early else None
    network = fit_networks.fit(dataclasses.replace(run.task, stop_epoch=stop_epoch), run.context).network
    known = None
    if result.distances is not None and result.distances.isfinite().all():
        chosen = serving_images.subset(references.choose(serving_images, run.task.seed))
        chosen_features = features.compute(network, chosen, run.task.preprocess, run.context)
        predicted = result.probabilities.argmax(axis=1)
        known = references.describe(chosen_features, result.distances, serving_images, predicted, run.task.extra)
    metrics = {"cross_validation": result.metric_values}
    manifest = dataclasses.replace(run.manifest, temperature=result.temperature, metrics=metrics)
    return TrainingResult(network, manifest, known, result.probabilities)


def _evaluate_held_out(run: PreparedRun, network: nn.Module) -> Manifest:
    """Return the manifest with the metrics of `--held-out` and the temperature that calibrates its logits.

    The images are split into parts, as into folds, so that each part is evaluated with the temperature of the others.
    """
    held_out = run.held_out
    assert held_out is not None  # noqa: S101 - the caller checked it
    logits = compute_logits(network, held_out, run.task.preprocess, torch.device("cpu")).numpy()
    parts = crossvalidation.split_into_few(held_out, run.task.seed)
    result = crossvalidation.evaluate_folds(logits[None], held_out, parts)
    return dataclasses.replace(run.manifest, temperature=result.temperature, metrics={"held_out": result.metric_values})
