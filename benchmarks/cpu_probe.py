"""CPU probe: a fixed loop, timed twice a second while something else is measured.

A core of a virtual machine is often one hyper-thread: when another tenant uses the sibling thread, the same work takes
up to twice the CPU time, and this machine cannot see why. So figures of different times are comparable only where this
loop took equally long.
"""

import signal
import statistics
import subprocess
import sys
import time
from typing import Self

INTERVAL_SECONDS = 0.5
ITERATIONS = 100_000  # about 5 ms, so 1 % of a core


class CpuProbe:
    """Times the loop in a separate process while the context is open."""

    def __init__(self) -> None:
        self.milliseconds: list[float] = []
        """Milliseconds of CPU of each loop; filled on exit."""

    @property
    def median(self) -> float:
        """The median of the loops; NaN without any."""
        return statistics.median(self.milliseconds or [float("nan")])

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "benchmarks.cpu_probe"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None  # noqa: S101 (for the type checker)
        self._process.stdout.readline()  # wait until it has started up
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        output, _error = self._process.communicate()
        self.milliseconds = [float(line) for line in output.splitlines()]


def time_loop() -> float:
    """Run the loop once; return its milliseconds of CPU."""
    started = time.thread_time()
    total = 0
    for number in range(ITERATIONS):
        total += number * number
    return (time.thread_time() - started) * 1e3


def main() -> None:
    """Print the time of each loop, one per line, until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C ends the benchmark, which ends this process
    while True:
        print(f"{time_loop():.3f}", flush=True)
        time.sleep(INTERVAL_SECONDS)


if __name__ == "__main__":
    main()
