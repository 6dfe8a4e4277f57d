"""Find the training photos whose label the model doubts most, so that people can mend their folders."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, TypedDict

from model.evaluation import metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from model.datasets.dataset import ImageDataset

SHOWN = 10


class LabelDoubt(TypedDict):
    """A photo, its label and the label predicted when it was held out, each with its probability."""

    image: str
    label: str
    probability: float
    predicted: str
    predicted_probability: float


def find(images: ImageDataset, probabilities: npt.NDArray[np.floating[Any]]) -> list[LabelDoubt]:
    """Return the photos that were predicted as another class, the least probable label first.

    Args:
        images: the training photos.
        probabilities: [N, C], of each photo by a network that was trained without it.
    """
    predicted = probabilities.argmax(axis=1)
    return [
        LabelDoubt(
            image=str(images.paths[position]),
            label=images.labels[images.targets[position]],
            probability=round(float(probabilities[position, images.targets[position]]), 4),
            predicted=images.labels[predicted[position]],
            predicted_probability=round(float(probabilities[position, predicted[position]]), 4),
        )
        for position in metrics.most_doubted(probabilities, images.targets)
    ]


def to_csv(doubts: Sequence[LabelDoubt]) -> bytes:
    """Return a CSV file with a header."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(LabelDoubt.__annotations__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(doubts)
    return buffer.getvalue().encode("utf-8", "surrogateescape")


def to_lines(doubts: Sequence[LabelDoubt]) -> list[str]:
    """Return lines for people: the most doubted labels."""
    return [
        f"  {doubt['image']}: {doubt['label']} {doubt['probability']:.2f}, "
        f"predicted {doubt['predicted']} {doubt['predicted_probability']:.2f}"
        for doubt in doubts[:SHOWN]
    ]
