"""Several calls at once: little more than `map`, in threads that never hold up the end of the program."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

LAST_SECONDS = 5.0  # for what is under way when something else has failed


def each(work: Callable[[Item], Outcome], items: Iterable[Item], *, threads: int) -> Iterator[Outcome]:
    """What `work` makes of each item, as it gets ready; at most twice as many items as threads are under way.

    Raises:
        Exception: the first that `work` raised; what has not begun is dropped, and what has may end, if that is soon.
    """
    # Daemons, unlike an executor's threads: after ctrl-C nobody waits for an upload that hangs.
    todo: queue.SimpleQueue[tuple[Item] | None] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[Outcome | None, BaseException | None]] = queue.SimpleQueue()
    hands = [threading.Thread(target=_serve, args=(work, todo, done), daemon=True) for _ in range(threads)]
    for hand in hands:
        hand.start()
    patience = 0.0
    try:
        yield from _through(items, todo, done, most=2 * threads)
    except Exception:
        patience = LAST_SECONDS
        raise
    finally:
        _end(hands, todo, patience)


def _end(hands: list[threading.Thread], todo: "queue.SimpleQueue[tuple[Item] | None]", patience: float) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            todo.get_nowait()
    for _ in hands:
        todo.put(None)
    deadline = time.monotonic() + patience
    for hand in hands:
        hand.join(max(0.0, deadline - time.monotonic()))


def _through(
    items: Iterable[Item],
    todo: "queue.SimpleQueue[tuple[Item] | None]",
    done: "queue.SimpleQueue[tuple[Outcome | None, BaseException | None]]",
    *,
    most: int,
) -> Iterator[Outcome]:
    under_way = 0
    for item in items:
        if under_way == most:
            yield _next(done)
            under_way -= 1
        todo.put((item,))
        under_way += 1
    for _ in range(under_way):
        yield _next(done)


def _next(done: "queue.SimpleQueue[tuple[Outcome | None, BaseException | None]]") -> Outcome:
    outcome, problem = done.get()
    if problem is not None:
        raise problem
    return outcome  # type: ignore[return-value]  # one of the two is there


def _serve(
    work: Callable[[Item], Outcome],
    todo: "queue.SimpleQueue[tuple[Item] | None]",
    done: "queue.SimpleQueue[tuple[Outcome | None, BaseException | None]]",
) -> None:
    while (item := todo.get()) is not None:
        try:
            done.put((work(item[0]), None))
        except BaseException as problem:  # noqa: BLE001 - it is raised again where the outcome is taken
            done.put((None, problem))
            return
