"""Lists of the API, requested page by page at each iteration; they print their first rows."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from sortbelt import errors

T = TypeVar("T")
PREVIEW_ROWS = 10  # shown in a notebook, or when a list is printed


class Listing(Generic[T]):
    """Objects of the API, of which each iteration requests the pages again.

    Args:
        fetch: requests the objects, at most so many for each page.
        description: what they are, such as "Results".
        to_line: returns an object as a line of text, without control characters.
    """

    def __init__(
        self, fetch: Callable[[int | None], Iterator[T]], description: str, to_line: Callable[[T], str]
    ) -> None:
        self._fetch = fetch
        self._description = description
        self._to_line = to_line
        self._rows: Iterator[T] | None = None

    def __iter__(self) -> Iterator[T]:
        return self._fetch(None)

    def __next__(self) -> T:
        """Return the next object of one iteration that starts with the first call."""
        self._rows = self._rows or iter(self)
        return next(self._rows)

    def __repr__(self) -> str:
        try:
            return self._preview()
        except errors.SortbeltError as error:
            return f"<{self._description}: {error}>"

    def __str__(self) -> str:
        return self._preview()

    def _preview(self) -> str:
        rows = list(itertools.islice(self._fetch(PREVIEW_ROWS + 1), PREVIEW_ROWS + 1))
        if not rows:
            return f"{self._description}: none"
        shown = f"the first {PREVIEW_ROWS}" if len(rows) > PREVIEW_ROWS else f"{len(rows)}"
        return "\n".join([f"{self._description}: {shown}", *map(self._to_line, rows[:PREVIEW_ROWS])])


class Stats(list[dict[str, Any]]):
    """Counts of results; they print as a table."""

    def __repr__(self) -> str:
        columns = [name for name in ("key", "by", "count", "confidence") if any(row.get(name) for row in self)]
        lines = [columns, *([_format(row.get(name)) for name in columns] for row in self)]
        return "\n".join(_align(lines)) if self else "no results"


def _align(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


def _format(value: object) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
