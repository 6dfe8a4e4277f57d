"""Write the report of a training: held-out metrics, the photos with doubted labels, and the files left out."""

from __future__ import annotations

import dataclasses
import io
import json
from typing import TYPE_CHECKING, Any

from model.evaluation import metrics, plots
from model.packaging import atomic_files
from model.training import label_doubts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from model.datasets.dataset import ImageDataset
    from model.training.comparison import Comparison
    from model.training.result import TrainingResult

FIGURES = ("accuracy", "auc", "log_loss", "ece")


@dataclasses.dataclass(frozen=True)
class Report:
    """Held-out metrics of all folds together, the doubted labels, and the comparison with another model, if any."""

    images: ImageDataset
    trained: TrainingResult
    metric_values: dict[str, Any]
    doubts: list[label_doubts.LabelDoubt]
    comparison: Comparison | None


def make(images: ImageDataset, trained: TrainingResult, comparison: Comparison | None) -> Report | None:
    """Return the report, or None without cross-validation: then nothing was held out."""
    if trained.probabilities is None:
        return None
    metric_values = metrics.compute_metrics(trained.probabilities, images.targets, images.labels)
    return Report(images, trained, metric_values, label_doubts.find(images, trained.probabilities), comparison)


def write(report: Report, folder: Path) -> None:
    """Write report.json, label_doubts.csv and the contact sheet label_doubts.png to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    images, probabilities = report.images, report.trained.probabilities
    assert probabilities is not None  # noqa: S101 - see `make`
    sheet = io.BytesIO()
    with plots.literal_text():
        plots.mistakes(sheet, probabilities, images.targets, images.labels, images.paths)
    content = {
        "cross_validation": report.trained.manifest.metrics["cross_validation"],
        "held_out": report.metric_values,
        "comparison": report.comparison,
        "label_doubts": report.doubts,
        "skipped": [{"image": str(skipped.path), "reason": skipped.reason} for skipped in images.skipped],
    }
    _write_json(content, folder)
    atomic_files.write_atomic(folder / "label_doubts.csv", label_doubts.to_csv(report.doubts))
    atomic_files.write_atomic(folder / "label_doubts.png", sheet.getvalue())


def to_text(report: Report, folder: Path) -> str:
    """Return the report for people."""
    result = report.trained.manifest.metrics["cross_validation"]
    figures = ", ".join(_figure(name, result[name]) for name in FIGURES if result[name]["deviation"] is not None)
    lines = [f"held out, {result['folds']} folds of {result['count']} images: {figures}"]
    lines += _recall_lines(report.metric_values["per_class"])
    if report.comparison:
        lines.append(comparison_line(report.comparison))
    if report.doubts:
        lines.append(f"{len(report.doubts)} labels are doubted (see {folder / 'label_doubts.png'}), most of all:")
        lines += label_doubts.to_lines(report.doubts)
    return "\n".join(lines)


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write a report.json that has the comparison only."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json({"comparison": comparison}, folder)


def _write_json(content: Mapping[str, Any], folder: Path) -> None:
    atomic_files.write_atomic(folder / "report.json", (json.dumps(content, indent=2) + "\n").encode())


def comparison_line(row: Comparison) -> str:
    """Return the comparison for people."""
    caveat = "" if row["held_out_by_both"] else " (which may have been trained on some of them)"
    figures = f"accuracy {row['accuracy']:.3f}, that of {row['other']}{caveat} {row['other_accuracy']:.3f}"
    images = f"{row['count']} images of --held-out" if row["on_held_out_folder"] else f"the same {row['count']} images"
    return f"on {images}: {figures}"


def _figure(name: str, row: Mapping[str, Any]) -> str:
    return f"{name.replace('_', ' ')} {row['mean']:.3f} ± {row['deviation']:.3f}"


def _recall_lines(per_class: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the classes that are recognised worst."""
    worst = sorted(per_class.items(), key=lambda item: item[1]["recall"])[: label_doubts.SHOWN]
    recalls = ", ".join(f"{label} {row['recall']:.2f} of {row['support']}" for label, row in worst)
    return [f"recall, lowest first: {recalls}"]
