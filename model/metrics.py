"""Keeps the figures by which a classifier is judged, from probabilities and true classes, computed by scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn import metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.floating[Any]]
    Integers = npt.NDArray[np.integer[Any]]

BINS = 10


def judge(probabilities: Floats, targets: Integers, labels: Sequence[str]) -> dict[str, Any]:
    """All figures as plain JSON values.

    A class without pictures has no recall and no f1 (None), and takes no part in the means over the classes.

    Args:
        probabilities: [N, C], rows that sum to 1.
        targets: [N], the true class of each row.
        labels: the C names.

    Returns:
        `count`, `accuracy`, `balanced_accuracy` (mean recall; the network's publication called it AUC), `auc`
        (from scores: of the second class if there are two, else the mean of each against the rest; None where all
        pictures are of one class), `log_loss`, `ece`, `per_class` (precision, recall, f1 and support by label) and
        `confusion` (rows: truth, in the order of the labels).
    """
    said, known = probabilities.argmax(axis=1), np.arange(len(labels))
    rows = np.array(metrics.precision_recall_fscore_support(targets, said, labels=known, zero_division=0)).T
    per_class = {label: _row(*row) for label, row in zip(labels, rows, strict=True)}
    return {
        "count": len(targets),
        "accuracy": float(metrics.accuracy_score(targets, said)),
        "balanced_accuracy": float(np.mean([row["recall"] for row in per_class.values() if row["support"]])),
        "auc": auc(probabilities, targets),
        "log_loss": log_loss(probabilities, targets),
        "ece": calibration_error(probabilities, targets),
        "per_class": per_class,
        "confusion": metrics.confusion_matrix(targets, said, labels=known).tolist(),
    }


def auc(probabilities: Floats, targets: Integers) -> float | None:
    """Area under the ROC curve from scores: of the second of two classes, else the mean of each against the rest."""
    judged = [index for index in scored(probabilities.shape[1]) if 0 < (targets == index).sum() < len(targets)]
    each = [metrics.roc_auc_score(targets == index, probabilities[:, index]) for index in judged]
    return float(np.mean(each)) if each else None


def scored(classes: int) -> Sequence[int]:
    """The classes whose scores are judged against the rest; of two, one says it all."""
    return [1] if classes == 2 else range(classes)


def log_loss(probabilities: Floats, targets: Integers) -> float:
    """The mean negative logarithm of the probability that the truth was given."""
    # In float32 a row may sum to 1 a little less exactly than scikit-learn accepts.
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(axis=1, keepdims=True)
    return float(metrics.log_loss(targets, exact, labels=np.arange(probabilities.shape[1])))


def calibration_error(probabilities: Floats, targets: Integers) -> float:
    """Expected calibration error: |confidence - accuracy|, weighted over ten bins (Guo and others, 2017)."""
    counts, confidence, accuracy = reliability(probabilities, targets)
    return float((counts * np.abs(confidence - accuracy)).sum() / max(1, counts.sum()))


def reliability(probabilities: Floats, targets: Integers) -> tuple[Floats, Floats, Floats]:
    """For ten bins of confidence: how many answers, their mean confidence, and the share that is right (0 if empty)."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == targets
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS).astype(np.float64)
    sums = (np.bincount(bins, weights=values, minlength=BINS) for values in (confidence, right))
    mean, share = (total / np.maximum(counts, 1) for total in sums)
    return counts, mean, share


def _row(precision: float, recall: float, f1: float, support: float) -> dict[str, Any]:
    known = support > 0
    return {
        "precision": float(precision),
        "recall": float(recall) if known else None,
        "f1": float(f1) if known else None,
        "support": int(support),
    }
