"""Keeps what a training tells while it runs: a bar on a terminal, else a line every few seconds."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress, TaskID

EVERY = 2.0


class Watch:
    """Tells nothing; what others tell is built on it.

    Speed is measured from where this process began, so that a training that goes on tells its present speed.
    """

    def __init__(self) -> None:
        self._title, self._epochs, self._first, self._images = "", 0, 0, 0
        self._started = time.monotonic()

    @contextlib.contextmanager
    def training(self, title: str, epochs: int, first: int) -> Iterator[None]:
        """Around one network's training of `epochs` epochs, of which `first` are done already."""
        self._title, self._epochs, self._first, self._images = title, epochs, first, 0
        self._started = time.monotonic()
        yield

    def step(self, epoch: float, images: int) -> None:  # noqa: ARG002 - a bar wants it
        """So many epochs are done (a share of one too), with so many images more."""
        self._images += images

    def epoch(self, epoch: int, loss: float) -> None:
        """An epoch has ended with this mean loss."""

    def say(self, sentence: str) -> None:
        """A sentence between two trainings."""

    def _speed(self, epoch: float) -> str:
        seconds = max(1e-9, time.monotonic() - self._started)
        done = max(1e-9, epoch - self._first)
        left = (self._epochs - epoch) * seconds / done
        return f"{done / seconds:.2f} epochs/s, {self._images / seconds:.0f} images/s, {_clock(left)} left"


class Lines(Watch):
    """A line of stderr for an epoch, but not more often than every two seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._told = 0.0

    def epoch(self, epoch: int, loss: float) -> None:
        """See Watch."""
        if epoch == self._epochs or time.monotonic() - self._told >= EVERY:
            self._told = time.monotonic()
            self.say(f"{self._title}: epoch {epoch}/{self._epochs}, loss {loss:.4f}, {self._speed(epoch)}")

    def say(self, sentence: str) -> None:
        """See Watch."""
        sys.stderr.write(sentence + "\n")
        sys.stderr.flush()


class Bar(Watch):
    """A moving bar on a terminal's stderr."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._loss = ""

    @contextlib.contextmanager
    def training(self, title: str, epochs: int, first: int) -> Iterator[None]:
        """See Watch."""
        from rich import console, progress  # noqa: PLC0415 - only a terminal needs it

        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TextColumn("{task.fields[told]}"),
        )
        with (
            super().training(title, epochs, first),
            progress.Progress(*columns, console=console.Console(stderr=True)) as self._bar,
        ):
            self._task = self._bar.add_task(title, total=epochs, completed=first, told="")
            yield
        self._bar = None

    def step(self, epoch: float, images: int) -> None:
        """See Watch."""
        super().step(epoch, images)
        told = f"epoch {int(epoch)}/{self._epochs}{self._loss}, {self._speed(epoch)}"
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=epoch, told=told)

    def epoch(self, epoch: int, loss: float) -> None:  # noqa: ARG002 - the step has told it
        """See Watch."""
        self._loss = f", loss {loss:.4f}"

    def say(self, sentence: str) -> None:
        """See Watch."""
        sys.stderr.write(sentence + "\n")


def on_stderr() -> Watch:
    """What suits the place that stderr goes to."""
    return Bar() if sys.stderr.isatty() else Lines()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
