"""Metrics that can be computed by hand."""

import numpy as np
import pytest

from model.evaluation import metrics


def two_classes(scores):
    """Return the probabilities of two classes from those of the second."""
    return np.stack([1 - np.array(scores), np.array(scores)], axis=1)


def test_the_published_confusion_gives_the_published_metrics():
    """Published: 132 sandwiches with recall .89, 134 sushi with recall .47, accuracy 181/266."""
    targets = np.array([0] * 132 + [1] * 134)
    predicted = np.array([0] * 118 + [1] * 14 + [0] * 71 + [1] * 63)

    metric_values = metrics.compute_metrics(two_classes(predicted.astype(float)), targets, ("sandwich", "sushi"))

    rounded = {
        label: [round(row[name], 2) for name in ("precision", "recall", "f1")]
        for label, row in metric_values["per_class"].items()
    }
    assert rounded == {"sandwich": [0.62, 0.89, 0.74], "sushi": [0.82, 0.47, 0.6]}
    assert metric_values["accuracy"] == pytest.approx(181 / 266)
    assert round(metric_values["balanced_accuracy"], 2) == 0.68
    assert metric_values["auc"] == pytest.approx(metric_values["balanced_accuracy"])
    assert metric_values["confusion"] == [[118, 14], [71, 63]]


def test_auc_is_the_share_of_correctly_ordered_pairs():
    targets = np.array([0, 0, 1, 1])

    assert metrics.auc(two_classes([0.1, 0.4, 0.35, 0.8]), targets) == 0.75
    assert metrics.auc(two_classes([0.5, 0.5, 0.5, 0.5]), targets) == 0.5
    assert metrics.auc(two_classes([0.1, 0.2]), np.array([1, 1])) is None


def test_a_class_without_images_has_no_recall_and_is_left_out_of_the_mean():
    metric_values = metrics.compute_metrics(np.eye(3)[[0, 1, 2]], np.array([0, 1, 1]), ("a", "b", "c"))

    assert metric_values["per_class"]["c"] == {"precision": 0, "recall": None, "f1": None, "support": 0}
    assert metric_values["balanced_accuracy"] == 0.75


def test_float32_rows_that_sum_to_nearly_one_are_accepted():
    assert metrics.log_loss(np.array([[0.3, 0.7000002]], np.float32), np.array([1])) == pytest.approx(0.35667, abs=1e-4)


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    targets = np.array([1] * 8 + [0] * 2)

    assert metrics.calibration_error(two_classes([0.8] * 10), targets) == pytest.approx(0)
    assert metrics.calibration_error(two_classes([0.95] * 10), targets) == pytest.approx(0.15)
    assert metrics.calibration_error(two_classes([1.0] * 10), targets) == pytest.approx(0.2)


def test_a_class_that_is_never_predicted_has_precision_zero():
    metric_values = metrics.compute_metrics(two_classes([0.1, 0.2]), np.array([0, 1]), ("a", "b"))

    assert metric_values["per_class"]["b"] == {"precision": 0, "recall": 0, "f1": 0, "support": 1}


def test_three_classes_are_evaluated_one_against_the_rest():
    probabilities = np.eye(3)[[0, 1, 2, 2]] * 0.7 + 0.1

    metric_values = metrics.compute_metrics(probabilities, np.array([0, 1, 2, 1]), ("a", "b", "c"))

    assert metric_values["accuracy"] == 0.75
    assert metric_values["auc"] == pytest.approx(np.mean([1, 0.75, (2 + 1) / 3 * 0.5 + 1 / 3 * 1.0]), abs=0.2)
    assert metric_values["confusion"] == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
