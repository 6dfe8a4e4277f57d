"""Report the progress of a training on stderr: a bar on a terminal, else a line every two seconds."""

from __future__ import annotations

import contextlib
import datetime as dt
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress, TaskID

PRINT_INTERVAL_SECONDS = 2.0


class ProgressReporter:
    """Reports nothing; the base class of the others."""

    @contextlib.contextmanager
    def track(self, title: str, total: int, start: int, unit: str = "epoch") -> Iterator[None]:  # noqa: ARG002 - for subclasses
        """Report the work inside the block, `total` units of which `start` are done already."""
        yield

    def update(self, done: float, images: int) -> None:
        """Report that `done` units are done (with a fraction), and `images` more images."""

    def epoch_done(self, epoch: int, loss: float) -> None:
        """Report the mean loss of a finished epoch."""

    def message(self, text: str) -> None:
        """Report a sentence."""


class LineReporter(ProgressReporter):
    """Writes a line per epoch, but at most one every two seconds. Speed is measured since `track`."""

    def __init__(self) -> None:
        self._title, self._unit, self._total, self._start, self._image_count = "", "", 0, 0, 0
        self._started_at = self._last_printed_at = 0.0

    @contextlib.contextmanager
    def track(self, title: str, total: int, start: int, unit: str = "epoch") -> Iterator[None]:
        """See ProgressReporter."""
        self._title, self._unit, self._total, self._start, self._image_count = title, unit, total, start, 0
        self._started_at = time.monotonic()
        yield

    def update(self, done: float, images: int) -> None:
        """See ProgressReporter."""
        self._image_count += images
        if self._unit != "epoch":
            self._print_if_due(int(done), "")

    def epoch_done(self, epoch: int, loss: float) -> None:
        """See ProgressReporter."""
        self._print_if_due(epoch, f"loss {loss:.4f}, {self._rate(epoch):.2f} epochs/s, ")

    def _print_if_due(self, done: int, details: str) -> None:
        now = time.monotonic()
        if done != self._total and now - self._last_printed_at < PRINT_INTERVAL_SECONDS:
            return
        self._last_printed_at = now
        left = dt.timedelta(seconds=round((self._total - done) / max(1e-9, self._rate(done))))
        images_per_second = self._image_count / max(1e-9, now - self._started_at)
        speed = f"{images_per_second:.0f} images/s, " if self._image_count else ""
        self.message(f"{self._title}: {self._unit} {done}/{self._total}, {details}{speed}{left} left")

    def _rate(self, done: int) -> float:
        """Return the units per second since `track`."""
        return max(1e-9, done - self._start) / max(1e-9, time.monotonic() - self._started_at)

    def message(self, text: str) -> None:
        """See ProgressReporter."""
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


class BarReporter(ProgressReporter):
    """Draws a progress bar with rich."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    @contextlib.contextmanager
    def track(self, title: str, total: int, start: int, unit: str = "epoch") -> Iterator[None]:
        """See ProgressReporter."""
        from rich import console, progress  # noqa: PLC0415 - needed on a terminal only

        columns = (
            progress.TextColumn(f"{{task.description}}: {unit}"),
            progress.MofNCompleteColumn(),
            progress.BarColumn(),
            progress.TextColumn("{task.fields[loss]}"),
            progress.TimeRemainingColumn(),
        )
        with progress.Progress(*columns, console=console.Console(stderr=True)) as self._bar:
            self._task = self._bar.add_task(title, total=total, completed=start, loss="")
            yield
        self._bar = None

    def update(self, done: float, images: int) -> None:  # noqa: ARG002 - the lines need it
        """See ProgressReporter."""
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=done)

    def epoch_done(self, epoch: int, loss: float) -> None:
        """See ProgressReporter."""
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=epoch, loss=f"loss {loss:.4f}")

    def message(self, text: str) -> None:
        """See ProgressReporter."""
        sys.stderr.write(text + "\n")


def reporter_for_stderr() -> ProgressReporter:
    """Return the reporter that suits stderr: a bar on a terminal, else lines."""
    return BarReporter() if sys.stderr.isatty() else LineReporter()
