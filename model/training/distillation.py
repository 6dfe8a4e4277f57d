"""Distil: train a student network on the predictions of larger teachers (Hinton and others, 2015).

Student and teachers see the same views, crops and colours included: many of each image, and for many epochs (Beyer and
others, 2022).

A teacher is the backbone of a bundle. Its head is fitted again for each training, on the images of that training only,
so that cross-validation has no data leak; and an image's soft targets come from heads that were fitted without it, so
that the student does not learn its wrong label.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from model.evaluation import calibration, metrics
from model.training import augment, crossvalidation, linear_head, method
from model.training import views as rendering

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from model.datasets.dataset import ImageDataset
    from model.packaging.bundle import Bundle
    from model.training.linear_head import LinearHead
    from model.training.trainer import RunContext, TrainingTask
    from model.training.views import Views

    FloatArray = npt.NDArray[np.float32]

# Heads are fitted on so many views of each image.
HEAD_VIEWS = 2
# The student's copy of a view differs from the teachers' by nothing but a mirror image, at random.
_MIRROR_ONLY = augment.Augmentation(min_area=1, max_stretch=1, brightness=0, contrast=0, saturation=0)


@dataclasses.dataclass(frozen=True)
class Distillation:
    """The views of all images of a run, and those of the extra ones."""

    views: Views
    extra: Views | None

    def adapt(self, task: TrainingTask, context: RunContext) -> TrainingTask:  # noqa: ARG002 - a hook of the task
        """Return the training of a student: the views of its images, with the teachers' predictions as soft targets."""
        views, extra = self.views.of(task.images), self.extra if task.extra else None
        no_views = views.select(np.empty(0, np.int64))
        soft_targets, extra_targets = _cross_fitted_targets(views, extra or no_views, task.seed)
        recipe = dataclasses.replace(
            task.recipe,
            augment=_MIRROR_ONLY,
            # An epoch shows some views of each image.
            weight=task.recipe.weight / views.count,
            extra_weight=task.recipe.extra_weight / (extra.count if extra else 1),
        )
        extra_set = _dataset(extra, extra_targets) if extra else None
        return dataclasses.replace(task, images=_dataset(views, soft_targets), extra=extra_set, recipe=recipe)


def check_teachers(teachers: Sequence[Bundle], labels: Sequence[str], *, is_evaluated: bool) -> None:
    """Raise ValueError if a teacher has other labels, or may have been trained on images that are held out."""
    for teacher in teachers:
        if teacher.labels != tuple(labels):
            ours, theirs = ", ".join(labels), ", ".join(teacher.labels)
            raise ValueError(f"The teacher {teacher.name} has the labels {theirs}, not {ours}: give another teacher.")
        if is_evaluated and teacher.manifest.recipe.get("method") != method.FROZEN:
            problem = f"the backbone of the teacher {teacher.name} may have been trained on images that are held out"
            advice = "leave out --folds and --held-out, or give another teacher"
            raise ValueError(f"--folds and --held-out need a frozen teacher, {problem}: {advice}.")


def prepare(teachers: Sequence[Bundle], task: TrainingTask, context: RunContext, scratch_dir: Path) -> Distillation:
    """Render the views of the task's images, which were read by `views.source_preprocess`, and of the extra ones.

    An extra image has fewer views if an epoch shows it less often than an image of DATA.

    Raises:
        TrainingStopped: `context.stop_requested` returned true.
    """
    recipe = task.recipe
    extra_count = max(1, round(recipe.views * recipe.extra_weight / recipe.weight))
    setting = rendering.Setting(teachers, task.preprocess, recipe.augment, context, scratch_dir)
    views = rendering.render(task.images, recipe.views, task.seed, setting)
    extra = rendering.render(task.extra, extra_count, task.seed + 1, setting) if task.extra else None
    return Distillation(views, extra)


def _dataset(views: Views, soft_targets: FloatArray) -> ImageDataset:
    """Return the views as a data set of their own: one image per view, with these soft targets."""
    images, count = views.images, views.count
    pixels = views.pixels.reshape(-1, *views.pixels.shape[2:])
    return dataclasses.replace(
        images.subset(np.repeat(np.arange(len(images)), count)),
        pixels=pixels,
        rows=(views.rows[:, None] * count + np.arange(count)).reshape(-1),
        soft_targets=soft_targets.reshape(-1, soft_targets.shape[-1]),
    )


def _cross_fitted_targets(views: Views, extra: Views, seed: int) -> tuple[FloatArray, FloatArray]:
    """Return probabilities [N, views, classes] of the images and the extra ones, from heads fitted without them."""
    folds = crossvalidation.split_into_few(views.images, seed)
    extra_folds = np.array_split(np.random.default_rng(seed).permutation(len(extra.images)), len(folds))
    inverse_regularization = _best_inverse_regularization(_head_data(views, extra), folds, min(HEAD_VIEWS, views.count))
    soft_targets, extra_targets = (
        np.empty((len(each.images), each.count, len(views.images.labels)), np.float32) for each in (views, extra)
    )
    for fold, extra_fold in zip(folds, extra_folds, strict=True):
        head = linear_head.fit(_head_data(views.without(fold), extra.without(extra_fold)), inverse_regularization)
        soft_targets[fold] = _probabilities(head, views.select(fold))
        extra_targets[extra_fold] = _probabilities(head, extra.select(extra_fold))
    return soft_targets, extra_targets


def _head_data(views: Views, extra: Views) -> linear_head.TrainingFeatures:
    """Return the first views of each image as training data of a head."""
    return linear_head.TrainingFeatures(*_first_views(views), *_first_views(extra))


def _first_views(views: Views) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Return features [n, F] and classes [n] of the views that heads are fitted on."""
    features = views.features[views.rows, :HEAD_VIEWS]
    return features.reshape(-1, features.shape[2]), np.repeat(views.images.targets, features.shape[1])


def _best_inverse_regularization(
    data: linear_head.TrainingFeatures, folds: crossvalidation.FoldIndices, views: int
) -> float:
    """Return that whose heads have the lowest log loss on the images of folds that they were not fitted on."""
    view_folds = [(fold[:, None] * views + np.arange(views)).reshape(-1) for fold in folds]
    logits = linear_head.held_out_logits(data, view_folds, on_fit=lambda: None)
    losses = [metrics.log_loss(calibration.probabilities(each, 1.0), data.targets) for each in logits]
    return linear_head.INVERSE_REGULARIZATIONS[int(np.argmin(losses))]


def _probabilities(head: LinearHead, views: Views) -> FloatArray:
    """Return the probabilities [N, views, classes] by a head for all views of some images."""
    features = views.features[views.rows]
    logits = head.logits(features.reshape(-1, features.shape[2]))
    probabilities = calibration.probabilities(logits, 1.0).astype(np.float32)
    return probabilities.reshape(*features.shape[:2], logits.shape[1])
