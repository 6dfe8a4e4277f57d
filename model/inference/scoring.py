"""Turn a batch of probabilities into labels, confidences and scores."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypedDict

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

SCORE_DIGITS = 6  # further digits depend on the batch size
FAMILIARITY_DIGITS = 4  # a share of some hundred photos


class Prediction(TypedDict):
    """An image's label, its probability, the probability of every label, and how familiar the image is."""

    label: str
    confidence: float
    scores: dict[str, float]
    familiarity: float | None
    """The share of held-out training photos that are less familiar, 0 to 1; None if the bundle has no reference."""


def predictions(
    probabilities: npt.NDArray[np.float32],
    labels: Sequence[str],
    familiarity: npt.NDArray[np.float32] | None = None,
) -> Iterator[Prediction | None]:
    """Yield one prediction per row of probabilities [N, classes], rounded to six digits.

    Yields None for a row with NaN or infinity, and for every row if there is not one column per label. The familiarity,
    if there is one, is [N]; NaN is unknown.
    """
    if probabilities.shape[1:] != (len(labels),):
        yield from (None for _ in probabilities)
        return
    # The whole batch at once: numpy calls per image would take longer than the forward pass on a GPU.
    rounded_rows = np.round(probabilities.astype(np.float64), SCORE_DIGITS).tolist()
    best_columns = probabilities.argmax(axis=1).tolist()
    finite_rows: list[bool] = np.isfinite(probabilities).all(axis=1).tolist()  # type: ignore[assignment]
    familiarities = [None] * len(rounded_rows) if familiarity is None else _round_familiarity(familiarity)
    for row, best, is_finite, familiar in zip(rounded_rows, best_columns, finite_rows, familiarities, strict=True):
        scores = dict(zip(labels, row, strict=True))
        prediction = Prediction(label=labels[best], confidence=row[best], scores=scores, familiarity=familiar)
        yield prediction if is_finite else None


def _round_familiarity(familiarity: npt.NDArray[np.float32]) -> list[float | None]:
    rounded: list[float] = np.round(familiarity.astype(np.float64), FAMILIARITY_DIGITS).tolist()
    return [value if math.isfinite(value) else None for value in rounded]
