"""Bounded parallel map in daemon threads."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

SHUTDOWN_TIMEOUT_SECONDS = 5.0  # for running calls after another one has failed


def parallel_map(function: Callable[[Item], Outcome], items: Iterable[Item], *, thread_count: int) -> Iterator[Outcome]:
    """Yield the outcome of each call as it completes; at most twice as many calls as threads are in flight.

    Raises:
        Exception: the first that `function` raised. Calls not begun are dropped; running ones get a few seconds to end.
    """
    # Daemons, unlike an executor's threads: after ctrl-C the program does not wait for an upload that hangs.
    tasks: queue.SimpleQueue[tuple[Item] | None] = queue.SimpleQueue()
    outcomes: queue.SimpleQueue[tuple[Outcome | None, BaseException | None]] = queue.SimpleQueue()
    workers = [
        threading.Thread(target=_worker_loop, args=(function, tasks, outcomes), daemon=True)
        for _ in range(thread_count)
    ]
    for worker in workers:
        worker.start()
    timeout = 0.0
    try:
        yield from _feed(items, tasks, outcomes, limit=2 * thread_count)
    except Exception:
        timeout = SHUTDOWN_TIMEOUT_SECONDS
        raise
    finally:
        _shut_down(workers, tasks, timeout)


def _shut_down(workers: list[threading.Thread], tasks: "queue.SimpleQueue[tuple[Item] | None]", timeout: float) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            tasks.get_nowait()
    for _ in workers:
        tasks.put(None)
    deadline = time.monotonic() + timeout
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))


def _feed(
    items: Iterable[Item],
    tasks: "queue.SimpleQueue[tuple[Item] | None]",
    outcomes: "queue.SimpleQueue[tuple[Outcome | None, BaseException | None]]",
    *,
    limit: int,
) -> Iterator[Outcome]:
    in_flight = 0
    for item in items:
        if in_flight == limit:
            yield _next_outcome(outcomes)
            in_flight -= 1
        tasks.put((item,))
        in_flight += 1
    for _ in range(in_flight):
        yield _next_outcome(outcomes)


def _next_outcome(outcomes: "queue.SimpleQueue[tuple[Outcome | None, BaseException | None]]") -> Outcome:
    outcome, error = outcomes.get()
    if error is not None:
        raise error
    return outcome  # type: ignore[return-value]  # there is an outcome or an error


def _worker_loop(
    function: Callable[[Item], Outcome],
    tasks: "queue.SimpleQueue[tuple[Item] | None]",
    outcomes: "queue.SimpleQueue[tuple[Outcome | None, BaseException | None]]",
) -> None:
    while (item := tasks.get()) is not None:
        try:
            outcomes.put((function(item[0]), None))
        except BaseException as error:  # noqa: BLE001 - raised again in the consuming thread
            outcomes.put((None, error))
            return
