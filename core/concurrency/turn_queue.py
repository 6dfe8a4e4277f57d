"""Turn queue: items of several senders, who take turns, so that one with many does not delay the others."""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class TurnQueue(Generic[T]):
    """The waiting items: those of one sender in their order, and one of each sender in turn."""

    def __init__(self) -> None:
        self._items: OrderedDict[str, deque[T]] = OrderedDict()
        """The first sender is next."""

    def __len__(self) -> int:
        return sum(map(len, self._items.values()))

    def put(self, sender: str, item: T) -> None:
        """Add an item."""
        self._items.setdefault(sender, deque()).append(item)

    def take(self, may_take: Callable[[str], bool] | None = None) -> tuple[str, T] | None:
        """Remove and return the next item with its sender, of those that may have a turn; None if there is none."""
        sender = next(filter(may_take, self._items) if may_take else iter(self._items), None)
        if sender is None:
            return None
        items = self._items.pop(sender)
        item = items.popleft()
        if items:
            self._items[sender] = items
        return sender, item
