"""Keeps the judgement of a bundle on labelled pictures: `python -m model.evaluate BUNDLE DATA`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model import bundle as bundles
from model import classifier as classifiers
from model import data as datasets
from model import metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

BATCH = 64


def evaluate(classifier: classifiers.Classifier, photos: datasets.Photos) -> dict[str, Any]:
    """The figures of `metrics.judge` for a data set read with the bundle's own preprocessing and labels."""
    starts = range(0, len(photos), BATCH)
    scores = np.concatenate([classifier.classify(photos.pixels[start : start + BATCH]) for start in starts])
    return metrics.judge(scores, photos.targets, photos.labels)


def report(figures: dict[str, Any]) -> str:
    """The figures in the form in which the network's publication printed its own."""
    wide = max(12, *(len(label) for label in figures["classes"]))
    lines = [f"{'':{wide}}  precision  recall  f1-score  support"]
    for label, row in (*figures["classes"].items(), ("avg / total", _average(figures))):
        shares = f"{row['precision']:9.2f}  {row['recall']:6.2f}  {row['f1']:8.2f}"
        lines.append(f"{label:>{wide}}  {shares}  {row['support']:7d}")
    return "\n".join(
        [
            *lines,
            "",
            f"accuracy           {figures['accuracy']:.4f}",
            f"AUC from scores    {figures['auc']:.4f}",
            f"balanced accuracy  {figures['balanced_accuracy']:.4f} (the publication called this AUC)",
            f"calibration error  {figures['ece']:.4f}",
        ]
    )


def _average(figures: dict[str, Any]) -> dict[str, Any]:
    classes = list(figures["classes"].values())
    supports = [row["support"] for row in classes]
    names = ("precision", "recall", "f1")
    means = {name: float(np.average([row[name] for row in classes], weights=supports)) for name in names}
    return {**means, "support": sum(supports)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the report: 0 done, 2 usage, a bad bundle or unusable data."""
    parser = argparse.ArgumentParser(prog="model.evaluate", description="Judges a bundle on labelled pictures.")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path, nargs="+", metavar="DATA", help="a folder with a sub-folder a class")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write metrics.json and report.txt here")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N (auto)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    chosen = parser.parse_args(arguments)
    try:
        loaded = bundles.load(chosen.bundle)
        photos = datasets.read(chosen.data, loaded.preprocess, labels=loaded.labels)
        figures = evaluate(classifiers.Classifier(loaded, device=chosen.device), photos)
        text = json.dumps(figures, indent=2) + "\n"
        if chosen.report:
            chosen.report.mkdir(parents=True, exist_ok=True)
            (chosen.report / "metrics.json").write_text(text, "utf-8")
            (chosen.report / "report.txt").write_text(report(figures) + "\n", "utf-8")
    except (ValueError, OSError) as wrong:
        parser.error(str(wrong))
    for skipped in photos.skipped:
        sys.stderr.write(f"skipped {skipped.path}: {skipped.reason}\n")
    sys.stdout.write(text if chosen.json else report(figures) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
