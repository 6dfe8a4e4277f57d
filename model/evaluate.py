"""Keeps the judgement of a bundle on labelled pictures: `python -m model.evaluate BUNDLE DATA`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model import answers, metrics, plots, selftest
from model import data as datasets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model.classifier import Classifier


@dataclasses.dataclass(frozen=True)
class Judged:
    """What a classifier said of labelled pictures, probabilities [N, C], and the figures of that."""

    photos: datasets.Photos
    probabilities: metrics.Floats
    figures: dict[str, Any]


def evaluate(classifier: Classifier, folders: Sequence[Path]) -> Judged:
    """Reads some folders as the bundle does in service, and judges its answers.

    A class that the bundle knows may be missing; its recall is not defined then. One that it does not know may not
    be there: whatever it answered would be wrong, and would tell nothing.

    Raises:
        BadData: for folders that cannot be judged on.
    """
    bundle = classifier.bundle
    photos = datasets.read(folders, bundle.preprocess, labels=bundle.labels, partly=True)
    starts = range(0, len(photos), answers.BATCH)
    parts = [classifier.classify(photos.take(slice(start, start + answers.BATCH))) for start in starts]
    probabilities = np.concatenate(parts)
    model = {"name": bundle.name, "version": bundle.version, "digest": bundle.digest}
    skipped = [{"image": str(one.path), "reason": one.reason} for one in photos.skipped]
    figures = metrics.judge(probabilities, photos.targets, photos.labels)
    return Judged(photos, probabilities, {"model": model, **figures, "skipped": skipped})


def report(figures: dict[str, Any]) -> str:
    """The figures in the form in which the network's publication printed its own."""
    wide = max(12, *(len(label) for label in figures["per_class"]))
    lines = [f"{'':{wide}}  precision  recall  f1-score  support"]
    for label, row in (*figures["per_class"].items(), ("avg / total", _average(figures))):
        shares = f"{_two(row['precision']):>9}  {_two(row['recall']):>6}  {_two(row['f1']):>8}"
        lines.append(f"{label:>{wide}}  {shares}  {row['support']:7d}")
    area = "not defined" if figures["auc"] is None else f"{figures['auc']:.4f}"
    return "\n".join(
        [
            *lines,
            "",
            f"accuracy           {figures['accuracy']:.4f}",
            f"AUC from scores    {area}",
            f"balanced accuracy  {figures['balanced_accuracy']:.4f} (the publication called this AUC)",
            f"log loss           {figures['log_loss']:.4f}",
            f"calibration error  {figures['ece']:.4f}",
        ]
    )


def write(folder: Path, judged: Judged) -> None:
    """The report as files: metrics.json, report.txt and five pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(_json(judged.figures), "utf-8")
    (folder / "report.txt").write_text(report(judged.figures) + "\n", "utf-8")
    photos, shown = judged.photos, (judged.probabilities, judged.photos.targets)
    with plots.names_as_they_are():
        plots.confusion(folder / "confusion_matrix.png", judged.figures["confusion"], photos.labels)
        plots.roc(folder / "roc.png", *shown, photos.labels)
        plots.precision_recall(folder / "precision_recall.png", *shown, photos.labels)
        plots.reliability(folder / "reliability.png", *shown)
        plots.mistakes(folder / "mistakes.png", *shown, photos.labels, photos.paths)


def _average(figures: dict[str, Any]) -> dict[str, Any]:
    """Weighted by support, as the publication's report was."""
    rows = [row for row in figures["per_class"].values() if row["support"]]
    supports = [row["support"] for row in rows]
    means = {
        name: float(np.average([row[name] for row in rows], weights=supports)) for name in ("precision", "recall", "f1")
    }
    return {**means, "support": sum(supports)}


def _two(share: float | None) -> str:
    return "-" if share is None else f"{share:.2f}"


def _json(figures: dict[str, Any]) -> str:
    return json.dumps(figures, indent=2) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the report: 0 done, 1 it could not be written, 2 usage, a bad bundle or unusable data."""
    parser = argparse.ArgumentParser(prog="model.evaluate", description="Judges a bundle on labelled pictures.")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("data", type=Path, nargs="+", metavar="DATA", help="a folder with a sub-folder for each class")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write figures and pictures here")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (auto)")
    parser.add_argument("--json", action="store_true", help="print metrics.json instead of the report")
    chosen = parser.parse_args(arguments)
    try:
        judged = evaluate(selftest.opened(chosen.bundle, chosen.device), chosen.data)
    except (ValueError, OSError) as wrong:
        sys.stderr.write(f"model.evaluate: {wrong}\n")
        return 2
    for one in judged.photos.skipped:
        sys.stderr.write(f"skipped {one.path}: {one.reason}\n")
    for label, count in judged.photos.counts().items():
        if not count:
            sys.stderr.write(f"There are no pictures of {label}: it has no recall, and no part in the means.\n")
    sys.stdout.write(_json(judged.figures) if chosen.json else report(judged.figures) + "\n")
    try:
        if chosen.report:
            write(chosen.report, judged)
    except OSError as wrong:
        sys.stderr.write(f"model.evaluate: the report cannot be written ({wrong}): give another folder.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
