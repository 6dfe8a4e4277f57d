"""Keeps the text of a bundle's card: what the model is, for a person who has only its folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from model.manifest import Manifest


def render(manifest: Manifest, notes: str) -> str:
    """Markdown from the manifest, with a person's notes (data sources, weaknesses) at the end."""
    shape = manifest.preprocess
    parts = [
        f"# {manifest.name} {manifest.version}",
        f"Says which of {len(manifest.labels)} labels fits a picture best: {', '.join(manifest.labels)}.",
        "## Network",
        f"{_network(manifest)} at {shape.width} x {shape.height} pixels; weights stored as {manifest.precision}.",
        "## Data",
        _list(manifest.data),
        "## Recipe",
        _list(manifest.recipe),
        "## Figures",
        _figures(manifest),
        *([notes.strip()] if notes.strip() else []),
    ]
    return "\n\n".join(parts) + "\n"


def _network(manifest: Manifest) -> str:
    network = manifest.network
    told = f"`{network.name}`" if network.members == 1 else f"{network.members} networks `{network.name}` together"
    return f"{told}, asked about a picture and its mirror image," if network.mirrored else told


def _list(fields: Mapping[str, Any]) -> str:
    return "\n".join(f"- {name.replace('_', ' ')}: {_plain(value)}" for name, value in fields.items())


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_plain(inner)}" for name, inner in value.items())
    return str(value)


def _length(manifest: Manifest) -> str:
    epochs, best = manifest.recipe["epochs"], manifest.metrics["cross_validation"].get("epoch")
    if manifest.recipe.get("early") and best is not None and best < epochs:
        return f"{epochs} epochs, stopped after epoch {best}, which the folds found best"
    return f"{epochs} epochs"


def _figures(manifest: Manifest) -> str:
    held_out = manifest.metrics.get("cross_validation")
    if not held_out:
        return "None were measured in training; use `python -m model.evaluate` on pictures it has not seen."
    lines = [
        f"- {name.replace('_', ' ')}: {row['mean']:.3f} (deviation {row['deviation']:.3f})"
        for name, row in held_out.items()
        if isinstance(row, dict)
    ]
    how = (
        f"From {held_out['folds']}-fold cross-validation with {held_out['epochs']} epochs a fold over"
        f" {held_out['count']} pictures; deviation is over the folds. The shipped weights are from a training"
        f" on all of them with {_length(manifest)}. Confidence is calibrated with temperature"
        f" {manifest.temperature:.3f}, fitted on the held-out answers; each fold's calibration error (ece)"
        " was measured with the temperature of the other folds."
    )
    return "\n".join([*lines, "", how])
