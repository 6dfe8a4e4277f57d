"""Cross-validate a recipe: metrics with their spread, the temperature and the best epoch."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn import model_selection

from model.datasets.dataset import InvalidDataset
from model.evaluation import calibration, metrics
from model.training import fit, near_duplicates, references

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from model.datasets.dataset import ImageDataset
    from model.training import progress
    from model.training.trainer import RunContext, TrainingTask

    FoldIndices = list[npt.NDArray[np.int64]]
    Logits = npt.NDArray[np.float64]

METRIC_NAMES = ("accuracy", "balanced_accuracy", "auc", "log_loss", "ece")
MAX_FEW = 5  # folds where nothing but a held-out answer for each image is needed


@dataclasses.dataclass(frozen=True)
class CrossValidationResult:
    """Metrics of each fold with mean and deviation, and what the final training takes from them.

    `best` is the index of the candidate with the lowest held-out loss, `temperature` is fitted on all its held-out
    logits, and `probabilities` [N, C] are these at that temperature. `distances` [N] are those of the held-out images
    to their references (model/training/references.py).
    """

    metric_values: dict[str, Any]
    temperature: float
    best: int
    probabilities: Logits
    distances: Tensor | None = None


def run(task: TrainingTask, serving_images: ImageDataset, folds: int, context: RunContext) -> CrossValidationResult:
    """Train once per fold on the other folds (and `task.extra`), and evaluate on the fold as in serving.

    Copies of one photo are in the same fold, see `split_apart`.

    Args:
        task: the training to evaluate, with all its images.
        serving_images: the same images, preprocessed as in serving.
        folds: number of folds, at least 2.
        context: where to train.

    Returns:
        The result, whose candidates are the epochs, with `early`, or else the last one alone. Its metrics have the
        number of the best epoch, from 1.
    """
    check_fold_count(folds, task.images)
    pairs = near_duplicates.find_pairs(task.images)
    fold_indices = split_apart(task.images, folds, task.seed, pairs, context.reporter)
    logits = np.zeros((task.recipe.epochs, len(serving_images), len(serving_images.labels)))
    distances = torch.zeros(len(serving_images))
    for number, fold in enumerate(fold_indices, start=1):
        others = np.setdiff1d(np.arange(len(task.images)), fold)
        title = f"fold {number}/{len(fold_indices)}"
        held_out = serving_images.subset(fold)
        fold_task = dataclasses.replace(task, title=title, images=task.images.subset(others), held_out=held_out)
        result = fit.fit(fold_task, context)
        logits[:, fold] = result.held_out.numpy()
        distances[fold] = references.fold_distances(
            result.network, serving_images.subset(others), held_out, task, context
        )
    candidates = logits if task.recipe.early else logits[-1:]
    evaluated = evaluate_folds(candidates, serving_images, fold_indices)
    epoch = task.recipe.epochs - len(candidates) + evaluated.best + 1
    metric_values = {"epochs": task.recipe.epochs, "epoch": epoch, **evaluated.metric_values}
    return dataclasses.replace(evaluated, metric_values=metric_values, distances=distances)


def check_fold_count(folds: int, images: ImageDataset) -> None:
    """Raise InvalidDataset if the images cannot be split into so many folds."""
    smallest_class = min(images.class_counts().values())
    if smallest_class < 2:
        raise InvalidDataset("--folds needs at least 2 images of each class: add images, or leave it out.")
    if not 2 <= folds <= smallest_class:
        raise InvalidDataset(f"--folds is {folds}: give 2 to {smallest_class}, the size of the smallest class.")


def split(
    targets: npt.NDArray[np.int64], folds: int, seed: int, groups: npt.NDArray[np.int32] | None = None
) -> FoldIndices:
    """Return the positions of each fold, sorted and stratified by class; images of one group are in the same fold.

    There are fewer folds if a class has fewer groups; it needs at least two.
    """
    options: dict[str, Any] = {"shuffle": True, "random_state": seed % 2**32}
    if groups is None:
        return [held_out for _, held_out in model_selection.StratifiedKFold(folds, **options).split(targets, targets)]
    smallest = min(_group_count(groups, targets == target) for target in np.unique(targets))
    splitter = model_selection.StratifiedGroupKFold(min(folds, smallest), **options)
    return [held_out for _, held_out in splitter.split(targets, targets, groups)]


def split_apart(
    images: ImageDataset, folds: int, seed: int, pairs: npt.NDArray[np.int64], reporter: progress.ProgressReporter
) -> FoldIndices:
    """Split the images so that those of a pair, copies of one photo, are in the same fold.

    Where all images of a class belong together, as those of a fixed camera do, they are split nevertheless, and the
    reporter gets a warning.
    """
    groups = near_duplicates.group(len(images), pairs)
    if groups is None:
        return split(images.targets, folds, seed)
    alike = [target for target in np.unique(images.targets) if _group_count(groups, images.targets == target) < 2]
    if alike:
        names = ", ".join(images.labels[target] for target in alike)
        reporter.message(
            f"all images of {names} look alike: the held-out figures are too good if they are copies of one photo"
        )
        own_groups = groups.max() + 1 + np.arange(len(images), dtype=np.int32)
        groups = np.where(np.isin(images.targets, alike), own_groups, groups)
    return split(images.targets, folds, seed, groups)


def _group_count(groups: npt.NDArray[np.int32], members: npt.NDArray[np.bool_]) -> int:
    return len(np.unique(groups[members]))


def split_into_few(images: ImageDataset, seed: int) -> FoldIndices:
    """Return the positions of `MAX_FEW` folds, or of fewer if a class has fewer images."""
    return split(images.targets, min(MAX_FEW, *images.class_counts().values()), seed)


def evaluate_folds(
    candidates: Logits, serving_images: ImageDataset, fold_indices: FoldIndices
) -> CrossValidationResult:
    """Compute the metrics of held-out logits [candidates, N, classes].

    Each fold is evaluated with the candidate and the temperature chosen on the *other* folds, so that both are held
    out too.
    """
    targets, labels = serving_images.targets, serving_images.labels
    metrics_by_fold = []
    for fold in fold_indices:
        others = np.setdiff1d(np.arange(len(targets)), fold)
        best, temperature = _best_candidate(candidates[:, others], targets[others])
        probabilities = calibration.probabilities(candidates[best, fold], temperature)
        metrics_by_fold.append(metrics.compute_metrics(probabilities, targets[fold], labels))
    summary = {name: _mean_and_deviation([fold[name] for fold in metrics_by_fold]) for name in METRIC_NAMES}
    best, temperature = _best_candidate(candidates, targets)
    probabilities = calibration.probabilities(candidates[best], temperature)
    counts = {"folds": len(fold_indices), "count": len(targets)}
    return CrossValidationResult({**counts, **summary}, temperature, best, probabilities)


def _best_candidate(candidates: Logits, targets: npt.NDArray[np.int64]) -> tuple[int, float]:
    """Return the index of the candidate with the lowest log loss, and the temperature that calibrates its logits."""
    losses = [metrics.log_loss(calibration.probabilities(logits, 1.0), targets) for logits in candidates]
    index = int(np.argmin(losses))
    return index, calibration.fit_temperature(candidates[index], targets)


def _mean_and_deviation(values: list[float | None]) -> dict[str, Any]:
    """Return the mean and the standard deviation of the folds that have a value; None where it is not defined."""
    defined = [value for value in values if value is not None]
    return {
        "mean": round(float(np.mean(defined)), 4) if defined else None,
        "deviation": round(float(np.std(defined, ddof=1)), 4) if len(defined) > 1 else None,
        "each": [None if value is None else round(value, 4) for value in values],
    }
