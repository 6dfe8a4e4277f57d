"""Errands: what is due is looked for, handed to threads, and looked for again, until somebody says stop."""

import abc
import logging
import time
from collections.abc import Callable
from concurrent import futures
from typing import ParamSpec

from jobs import errors

P = ParamSpec("P")

LOOK_SECONDS = 1.0  # between two looks for what is due

log = logging.getLogger(__name__)


class Errands(abc.ABC):
    """One kind of errands, with threads of its own."""

    def __init__(self, kind: str, hands: int) -> None:
        self._kind = kind
        self._hands = hands
        self._threads = futures.ThreadPoolExecutor(hands, kind)
        self._out: dict[futures.Future[None], str] = {}
        """What is under way, and whose it is."""
        self._stopping = False

    @abc.abstractmethod
    def look(self) -> int:
        """Claim what is due, as far as there are hands, and begin with it. Returns how much.

        Raises:
            errors.DatabaseUnavailable: the database does not answer, or its tables are of another age.
        """

    def stop(self) -> None:
        """Begin nothing new; a handler of signals may say so."""
        self._stopping = True

    def run(self) -> None:
        """Work until stopped; what is under way is brought to its end."""
        while not self._stopping:
            claimed = 0
            try:
                claimed = self.look()
            except errors.DatabaseUnavailable as error:
                log.warning("%s", error.detail)
            except Exception:
                log.exception("a look for what a %s has to do broke down; the next one is soon", self._kind)
            if not claimed:
                self._pause()
        self.finish()

    def finish(self) -> None:
        """Wait for what is under way."""
        futures.wait(self._out)

    def close(self) -> None:
        """Finish, and let go of the threads."""
        self._threads.shutdown()

    def _free(self) -> int:
        """How many hands are free."""
        self._out = {future: owner for future, owner in self._out.items() if not future.done()}
        return self._hands - len(self._out)

    def _begin(self, owner: str, errand: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        self._out[self._threads.submit(errand, *args, **kwargs)] = owner

    def _pause(self) -> None:
        """Wait until a hand is free, or for a while."""
        if self._out:
            futures.wait(self._out, LOOK_SECONDS, futures.FIRST_COMPLETED)
            return
        until = time.monotonic() + LOOK_SECONDS
        while not self._stopping and time.monotonic() < until:
            time.sleep(LOOK_SECONDS / 10)
