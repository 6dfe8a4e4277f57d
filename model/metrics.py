"""Keeps the figures by which a classifier is judged, from probabilities and true classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.floating[Any]]
    Integers = npt.NDArray[np.integer[Any]]

BINS = 10


def judge(probabilities: Floats, targets: Integers, labels: Sequence[str]) -> dict[str, Any]:
    """All figures as plain JSON values.

    Args:
        probabilities: [N, C], rows that sum to 1.
        targets: [N], the true class of each row.
        labels: the C names.

    Returns:
        `count`, `accuracy`, `balanced_accuracy` (mean recall; the network's publication called it AUC), `auc`
        (from scores: of the second class if there are two, else the mean of one against the rest), `ece`,
        `nll`, `classes` (precision, recall, f1 and support by label) and `confusion` (rows: truth).
    """
    confusion = confusion_of(probabilities.argmax(axis=1), targets, len(labels))
    classes = {label: _class_figures(confusion, index) for index, label in enumerate(labels)}
    scored = [1] if len(labels) == 2 else range(len(labels))
    return {
        "count": len(targets),
        "accuracy": float(np.trace(confusion) / max(1, len(targets))),
        "balanced_accuracy": float(np.mean([figures["recall"] for figures in classes.values()])),
        "auc": float(np.mean([auc(probabilities[:, index], targets == index) for index in scored])),
        "ece": calibration_error(probabilities, targets),
        "nll": log_loss(probabilities, targets),
        "classes": classes,
        "confusion": confusion.tolist(),
    }


def confusion_of(predicted: Integers, targets: Integers, classes: int) -> npt.NDArray[np.int64]:
    """Counts [C, C]: rows are the truth, columns what was said."""
    counts = np.bincount(targets * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes)


def auc(scores: Floats, positive: npt.NDArray[np.bool_]) -> float:
    """The chance that a positive scores above a negative, ties counting half; 0.5 without both."""
    positives, negatives = scores[positive], np.sort(scores[~positive])
    if not positives.size or not negatives.size:
        return 0.5
    below = np.searchsorted(negatives, positives, side="left")
    up_to = np.searchsorted(negatives, positives, side="right")
    return float((below + up_to).mean() / (2 * negatives.size))


def calibration_error(probabilities: Floats, targets: Integers) -> float:
    """Expected calibration error: |confidence - accuracy|, weighted over ten bins (Guo and others, 2017)."""
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == targets
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs(float((confidence - right)[bins == index].sum())) for index in range(BINS)]
    return sum(gaps) / max(1, len(targets))


def log_loss(probabilities: Floats, targets: Integers) -> float:
    """The mean negative logarithm of the probability that the truth was given."""
    chosen = probabilities[np.arange(len(targets)), targets]
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())


def _class_figures(confusion: npt.NDArray[np.int64], index: int) -> dict[str, float]:
    hits, said, support = (
        int(confusion[index, index]),
        int(confusion[:, index].sum()),
        int(confusion[index].sum()),
    )
    precision, recall = hits / max(1, said), hits / max(1, support)
    f1 = 2 * hits / max(1, said + support)
    return {"precision": precision, "recall": recall, "f1": f1, "support": support}
