"""How far a job is, on stderr: a bar on a terminal, a line every few seconds elsewhere."""

import sys
import time
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from sortbelt import records

LINE_SECONDS = 5.0
REDRAWS_PER_SECOND = 4  # the processors are for the pictures


class Progress(Protocol):
    """Something that shows how far a job is."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, job: records.Job, *, sent: int | None = None, total: int | None = None) -> None:
        """Take note of the job as it is; `sent` and `total` count uploads where there are any."""

    def wait(self, why: str) -> None:
        """Say why nothing moves for now; what is shown next takes its place."""

    def end(self) -> None:
        """Show the last of it now, and then nothing more."""


def progress(out: TextIO | None = None) -> Progress:
    """The kind that fits where it goes, which is stderr by default."""
    out = out or sys.stderr
    return Bar(out) if out.isatty() else Lines(out)


class Lines:
    """Progress for a log file: one line every few seconds, and one at the end."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._pace = Pace()
        self._due = time.monotonic() + LINE_SECONDS
        self._line = self._far = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Show the last of it now."""
        if self._line:
            self._say()
            self._line = ""

    def show(self, job: records.Job, *, sent: int | None = None, total: int | None = None) -> None:
        """Take note of the job as it is."""
        self._far = self._line = line(job, self._pace, sent, total)
        self._say_if_due()

    def wait(self, why: str) -> None:
        """Say why nothing moves for now."""
        self._line = f"{self._far}; {why}" if self._far else why
        self._say_if_due()

    def _say_if_due(self) -> None:
        if time.monotonic() >= self._due:
            self._say()
            self._line, self._due = "", time.monotonic() + LINE_SECONDS

    def _say(self) -> None:
        print(self._line, file=self._out, flush=True)


class Bar:
    """Progress for a person: two bars, which redraw themselves."""

    def __init__(self, out: TextIO) -> None:
        from rich import console, progress  # noqa: PLC0415 - costs 0.1 s, which only a terminal shall pay

        self._pace = Pace()
        self._bars = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[note]}", markup=False),
            console=console.Console(file=out, highlight=False),
            refresh_per_second=REDRAWS_PER_SECOND,
        )
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Leave the bars as they are."""
        self._bars.stop()

    def show(self, job: records.Job, *, sent: int | None = None, total: int | None = None) -> None:
        """Take note of the job as it is."""
        if sent is not None:
            self._set("sent", sent, total, "")
        if job.scan is not None:
            over = job.scan.status != "pending"
            self._set("found", job.scan.found, job.scan.found if over else None, job.scan.error or "")
        expected = max(total or 0, job.counts.total)
        self._set("classified", job.counts.ended, expected, self._pace.note(job.counts, expected))

    def wait(self, why: str) -> None:
        """Say why nothing moves for now."""
        if "sent" not in self._tasks:
            self._set("sent", 0, None, "")
        self._bars.update(self._tasks["sent"], note=why)

    def _set(self, name: str, completed: int, total: int | None, note: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, note="")
        self._bars.update(self._tasks[name], completed=completed, total=total, note=note)


class Pace:
    """Images per second since the first look, and the time that the rest will take at that rate."""

    def __init__(self) -> None:
        self._since: tuple[float, int] | None = None

    def note(self, counts: records.Counts, total: int) -> str:
        """A few words on rate, time left and failures."""
        now = time.monotonic()
        self._since = self._since or (now, counts.ended)
        seconds, images = now - self._since[0], counts.ended - self._since[1]
        words = [f"{counts.failed} failed"] if counts.failed else []
        if seconds > 0.5 and images > 0:
            words += [f"{images / seconds:.0f}/s"]
            if counts.ended < total:
                words += [f"{_span((total - counts.ended) * seconds / images)} left"]
        return ", ".join(words)


def line(job: records.Job, pace: Pace, sent: int | None, total: int | None) -> str:
    """How far a job is, in one line."""
    expected = max(total or 0, job.counts.total)
    parts = [] if sent is None else [f"{sent}/{total} sent"]
    if job.scan is not None and job.scan.status == "pending":
        parts += [f"{job.scan.found} found so far", job.scan.error or ""]
    parts += [f"{job.counts.ended}/{expected} classified", pace.note(job.counts, expected)]
    return ", ".join(part for part in parts if part)


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
