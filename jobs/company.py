"""Company: those who ask for the same while it is being done for others are all served by the next turn."""

import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Company(Generic[T, R]):
    """Serves many by one call; may be shared between threads.

    Args:
        serve: is given what some have asked, in the order in which they came, and answers each of them.
    """

    def __init__(self, serve: Callable[[Sequence[T]], Sequence[R]]) -> None:
        self._serve = serve
        self._lock = threading.Lock()
        self._serving = threading.Lock()
        self._next: tuple[list[T], futures.Future[Sequence[R]]] | None = None

    def ask(self, what: T) -> R:
        """The answer, from a turn that began after the call; what `serve` raises, all who were in that turn get.

        While a turn is under way, those who ask gather, and the next serves them all.
        """
        with self._lock:
            leads = self._next is None
            asked, answers = self._next = self._next or ([], futures.Future())
            place = len(asked)
            asked.append(what)
        if leads:
            with self._serving:
                with self._lock:
                    self._next = None
                try:
                    answers.set_result(self._serve(asked))
                except BaseException as error:  # noqa: BLE001 (whatever it is, nobody must wait for ever)
                    answers.set_exception(error)
        return answers.result()[place]
