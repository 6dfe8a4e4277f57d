"""Memory budget for request bodies being received, global and per API key."""

from collections import Counter

MAX_BYTES = 512_000_000
KEY_SHARES = 4  # a key may use one share, unless a single body may be larger
MAX_SMALL_BYTES = 32_000_000  # of all small bodies together, which are buffered before their key is checked
ANONYMOUS = ""


class BudgetExceeded(Exception):
    """Too many bytes are being received at the same time."""


class BodyBudget:
    """The budget of one event loop."""

    def __init__(self) -> None:
        self.reserved: Counter[str] = Counter()

    def open_reservation(self, key: str, max_bytes: int) -> "Reservation":
        """Return an empty reservation in the share of a key, for a body of at most `max_bytes`."""
        return Reservation(self, key, max(MAX_BYTES // KEY_SHARES, max_bytes))

    def reserve_small(self, size: int) -> "Reservation":
        """Reserve memory for a whole small body, so that it is not rejected later.

        Raises:
            BudgetExceeded: such bodies use all of their part.
        """
        reservation = Reservation(self, ANONYMOUS, MAX_SMALL_BYTES)
        reservation.reserve(size)
        return reservation


class Reservation:
    """The part of the budget that one request uses."""

    def __init__(self, budget: BodyBudget, sender: str, limit: int) -> None:
        self._budget = budget
        self._sender = sender
        self._limit = limit
        self._reserved = 0

    def reserve(self, size: int) -> None:
        """Grow the reservation to `size` bytes, if it is smaller.

        Raises:
            BudgetExceeded: the share of the key, or the whole budget, is used up.
        """
        additional = max(0, size - self._reserved)
        reserved = self._budget.reserved
        if additional and (
            reserved[self._sender] + additional > self._limit or reserved.total() + additional > MAX_BYTES
        ):
            raise BudgetExceeded
        reserved[self._sender] += additional
        self._reserved += additional

    def release(self) -> None:
        """Give everything back."""
        self._budget.reserved[self._sender] -= self._reserved
        if not self._budget.reserved[self._sender]:
            del self._budget.reserved[self._sender]
        self._reserved = 0
