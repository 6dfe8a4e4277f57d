"""Fit a linear head on features: logistic regression, whose regularization is chosen by cross-validation."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import threadpoolctl
from sklearn import linear_model

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from model.training.crossvalidation import FoldIndices, Logits

    Features = npt.NDArray[np.float32]
    Targets = npt.NDArray[np.int64]

# scikit-learn's C: a larger one penalizes the weights less. The smallest ones are for data with wrong labels.
INVERSE_REGULARIZATIONS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
# How much an image of --extra counts beside one of DATA.
EXTRA_WEIGHT = 0.25
MAX_ITERATIONS = 1000


@dataclasses.dataclass(frozen=True)
class TrainingFeatures:
    """Features [N, D] and classes [N] of the images to learn from, and of extra ones, which are never held out."""

    features: Features
    targets: Targets
    extra_features: Features
    extra_targets: Targets

    @classmethod
    def without_extra(cls, features: Features, targets: Targets) -> TrainingFeatures:
        """Return the data of these images only."""
        return cls(features, targets, features[:0], targets[:0])


@dataclasses.dataclass(frozen=True)
class LinearHead:
    """Weights [C, D] and biases [C]: logits = features @ weights.T + biases."""

    weights: npt.NDArray[np.float64]
    biases: npt.NDArray[np.float64]

    def logits(self, features: Features) -> Logits:
        """Return the logits [N, C] of features [N, D]."""
        product: Logits = features @ self.weights.T + self.biases
        return product


def fit(data: TrainingFeatures, inverse_regularization: float) -> LinearHead:
    """Fit a head on all images.

    The features are centred and divided by one number, so that a regularization means the same for every backbone; the
    head includes that. Of two classes, the first gets the negated half of the logit and the second the other half.
    """
    features = np.concatenate([data.features, data.extra_features])
    targets = np.concatenate([data.targets, data.extra_targets])
    mean = data.features.mean(axis=0, dtype=np.float64)
    scale = max(float(np.sqrt(data.features.var(axis=0, dtype=np.float64).mean())), 1e-12)
    regression = linear_model.LogisticRegression(C=inverse_regularization, max_iter=MAX_ITERATIONS)
    sample_weights = np.repeat([1.0, EXTRA_WEIGHT], [len(data.targets), len(data.extra_targets)])
    # The matrices are small: threads would take longer to wait for each other than to compute.
    with threadpoolctl.threadpool_limits(1):
        regression.fit((features - mean.astype(np.float32)) / np.float32(scale), targets, sample_weights)
    coefficients, intercepts = regression.coef_.astype(np.float64), regression.intercept_.astype(np.float64)
    if len(coefficients) == 1:
        coefficients, intercepts = np.outer((-0.5, 0.5), coefficients), np.outer((-0.5, 0.5), intercepts)[:, 0]
    weights = coefficients / scale
    return LinearHead(weights, intercepts - weights @ mean)


def held_out_logits(data: TrainingFeatures, folds: FoldIndices, on_fit: Callable[[], None]) -> Logits:
    """Return the logits [inverse_regularizations, N, C] of each image from heads that were fitted without its fold.

    Args:
        data: the images.
        folds: the positions of each fold, which hold every image once.
        on_fit: called after each fit; an exception ends the work.
    """
    positions = np.arange(len(data.targets))
    logits = np.zeros((len(INVERSE_REGULARIZATIONS), len(positions), data.targets.max() + 1))
    for fold in folds:
        others = np.setdiff1d(positions, fold)
        fold_data = dataclasses.replace(data, features=data.features[others], targets=data.targets[others])
        for index, inverse_regularization in enumerate(INVERSE_REGULARIZATIONS):
            logits[index, fold] = fit(fold_data, inverse_regularization).logits(data.features[fold])
            on_fit()
    return logits
