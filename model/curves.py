"""Keeps learning curves: `curves.csv` while a training runs, `curves.png` when a part of it has ended."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from model import files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

COLUMNS = ("training", "epoch", "loss", "learning_rate", "held_out_loss", "held_out_accuracy", "seconds")


class Curves:
    """Rows by training (a fold, or the final one), in the order of their epochs, and the folder they are written to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rows: dict[str, list[dict[str, Any]]] = {}

    def add(self, title: str, row: Mapping[str, Any]) -> None:
        """One more epoch, written at once."""
        self._rows.setdefault(title, []).append(dict(row))
        self.write()

    def rows(self, title: str) -> list[dict[str, Any]]:
        """The epochs of one training up to now."""
        return self._rows.get(title, [])

    def restore(self, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """The epochs of a training that goes on."""
        self._rows[title] = [dict(row) for row in rows]
        self.write()

    def write(self) -> None:
        """The table, whole."""
        text = io.StringIO()
        table = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
        table.writeheader()
        for title, rows in self._rows.items():
            table.writerows({"training": title, **row} for row in rows)
        self.folder.mkdir(parents=True, exist_ok=True)
        files.write_whole(self.folder / "curves.csv", text.getvalue().encode())

    def draw(self) -> None:
        """The picture: loss, held-out loss and held-out accuracy over the epochs, one line a training."""
        if not self._rows:
            return
        from matplotlib import figure  # noqa: PLC0415 - half a second that only a drawing is worth

        panels = [("loss", "loss in training"), ("learning_rate", "learning rate")]
        if any("held_out_loss" in row for rows in self._rows.values() for row in rows):
            panels[1:1] = [("held_out_loss", "log loss, held out"), ("held_out_accuracy", "accuracy, held out")]
        drawing = figure.Figure(figsize=(5 * len(panels), 4), layout="constrained")
        axes = drawing.subplots(1, len(panels), squeeze=False)[0]
        for axis, (column, told) in zip(axes, panels, strict=True):
            for title, rows in self._rows.items():
                points = [(row["epoch"], row[column]) for row in rows if column in row]
                if points:
                    axis.plot(*zip(*points, strict=True), label=title, linewidth=1)
            axis.set(title=told, xlabel="epoch")
            axis.grid(alpha=0.3)
        axes[0].legend(fontsize="small")
        picture = io.BytesIO()
        drawing.savefig(picture, format="png", dpi=100)
        files.write_whole(self.folder / "curves.png", picture.getvalue())
