"""Progress of a job on stderr: bars on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import datetime as dt
import sys
import time
from typing import Any, Self, TextIO

from sortbelt.client import responses

LINE_SECONDS = 5.0
REDRAWS_PER_SECOND = 4  # redrawing takes CPU from local workers
MIN_RATE_SECONDS = 0.5


class LineProgress:
    """Progress for a log file: one line every few seconds, and one at the end."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._rate_meter = RateMeter()
        self._next_line_at = time.monotonic() + LINE_SECONDS
        self._line = self._last_status = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def finish(self) -> None:
        """Print the last state."""
        if self._line:
            self._print_line()
            self._line = ""

    def update(self, job: responses.Job, *, sent: int | None = None, total: int | None = None) -> None:
        """Print the job's state, if a line is due."""
        self._last_status = self._line = format_line(job, self._rate_meter, sent, total)
        self._print_if_due()

    def show_waiting(self, reason: str) -> None:
        """Print why the run waits, if a line is due."""
        self._line = f"{self._last_status}; {reason}" if self._last_status else reason
        self._print_if_due()

    def _print_if_due(self) -> None:
        if time.monotonic() >= self._next_line_at:
            self._print_line()
            self._line, self._next_line_at = "", time.monotonic() + LINE_SECONDS

    def _print_line(self) -> None:
        print(self._line, file=self._out, flush=True)


class BarProgress:
    """Progress for a person: bars that redraw themselves."""

    def __init__(self, out: TextIO) -> None:
        from rich import console, progress  # noqa: PLC0415 - takes 0.1 s, which only a terminal needs

        self._rate_meter = RateMeter()
        self._bars = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            progress.TextColumn("{task.fields[note]}", markup=False),
            console=console.Console(file=out, highlight=False),
            refresh_per_second=REDRAWS_PER_SECOND,
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def finish(self) -> None:
        """Stop redrawing."""
        self._bars.stop()

    def update(self, job: responses.Job, *, sent: int | None = None, total: int | None = None) -> None:
        """Set the bars to the job's state."""
        if sent is not None:
            self._update_task("sent", sent, total, "")
        if job.scan is not None:
            scan_ended = job.scan.status != "pending"
            self._update_task("found", job.scan.found, job.scan.found if scan_ended else None, job.scan.error or "")
        expected = max(total or 0, job.counts.total)
        note = ", ".join(_failures_and_rate(job.counts, self._rate_meter.update(job.counts.ended)))
        self._update_task("classified", job.counts.ended, expected, note)

    def show_waiting(self, reason: str) -> None:
        """Show why the run waits."""
        if "sent" not in self._tasks:
            self._update_task("sent", 0, None, "")
        self._bars.update(self._tasks["sent"], note=reason)

    def _update_task(self, name: str, completed: int, total: int | None, note: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, note="")
        self._bars.update(self._tasks[name], completed=completed, total=total, note=note)


Progress = LineProgress | BarProgress


def create_progress(out: TextIO | None = None) -> Progress:
    """Return the display for a stream, by default stderr."""
    out = out or sys.stderr
    return BarProgress(out) if out.isatty() else LineProgress(out)


class RateMeter:
    """Mean rate, in images per second, since the first update."""

    def __init__(self) -> None:
        self._first_sample: tuple[float, int] | None = None

    def update(self, ended: int) -> float:
        """Return the rate; 0 while it is unknown."""
        now = time.monotonic()
        self._first_sample = self._first_sample or (now, ended)
        seconds, ended_since = now - self._first_sample[0], ended - self._first_sample[1]
        return ended_since / seconds if seconds > MIN_RATE_SECONDS else 0.0


def format_line(job: responses.Job, rate_meter: RateMeter, sent: int | None, total: int | None) -> str:
    """Return the job's state in one line: counts, failures, rate and time left."""
    expected = max(total or 0, job.counts.total)
    rate = rate_meter.update(job.counts.ended)
    parts = [] if sent is None else [f"{sent}/{total} sent"]
    if job.scan is not None and job.scan.status == "pending":
        parts += [f"{job.scan.found} found so far", *filter(None, [job.scan.error])]
    parts += [f"{job.counts.ended}/{expected} classified", *_failures_and_rate(job.counts, rate)]
    if rate and job.counts.ended < expected:
        parts += [f"{dt.timedelta(seconds=round((expected - job.counts.ended) / rate))} left"]
    return ", ".join(parts)


def _failures_and_rate(counts: responses.Counts, rate: float) -> list[str]:
    return [f"{counts.failed} failed"] * bool(counts.failed) + [f"{rate:.0f}/s"] * bool(rate)
