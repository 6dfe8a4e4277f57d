"""Write a bundle's model card: what the model is, how it was trained and how well it performs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from model.packaging.manifest import Manifest


def render(manifest: Manifest, notes: str) -> str:
    """Return Markdown made from the manifest, followed by the author's notes (data sources, limitations)."""
    preprocess = manifest.preprocess
    size = f"{preprocess.width} x {preprocess.height} pixels"
    parts = [
        f"# {manifest.name} {manifest.version}",
        f"Classifies an image as one of {len(manifest.labels)} labels: {', '.join(manifest.labels)}.",
        "## Network",
        f"{_network_line(manifest)} on images of {size}; weights stored as {manifest.precision}.",
        "## Data",
        _bullet_list(manifest.data),
        "## Recipe",
        _bullet_list(manifest.recipe),
        "## Metrics",
        _metrics_section(manifest),
        *([notes.strip()] if notes.strip() else []),
    ]
    return "\n\n".join(parts) + "\n"


def _network_line(manifest: Manifest) -> str:
    network = manifest.network
    text = f"`{network.name}`" if network.members == 1 else f"An ensemble of {network.members} `{network.name}`"
    return f"{text}, averaged over the image and its mirror image," if network.mirrored else text


def _bullet_list(fields: Mapping[str, Any]) -> str:
    return "\n".join(f"- {name.replace('_', ' ')}: {_format_value(value)}" for name, value in fields.items())


def _format_value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_format_value(inner)}" for name, inner in value.items())
    return str(value)


def _metrics_section(manifest: Manifest) -> str:
    result = manifest.metrics.get("cross_validation") or manifest.metrics.get("held_out")
    if not result:
        return "Not measured during training. Run `python -m model.evaluate` on images that were not trained on."
    lines = [
        f"- {name.replace('_', ' ')}: {row['mean']:.3f} (standard deviation {row['deviation']:.3f})"
        for name, row in result.items()
        if isinstance(row, dict) and row["deviation"] is not None
    ]
    calibrated = f" The confidence is calibrated with temperature {manifest.temperature:.3f}, fitted on the"
    calibrated += " held-out predictions."
    if "held_out" in manifest.metrics:
        method = f"Mean and standard deviation over {result['folds']} parts of {result['count']} images that were not"
        others = " Each part's calibration error (ece) was measured with the temperature of the other parts."
        return "\n".join([*lines, "", f"{method} trained on.{calibrated}{others}"])
    per_fold = f"{result['epochs']} epochs per fold" if "epochs" in result else "a head fitted for each fold"
    length = f" for {_training_length(manifest)}" if "epochs" in result else ""
    method = (
        f"Mean and standard deviation over the folds of a {result['folds']}-fold cross-validation on"
        f" {result['count']} images, with {per_fold}. The shipped weights were trained on all images{length}."
        f"{calibrated} Each fold's calibration error (ece) was measured with the temperature of the other folds."
    )
    return "\n".join([*lines, "", method])


def _training_length(manifest: Manifest) -> str:
    epochs, best_epoch = manifest.recipe["epochs"], manifest.metrics["cross_validation"].get("epoch")
    if manifest.recipe.get("early") and best_epoch is not None and best_epoch < epochs:
        return f"{epochs} epochs, stopped after epoch {best_epoch}, the best one for the held-out images"
    return f"{epochs} epochs"
