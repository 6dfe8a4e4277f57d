"""Keeps cross-validation: what a recipe is worth on pictures it was not trained on, with the spread."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from model import calibration, fitting, inputs, metrics
from model import data as datasets

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import nn

    from model.fitting import Recipe
    from model.manifest import Network
    from model.preprocess import Preprocess

FIGURES = ("accuracy", "balanced_accuracy", "auc", "ece")


@dataclasses.dataclass(frozen=True)
class Result:
    """Figures of each fold with mean and spread, and the temperature that all held-out answers ask for."""

    figures: dict[str, Any]
    temperature: float


def run(
    large: datasets.Photos,
    served: datasets.Photos,
    extra: datasets.Photos | None,
    network: Network,
    shape: Preprocess,
    recipe: Recipe,
    folds: int,
    seed: int,
) -> Result:
    """Trains once a fold on the others (and on all of `extra`), and judges on the fold as it would be served.

    Args:
        large: the pictures at the size that augmentation crops from.
        served: the same pictures, as `shape` serves them.
        extra: more pictures for training only; no figure is taken from them.
        network: what is trained.
        shape: the preprocessing of serving.
        recipe: how it is trained.
        folds: how many parts, at least 2.
        seed: shuffles the parts and starts the weights.
    """
    if not 2 <= folds <= min(large.counts().values()):
        smallest = min(large.counts().values())
        raise datasets.BadData(f"--folds must be 2 to {smallest} (the smallest class), not {folds}.")
    parts = split(large.targets, folds, seed)
    logits = np.zeros((len(large), len(large.labels)))
    for number, part in enumerate(parts, start=1):
        rest = large.subset(np.setdiff1d(np.arange(len(large)), part))
        photos = datasets.join(rest, extra) if extra else rest
        trained = fitting.fit(photos, network, shape, recipe, seed, f"fold {number}/{folds}")
        logits[part] = logits_of(trained, served.pixels[part], shape)
    return _judged(logits, served, parts)


def split(targets: npt.NDArray[np.int64], folds: int, seed: int) -> list[npt.NDArray[np.int64]]:
    """Positions of each part, sorted; every class is spread evenly."""
    random = np.random.default_rng(seed)
    part_of = np.empty(len(targets), dtype=np.int64)
    for target in np.unique(targets):
        positions = random.permutation(np.flatnonzero(targets == target))
        part_of[positions] = np.arange(len(positions)) % folds
    return [np.flatnonzero(part_of == part) for part in range(folds)]


@torch.inference_mode()
def logits_of(network: nn.Module, pixels: npt.NDArray[np.uint8], shape: Preprocess) -> npt.NDArray[np.float32]:
    """What a network in eval mode says before the softmax, 64 pictures at a time."""
    normalise = inputs.Normalise(shape)
    whole = torch.from_numpy(pixels)
    batches = [normalise.pixels(whole[start : start + 64]) for start in range(0, len(whole), 64)]
    logits: npt.NDArray[np.float32] = torch.cat([network(batch) for batch in batches]).numpy()
    return logits


def _judged(logits: npt.NDArray[np.float64], served: datasets.Photos, parts: list[npt.NDArray[np.int64]]) -> Result:
    """Each fold is judged with the temperature that the *other* folds ask for, so its calibration is held out too."""
    each = []
    for part in parts:
        others = np.setdiff1d(np.arange(len(served)), part)
        temperature = calibration.temperature_for(logits[others], served.targets[others])
        scores = calibration.probabilities(logits[part], temperature)
        each.append(metrics.judge(scores, served.targets[part], served.labels))
    figures = {name: _spread([fold[name] for fold in each]) for name in FIGURES}
    whole = {"folds": len(parts), "count": len(served), **figures}
    return Result(whole, calibration.temperature_for(logits, served.targets))


def _spread(values: list[float]) -> dict[str, Any]:
    deviation = float(np.std(values, ddof=1))
    rounded = [round(value, 4) for value in values]
    return {"mean": round(float(np.mean(values)), 4), "deviation": round(deviation, 4), "each": rounded}
