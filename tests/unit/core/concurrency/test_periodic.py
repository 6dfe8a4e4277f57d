import itertools
import threading

import pytest

from core import errors
from core.concurrency import periodic

TIMEOUT_SECONDS = 10


@pytest.mark.parametrize("failure", [errors.DatabaseUnavailable("The database is away."), ValueError("a defect")])
def test_steps_go_on_after_a_failure_until_stopped(failure, caplog):
    """The failure is logged; a service that does not answer with one sentence, anything else with its traceback."""
    numbers, done, stop = itertools.count(), threading.Event(), threading.Event()

    def step():
        if next(numbers) == 0:
            raise failure
        stop.set()
        done.set()

    assert periodic.start("test steps", step, 0.01, stop=stop) is stop
    assert done.wait(TIMEOUT_SECONDS)
    for thread in [thread for thread in threading.enumerate() if thread.name == "test steps"]:
        thread.join(TIMEOUT_SECONDS)
        assert not thread.is_alive()
    assert next(numbers) == 2
    (record,) = [record for record in caplog.records if record.name == periodic.__name__]
    assert (record.levelname, bool(record.exc_info)) == (
        ("WARNING", False) if isinstance(failure, errors.ServiceUnavailable) else ("ERROR", True)
    )


def test_the_first_step_has_a_pause_of_its_own():
    """So that a long period does not delay it."""
    begun = threading.Event()
    stop = periodic.start("test first", begun.set, 3600, first_seconds=0.0, jitter=0.2)
    assert begun.wait(TIMEOUT_SECONDS)
    stop.set()
