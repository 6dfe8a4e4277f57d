"""Keeps the pictures of a report: what a figure alone does not tell. Drawn without a screen."""

from __future__ import annotations

import contextlib
import textwrap
import warnings
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from sklearn import metrics as scores

from model import metrics, preprocess

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from PIL.Image import Image

    from model.metrics import Floats, Integers

SHEET = 24
_COLUMNS = 6


@contextlib.contextmanager
def names_as_they_are() -> Iterator[None]:
    """Draws labels and file names as text: a dollar begins no formula, and what the font lacks is drawn as a box."""
    with mpl.rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


def confusion(path: Path, counts: Sequence[Sequence[int]], labels: Sequence[str]) -> None:
    """How often each class was taken for which."""
    side = max(4, len(labels) * 0.6 + 2)
    figure, axis = _blank("confusion matrix", side + 1, side)
    display = scores.ConfusionMatrixDisplay(np.array(counts), display_labels=labels)
    display.plot(ax=axis, cmap="Blues", xticks_rotation="vertical" if len(labels) > 3 else "horizontal")
    axis.set(xlabel="answer", ylabel="truth")
    figure.savefig(path)


def roc(path: Path, probabilities: Floats, targets: Integers, labels: Sequence[str]) -> None:
    """True against false positives, a curve for each class against the rest."""
    figure, axis = _blank("ROC")
    for index in _drawable(probabilities, targets):
        false, true, _ = scores.roc_curve(targets == index, probabilities[:, index])
        axis.plot(false, true, label=f"{labels[index]} (AUC {scores.auc(false, true):.3f})")
    axis.plot([0, 1], [0, 1], color="grey", linestyle=":")
    _finish(figure, axis, path, "false positive rate", "true positive rate")


def precision_recall(path: Path, probabilities: Floats, targets: Integers, labels: Sequence[str]) -> None:
    """Precision against recall, a curve for each class against the rest."""
    figure, axis = _blank("precision and recall")
    for index in _drawable(probabilities, targets):
        precision, recall, _ = scores.precision_recall_curve(targets == index, probabilities[:, index])
        average = scores.average_precision_score(targets == index, probabilities[:, index])
        axis.plot(recall, precision, label=f"{labels[index]} (average precision {average:.3f})")
    _finish(figure, axis, path, "recall", "precision")


def reliability(path: Path, probabilities: Floats, targets: Integers) -> None:
    """The share of right answers at each confidence: on the diagonal, confidence means what it says."""
    counts, confidence, accuracy = metrics.reliability(probabilities, targets)
    figure, axis = _blank(
        f"reliability (expected calibration error {metrics.calibration_error(probabilities, targets):.3f})"
    )
    filled, middles = counts > 0, (np.arange(metrics.BINS) + 0.5) / metrics.BINS
    axis.bar(middles[filled], accuracy[filled], width=0.9 / metrics.BINS, alpha=0.6, label="right answers")
    axis.plot(confidence[filled], accuracy[filled], "o", color="black", markersize=3, label="at mean confidence")
    for middle, share, count in zip(middles[filled], accuracy[filled], counts[filled], strict=True):
        axis.annotate(f"{int(count)}", (middle, share), ha="center", va="bottom", fontsize="small")
    axis.plot([0, 1], [0, 1], color="grey", linestyle=":")
    axis.set_ylim(0, 1.08)
    _finish(figure, axis, path, "confidence", "share of right answers (with their number)")


def mistakes(
    path: Path, probabilities: Floats, targets: Integers, labels: Sequence[str], paths: Sequence[Path]
) -> None:
    """The pictures that were answered wrongly with the most confidence."""
    said = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(said != targets)
    worst = wrong[np.argsort(-probabilities[wrong, said[wrong]], kind="stable")][:SHEET]
    rows = max(1, -(-len(worst) // _COLUMNS))
    figure = Figure(figsize=(2.4 * _COLUMNS, 3 * rows), layout="constrained", dpi=80)
    figure.suptitle(f"the {len(worst)} worst of {len(wrong)} mistakes in {len(targets)} pictures")
    for place, position in enumerate(worst, start=1):
        axis = figure.add_subplot(rows, _COLUMNS, place)
        axis.imshow(np.asarray(_small(paths[position])))
        confidence = probabilities[position, said[position]]
        told = f"{labels[targets[position]]}, said {labels[said[position]]} {confidence:.2f}"
        axis.set_title(f"{told}\n{textwrap.shorten(paths[position].name, 30)}", fontsize="x-small")
        axis.axis("off")
    figure.savefig(path)


def _small(path: Path) -> Image:
    picture = preprocess.open_picture(path.read_bytes(), at_least=(200, 200))
    picture.thumbnail((200, 200))
    return picture


def _drawable(probabilities: Floats, targets: Integers) -> list[int]:
    """The classes with a curve: those that some pictures are of, and some are not."""
    judged = metrics.scored(probabilities.shape[1])
    return [index for index in judged if 0 < (targets == index).sum() < len(targets)]


def _blank(title: str, width: float = 5, height: float = 5) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained", dpi=100)
    axis = figure.add_subplot()
    axis.set_title(title)
    return figure, axis


def _finish(figure: Figure, axis: Axes, path: Path, x: str, y: str) -> None:
    labelled: dict[str, Any] = {"xlabel": x, "ylabel": y}
    axis.set(**labelled)
    axis.grid(alpha=0.3)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize="small")
    figure.savefig(path)
