"""Train a linear head on frozen features: the features once, then logistic regressions for every fold."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import nn

from model.networks import heads
from model.training import crossvalidation, features, linear_head, near_duplicates, references, trainer
from model.training.result import TrainingResult

if TYPE_CHECKING:
    import numpy.typing as npt

    from model.datasets.dataset import ImageDataset
    from model.training.prepare import PreparedRun

MAX_CONFLICTS = 10  # pairs that are reported; of photos of one scene, nearly all are alike


def fit(run: PreparedRun) -> TrainingResult:
    """Choose and calibrate a head by cross-validation, fit it on all images and put it into the network.

    Raises:
        ValueError: the network has no linear head.
        TrainingStopped: a signal arrived.
    """
    task, images = run.task, run.task.images
    network = task.build_network().eval()
    image_features = features.compute(network, images, task.preprocess, run.context)
    data = _training_data(run, network, image_features)
    folds = _split(run, image_features)
    fit_numbers = itertools.count(1)

    def on_fit() -> None:
        run.context.reporter.update(next(fit_numbers), 0)
        if run.context.stop_requested():
            raise trainer.TrainingStopped

    with run.context.reporter.track("heads", len(folds) * len(linear_head.INVERSE_REGULARIZATIONS), 0, unit="fit"):
        logits = linear_head.held_out_logits(data, folds, on_fit)
    result = crossvalidation.evaluate_folds(logits, images, folds)
    inverse_regularization = linear_head.INVERSE_REGULARIZATIONS[result.best]
    set_head(network, linear_head.fit(data, inverse_regularization), len(images.labels))
    chosen = references.choose(images, task.seed)
    distances = references.leave_one_out_distances(image_features, chosen)
    predicted = result.probabilities.argmax(axis=1)
    known = references.describe(image_features[torch.from_numpy(chosen)], distances, images, predicted, task.extra)
    manifest = dataclasses.replace(
        run.manifest,
        temperature=result.temperature,
        metrics={"cross_validation": result.metric_values},
        recipe={**run.manifest.recipe, "strength": inverse_regularization},
    )
    return TrainingResult(network, manifest, known, result.probabilities)


def _training_data(run: PreparedRun, network: nn.Module, image_features: torch.Tensor) -> linear_head.TrainingFeatures:
    images, extra = (image_features.numpy(), run.task.images.targets), run.task.extra
    if not extra:
        return linear_head.TrainingFeatures.without_extra(*images)
    extra_features = features.compute(network, extra, run.task.preprocess, run.context).numpy()
    return linear_head.TrainingFeatures(*images, extra_features, extra.targets)


def _split(run: PreparedRun, image_features: torch.Tensor) -> crossvalidation.FoldIndices:
    """Split into folds so that copies of one photo are in the same fold; report copies in different classes."""
    images = run.task.images
    pairs = near_duplicates.find_pairs(images, image_features)
    _report_conflicts(run, images, pairs)
    return crossvalidation.split_apart(images, run.method.folds, run.task.seed, pairs, run.context.reporter)


def _report_conflicts(run: PreparedRun, images: ImageDataset, pairs: npt.NDArray[np.int64]) -> None:
    conflicts = pairs[images.targets[pairs[:, 0]] != images.targets[pairs[:, 1]]]
    for first, second in conflicts[:MAX_CONFLICTS]:
        text = f"{images.paths[first]} and {images.paths[second]} look like one photo in two classes: remove one."
        run.context.reporter.message(text)
    if len(conflicts) > MAX_CONFLICTS:
        run.context.reporter.message(f"{len(conflicts) - MAX_CONFLICTS} more pairs look like one photo in two classes.")


def set_head(network: nn.Module, head: linear_head.LinearHead, classes: int) -> None:
    """Copy the head's weights into the network; raise ValueError if it has no head with biases."""
    layer = cast("nn.Linear", network.get_submodule(heads.head_name(network, classes)))
    if layer.bias is None:
        raise ValueError(f"The head of {type(network).__name__} has no bias: choose another --network.")
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(head.weights))
        layer.bias.copy_(torch.from_numpy(head.biases))
