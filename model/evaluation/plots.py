"""Plot the evaluation of a classifier to PNG files."""

from __future__ import annotations

import contextlib
import os
import textwrap
import warnings
from typing import TYPE_CHECKING, BinaryIO

import matplotlib as mpl
import numpy as np
import sklearn.calibration
import sklearn.metrics
from matplotlib.figure import Figure

from imaging import decode
from model.evaluation import metrics

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from PIL.Image import Image

    from model.evaluation.metrics import Floats, Integers

MAX_MISTAKES = 24
_COLUMNS = 6


@contextlib.contextmanager
def literal_text() -> Iterator[None]:
    """Draw labels and file names literally: no formulas between dollars, no warning about missing glyphs."""
    with mpl.rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


def confusion(path: Path, counts: Sequence[Sequence[int]], labels: Sequence[str]) -> None:
    """Plot the confusion matrix."""
    side = max(4, len(labels) * 0.6 + 2)
    figure, axis = _new_figure("confusion matrix", side + 1, side)
    display = sklearn.metrics.ConfusionMatrixDisplay(np.array(counts), display_labels=labels)
    display.plot(ax=axis, cmap="Blues", xticks_rotation="vertical" if len(labels) > 3 else "horizontal")
    axis.set(xlabel="predicted", ylabel="true")
    figure.savefig(path)


def roc(path: Path, probabilities: Floats, targets: Integers, labels: Sequence[str]) -> None:
    """Plot the ROC curve of each class against the rest."""
    figure, axis = _new_figure("ROC")
    for index in metrics.scored_classes(probabilities, targets):
        sklearn.metrics.RocCurveDisplay.from_predictions(
            targets == index, probabilities[:, index], name=labels[index], ax=axis
        )
    axis.axline((0, 0), slope=1, color="grey", linestyle=":")
    _save(figure, axis, path, "false positive rate", "true positive rate")


def precision_recall(path: Path, probabilities: Floats, targets: Integers, labels: Sequence[str]) -> None:
    """Plot the precision-recall curve of each class against the rest."""
    figure, axis = _new_figure("precision and recall")
    for index in metrics.scored_classes(probabilities, targets):
        sklearn.metrics.PrecisionRecallDisplay.from_predictions(
            targets == index, probabilities[:, index], name=labels[index], ax=axis
        )
    _save(figure, axis, path, "recall", "precision")


def reliability(path: Path, probabilities: Floats, targets: Integers) -> None:
    """Plot the share of correct predictions against the confidence; a calibrated classifier is on the diagonal."""
    error = metrics.calibration_error(probabilities, targets)
    figure, axis = _new_figure(f"reliability (expected calibration error {error:.3f})")
    correct = probabilities.argmax(axis=1) == targets
    sklearn.calibration.CalibrationDisplay.from_predictions(
        correct, probabilities.max(axis=1), n_bins=metrics.CALIBRATION_BINS, pos_label=True, ax=axis, name="predictions"
    )
    _save(figure, axis, path, "mean confidence", "share of correct predictions")


def mistakes(
    path: Path | BinaryIO, probabilities: Floats, targets: Integers, labels: Sequence[str], paths: Sequence[Path]
) -> None:
    """Draw the misclassified images whose true class has the lowest probability, as a PNG file."""
    predicted = probabilities.argmax(axis=1)
    wrong = metrics.most_doubted(probabilities, targets)
    worst = wrong[:MAX_MISTAKES]
    rows = max(1, -(-len(worst) // _COLUMNS))
    figure = Figure(figsize=(2.4 * _COLUMNS, 3 * rows), layout="constrained", dpi=80)
    figure.suptitle(f"the {len(worst)} worst of {len(wrong)} mistakes in {len(targets)} images")
    for cell, position in enumerate(worst, start=1):
        axis = figure.add_subplot(rows, _COLUMNS, cell)
        axis.imshow(np.asarray(_thumbnail(paths[position])))
        confidence = probabilities[position, predicted[position]]
        caption = f"{labels[targets[position]]}, predicted {labels[predicted[position]]} {confidence:.2f}"
        # Matplotlib takes no name with bytes that are not UTF-8.
        name = os.fsencode(paths[position].name).decode(errors="replace")
        axis.set_title(f"{caption}\n{textwrap.shorten(name, 30)}", fontsize="x-small")
        axis.axis("off")
    figure.savefig(path)


def _thumbnail(path: Path) -> Image:
    image = decode.open_image(path.read_bytes(), min_size=(200, 200))
    image.thumbnail((200, 200))
    return image


def _new_figure(title: str, width: float = 5, height: float = 5) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained", dpi=100)
    axis = figure.add_subplot()
    axis.set_title(title)
    return figure, axis


def _save(figure: Figure, axis: Axes, path: Path, x_label: str, y_label: str) -> None:
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    axis.grid(alpha=0.3)
    figure.savefig(path)
