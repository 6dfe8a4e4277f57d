"""Write learning curves: `curves.csv` during a training, `curves.png` at its end."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from model.packaging import atomic_files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

COLUMNS = ("training", "epoch", "loss", "learning_rate", "held_out_loss", "held_out_accuracy", "seconds")


class LearningCurves:
    """One row per epoch, grouped by training (a fold, or the final one), written to a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rows: dict[str, list[dict[str, Any]]] = {}

    def add(self, title: str, row: Mapping[str, Any]) -> None:
        """Append an epoch and rewrite the table."""
        self._rows.setdefault(title, []).append(dict(row))
        self.write()

    def rows(self, title: str) -> list[dict[str, Any]]:
        """Return the epochs of one training so far."""
        return self._rows.get(title, [])

    def restore(self, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Set the epochs of a resumed training and rewrite the table."""
        self._rows[title] = [dict(row) for row in rows]
        self.write()

    def write(self) -> None:
        """Write the whole table."""
        text = io.StringIO()
        table = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
        table.writeheader()
        for title, rows in self._rows.items():
            table.writerows({"training": title, **row} for row in rows)
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic_files.write_atomic(self.folder / "curves.csv", text.getvalue().encode())

    def draw(self) -> None:
        """Plot each column over the epochs, one line per training."""
        if not self._rows:
            return
        from matplotlib import figure  # noqa: PLC0415 - half a second, needed for plots only

        panels = [("loss", "training loss"), ("learning_rate", "learning rate")]
        if any("held_out_loss" in row for rows in self._rows.values() for row in rows):
            panels[1:1] = [("held_out_loss", "held-out log loss"), ("held_out_accuracy", "held-out accuracy")]
        chart = figure.Figure(figsize=(5 * len(panels), 4), layout="constrained")
        axes = chart.subplots(1, len(panels), squeeze=False)[0]
        for axis, (column, panel_title) in zip(axes, panels, strict=True):
            for title, rows in self._rows.items():
                points = [(row["epoch"], row[column]) for row in rows if column in row]
                if points:
                    axis.plot(*zip(*points, strict=True), label=title, linewidth=1)
            axis.set(title=panel_title, xlabel="epoch")
            axis.grid(alpha=0.3)
        axes[0].legend(fontsize="small")
        png_buffer = io.BytesIO()
        chart.savefig(png_buffer, format="png", dpi=100)
        atomic_files.write_atomic(self.folder / "curves.png", png_buffer.getvalue())
