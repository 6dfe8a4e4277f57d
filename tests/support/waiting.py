"""Wait for conditions instead of fixed times."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
TIMEOUT_SECONDS = 300.0  # for hangs only: a busy machine may need minutes
POLL_SECONDS = 0.01


def wait_until(
    condition: Callable[[], T],
    seconds: float = TIMEOUT_SECONDS,
    describe: Callable[[], object] = lambda: "the condition does not hold",
) -> T:
    """Wait until a condition holds, and return its value; fail with the description if it does not."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {describe()}"
        time.sleep(POLL_SECONDS)
    return value
