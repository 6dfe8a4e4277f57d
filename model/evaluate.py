"""Evaluate a bundle on labelled images: `python -m model.evaluate BUNDLE DATA`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model.datasets import dataset as datasets
from model.evaluation import logits, metrics, plots
from model.inference import selftest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model.inference.classifier import Classifier


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A data set, a classifier's probabilities [N, C] for it, and the metrics as JSON values."""

    images: datasets.ImageDataset
    probabilities: metrics.Floats
    metric_values: dict[str, Any]


def evaluate(classifier: Classifier, folders: Sequence[Path]) -> Evaluation:
    """Classify the images of some folders, preprocessed as in serving, and compute the metrics.

    Classes of the bundle may be missing in the folders; their recall is undefined. Other classes are rejected, because
    every prediction for them would be wrong.

    Raises:
        InvalidDataset: the folders have unknown classes or no readable images.
    """
    bundle = classifier.bundle
    images = datasets.read(folders, bundle.preprocess, labels=bundle.labels, allow_missing=True)
    starts = range(0, len(images), logits.BATCH_SIZE)
    probability_batches = [
        classifier.classify(images.pixels_at(slice(start, start + logits.BATCH_SIZE))) for start in starts
    ]
    probabilities = np.concatenate(probability_batches)
    model = {"name": bundle.name, "version": bundle.version, "digest": bundle.digest}
    skipped = [{"image": str(skipped_file.path), "reason": skipped_file.reason} for skipped_file in images.skipped]
    metric_values = metrics.compute_metrics(probabilities, images.targets, images.labels)
    return Evaluation(images, probabilities, {"model": model, **metric_values, "skipped": skipped})


def report(metric_values: dict[str, Any]) -> str:
    """Format the metrics like the report in the network's publication."""
    label_width = max(12, *(len(label) for label in metric_values["per_class"]))
    lines = [f"{'':{label_width}}  precision  recall  f1-score  support"]
    for label, row in (*metric_values["per_class"].items(), ("avg / total", _weighted_average(metric_values))):
        columns = (
            f"{_format_share(row['precision']):>9}  {_format_share(row['recall']):>6}  {_format_share(row['f1']):>8}"
        )
        lines.append(f"{label:>{label_width}}  {columns}  {row['support']:7d}")
    auc_text = "not defined" if metric_values["auc"] is None else f"{metric_values['auc']:.4f}"
    return "\n".join(
        [
            *lines,
            "",
            f"accuracy           {metric_values['accuracy']:.4f}",
            f"AUC from scores    {auc_text}",
            f"balanced accuracy  {metric_values['balanced_accuracy']:.4f} (the publication called this AUC)",
            f"log loss           {metric_values['log_loss']:.4f}",
            f"calibration error  {metric_values['ece']:.4f}",
        ]
    )


def write(folder: Path, evaluation: Evaluation) -> None:
    """Write metrics.json, report.txt and five plots to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(_to_json(evaluation.metric_values), "utf-8")
    (folder / "report.txt").write_text(report(evaluation.metric_values) + "\n", "utf-8")
    images, scored = evaluation.images, (evaluation.probabilities, evaluation.images.targets)
    with plots.literal_text():
        plots.confusion(folder / "confusion_matrix.png", evaluation.metric_values["confusion"], images.labels)
        plots.roc(folder / "roc.png", *scored, images.labels)
        plots.precision_recall(folder / "precision_recall.png", *scored, images.labels)
        plots.reliability(folder / "reliability.png", *scored)
        plots.mistakes(folder / "mistakes.png", *scored, images.labels, images.paths)


def _weighted_average(metric_values: dict[str, Any]) -> dict[str, Any]:
    """Average the per-class metrics, weighted by support as in the publication."""
    rows = [row for row in metric_values["per_class"].values() if row["support"]]
    supports = [row["support"] for row in rows]
    means = {
        name: float(np.average([row[name] for row in rows], weights=supports)) for name in ("precision", "recall", "f1")
    }
    return {**means, "support": sum(supports)}


def _format_share(share: float | None) -> str:
    return "-" if share is None else f"{share:.2f}"


def _to_json(metric_values: dict[str, Any]) -> str:
    return json.dumps(metric_values, indent=2) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the report: 0 done, 1 files not written, 2 usage, invalid bundle or data."""
    parser = argparse.ArgumentParser(prog="model.evaluate", description="Evaluate a bundle on labelled images.")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder of the bundle")
    parser.add_argument("data", type=Path, nargs="+", metavar="DATA", help="folder with one sub-folder per class")
    parser.add_argument("--report", type=Path, metavar="DIR", help="folder for metrics and plots")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--json", action="store_true", help="print the metrics as JSON")
    args = parser.parse_args(argv)
    try:
        evaluation = evaluate(selftest.load_verified(args.bundle, args.device), args.data)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"model.evaluate: {error}\n")
        return 2
    for skipped_file in evaluation.images.skipped:
        sys.stderr.write(f"skipped {skipped_file.path}: {skipped_file.reason}\n")
    for label, count in evaluation.images.class_counts().items():
        if not count:
            sys.stderr.write(f"The class {label} has no images: it has no recall and is left out of the means.\n")
    sys.stdout.write(_to_json(evaluation.metric_values) if args.json else report(evaluation.metric_values) + "\n")
    try:
        if args.report:
            write(args.report, evaluation)
    except OSError as error:
        sys.stderr.write(f"model.evaluate: The report cannot be written ({error}): give another folder.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
