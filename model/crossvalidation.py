"""Keeps cross-validation: what a recipe is worth on pictures it was not trained on, with the spread."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from model import calibration, fitting, metrics, training
from model import data as datasets

if TYPE_CHECKING:
    import numpy.typing as npt

    Parts = list[npt.NDArray[np.int64]]

FIGURES = ("accuracy", "balanced_accuracy", "auc", "log_loss", "ece")


@dataclasses.dataclass(frozen=True)
class Result:
    """Figures of each fold with mean and spread, and what all held-out answers together ask for.

    `temperature` is what they calibrate; `epoch` (1 is the first) is where they are best, or the last one.
    """

    figures: dict[str, Any]
    temperature: float
    epoch: int


def run(task: training.Task, served: datasets.Photos, folds: int, place: training.Place) -> Result:
    """Trains once a fold on the others (and on all of `task.extra`), and judges on the fold as it would be served.

    Args:
        task: the training whose recipe is to be judged, with all of its pictures.
        served: the same pictures, as they are served.
        folds: how many parts, at least 2.
        place: where to train.
    """
    check(folds, task.photos)
    parts = split(task.photos.targets, folds, task.seed)
    logits = np.zeros((task.recipe.epochs, len(served), len(served.labels)))
    for number, part in enumerate(parts, start=1):
        rest = task.photos.subset(np.setdiff1d(np.arange(len(task.photos)), part))
        title = f"fold {number}/{len(parts)}"
        fold = dataclasses.replace(task, title=title, photos=rest, held_out=served.subset(part))
        logits[:, part] = fitting.fit(fold, place).held_out.numpy()
    return judged(logits if task.recipe.early else logits[-1:], served, parts, task.recipe.epochs)


def check(folds: int, photos: datasets.Photos) -> None:
    """Raises BadData for a number of folds that these pictures cannot be split into."""
    smallest = min(photos.counts().values())
    if smallest < 2:
        raise datasets.BadData("--folds needs at least 2 pictures of each class; add pictures or leave it out.")
    if not 2 <= folds <= smallest:
        raise datasets.BadData(f"--folds must be 2 to {smallest} (the smallest class), not {folds}.")


def split(targets: npt.NDArray[np.int64], folds: int, seed: int) -> Parts:
    """Positions of each part, sorted; every class is spread evenly."""
    random = np.random.default_rng(seed)
    part_of = np.empty(len(targets), dtype=np.int64)
    for target in np.unique(targets):
        positions = random.permutation(np.flatnonzero(targets == target))
        part_of[positions] = np.arange(len(positions)) % folds
    return [np.flatnonzero(part_of == part) for part in range(folds)]


def judged(logits: npt.NDArray[np.float64], served: datasets.Photos, parts: Parts, epochs: int) -> Result:
    """The figures for held-out logits [epochs to choose from, N, C], of which the last are of epoch `epochs`.

    Each fold is judged at the epoch and with the temperature that the *other* folds ask for, so that both are held
    out too.
    """
    each = []
    for part in parts:
        others = np.setdiff1d(np.arange(len(served)), part)
        best = _best(logits[:, others], served.targets[others])
        temperature = calibration.temperature_for(logits[best, others], served.targets[others])
        scores = calibration.probabilities(logits[best, part], temperature)
        each.append(metrics.judge(scores, served.targets[part], served.labels))
    figures = {name: _spread([fold[name] for fold in each]) for name in FIGURES}
    best = _best(logits, served.targets)
    epoch = epochs - len(logits) + best + 1
    whole = {"folds": len(parts), "count": len(served), "epoch": epoch, **figures}
    return Result(whole, calibration.temperature_for(logits[best], served.targets), epoch)


def _best(logits: npt.NDArray[np.float64], targets: npt.NDArray[np.int64]) -> int:
    """The position of the epoch with the smallest log loss over all these pictures."""
    if len(logits) == 1:
        return 0
    return int(np.argmin([metrics.log_loss(calibration.probabilities(one, 1.0), targets) for one in logits]))


def _spread(values: list[float]) -> dict[str, Any]:
    deviation = float(np.std(values, ddof=1))
    rounded = [round(value, 4) for value in values]
    return {"mean": round(float(np.mean(values)), 4), "deviation": round(deviation, 4), "each": rounded}
