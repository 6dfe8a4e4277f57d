"""Calibrate a network's confidence by temperature scaling."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import optimize, special

from model.evaluation import metrics

if TYPE_CHECKING:
    import numpy.typing as npt

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.1, 10


def probabilities(logits: npt.NDArray[np.floating[Any]], temperature: float) -> npt.NDArray[np.float64]:
    """Return the softmax of logits [N, C] / temperature."""
    softmax: npt.NDArray[np.float64] = special.softmax(logits.astype(np.float64) / temperature, axis=1)
    return softmax


def fit_temperature(logits: npt.NDArray[np.floating[Any]], targets: npt.NDArray[np.int64]) -> float:
    """Return the temperature in 0.1..10 with the lowest log loss on held-out images."""

    def loss(log_temperature: float) -> float:
        return metrics.log_loss(probabilities(logits, math.exp(log_temperature)), targets)

    # There is one minimum, because the loss is convex in the inverse of the temperature.
    optimum = optimize.minimize_scalar(
        loss, bounds=(math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)), method="bounded"
    )
    return math.exp(float(optimum.x))
