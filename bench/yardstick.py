"""The yardstick: a fixed piece of work, timed twice a second while others are measured.

A core of a virtual machine is often half of a real one: when a neighbour works on the other half, the same work takes
up to twice the CPU time, and nothing in this machine tells of it. So figures of different minutes can be compared only
where this loop took as long.
"""

import signal
import statistics
import subprocess
import sys
import time
from typing import Self

EVERY_SECONDS = 0.5
ROUNDS = 100_000  # about 5 ms, so one core in a hundred


class Yardstick:
    """Measures in a process of its own for as long as it is open."""

    def __init__(self) -> None:
        self.milliseconds: list[float] = []
        """What the loop took each time, in milliseconds of CPU; filled when it is closed."""

    @property
    def median(self) -> float:
        """The middle of them; NaN if there are none."""
        return statistics.median(self.milliseconds or [float("nan")])

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "bench.yardstick"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None  # noqa: S101 (for the type checker)
        self._process.stdout.readline()  # its start is over, and disturbs nobody
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        said, _error = self._process.communicate()
        self.milliseconds = [float(line) for line in said.splitlines()]


def once() -> float:
    """Milliseconds of CPU that the loop takes now."""
    started = time.thread_time()
    total = 0
    for number in range(ROUNDS):
        total += number * number
    return (time.thread_time() - started) * 1e3


def main() -> None:
    """Print what it takes, line by line, until told to stop."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, whose ctrl-C ends the bench, and the bench this
    while True:
        print(f"{once():.3f}", flush=True)
        time.sleep(EVERY_SECONDS)


if __name__ == "__main__":
    main()
