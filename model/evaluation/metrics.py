"""Compute a classifier's metrics from probabilities and true classes with scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn import metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.floating[Any]]
    Integers = npt.NDArray[np.integer[Any]]

CALIBRATION_BINS = 10


def compute_metrics(probabilities: Floats, targets: Integers, labels: Sequence[str]) -> dict[str, Any]:
    """Return all metrics as plain JSON values.

    A class without images has no recall and no f1 (None), and is left out of the means over classes.

    Args:
        probabilities: [N, C], rows that sum to 1.
        targets: [N], the true class of each row.
        labels: the C names.

    Returns:
        `count`, `accuracy`, `balanced_accuracy` (mean recall; the network's publication called it AUC), `auc` (see
        `auc`), `log_loss`, `ece`, `per_class` (precision, recall, f1 and support by label) and `confusion` (one row
        per true class, in the order of the labels).
    """
    predicted, class_indices = probabilities.argmax(axis=1), np.arange(len(labels))
    rows = np.array(
        metrics.precision_recall_fscore_support(targets, predicted, labels=class_indices, zero_division=0)
    ).T
    per_class = {label: _class_row(*row) for label, row in zip(labels, rows, strict=True)}
    return {
        "count": len(targets),
        "accuracy": float(metrics.accuracy_score(targets, predicted)),
        "balanced_accuracy": float(np.mean([row["recall"] for row in per_class.values() if row["support"]])),
        "auc": auc(probabilities, targets),
        "log_loss": log_loss(probabilities, targets),
        "ece": calibration_error(probabilities, targets),
        "per_class": per_class,
        "confusion": metrics.confusion_matrix(targets, predicted, labels=class_indices).tolist(),
    }


def auc(probabilities: Floats, targets: Integers) -> float | None:
    """Return the area under the ROC curve: of the second of two classes, else the mean of each class against the rest.

    None if all images are of one class.
    """
    class_aucs = [
        metrics.roc_auc_score(targets == index, probabilities[:, index])
        for index in scored_classes(probabilities, targets)
    ]
    return float(np.mean(class_aucs)) if class_aucs else None


def scored_classes(probabilities: Floats, targets: Integers) -> list[int]:
    """Return the classes to compare with the rest: those with some but not all images, and one of two."""
    classes = probabilities.shape[1]
    candidates = [1] if classes == 2 else range(classes)
    return [index for index in candidates if 0 < (targets == index).sum() < len(targets)]


def most_doubted(probabilities: Floats, targets: Integers) -> Integers:
    """Return the positions of the misclassified images, the least probable true class first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != targets)
    positions: Integers = wrong[np.argsort(probabilities[wrong, targets[wrong]], kind="stable")]
    return positions


def log_loss(probabilities: Floats, targets: Integers) -> float:
    """Return the mean negative log probability of the true class."""
    # A float32 row may sum to 1 less exactly than scikit-learn accepts.
    normalized = probabilities.astype(np.float64)
    normalized /= normalized.sum(axis=1, keepdims=True)
    return float(metrics.log_loss(targets, normalized, labels=np.arange(probabilities.shape[1])))


def calibration_error(probabilities: Floats, targets: Integers) -> float:
    """Return the expected calibration error: |confidence - accuracy|, weighted over ten bins (Guo and others, 2017)."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == targets
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    excess = np.bincount(bins, weights=confidence - correct, minlength=CALIBRATION_BINS)
    return float(np.abs(excess).sum() / max(1, len(targets)))


def _class_row(precision: float, recall: float, f1: float, support: float) -> dict[str, Any]:
    has_support = support > 0
    return {
        "precision": float(precision),
        "recall": float(recall) if has_support else None,
        "f1": float(f1) if has_support else None,
        "support": int(support),
    }
