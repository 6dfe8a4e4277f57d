"""What may be shown where: escaped names, tables on a terminal, tab-separated lines elsewhere, JSON on request."""

import datetime as dt
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TextIO

TABLE_ROWS = 500  # a longer list is several tables, so that it may be endless
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def clean(text: str) -> str:
    """A text that cannot move the cursor, colour the screen or break a line: what does not print is escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def as_json(value: Mapping[str, Any]) -> str:
    """One line of JSON; it is plain ASCII, since some terminals obey control characters above it."""
    return json.dumps(value, separators=(", ", ": "))


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], out: TextIO | None = None) -> None:
    """Show rows: as a table on a terminal, else as tab-separated lines without a head."""
    out = out or sys.stdout
    if not out.isatty():
        for row in rows:
            print(*(clean(_text(cell)) for cell in row), sep="\t", file=out)
        return
    some: list[Sequence[object]] = []
    for row in rows:
        some.append(row)
        if len(some) == TABLE_ROWS:
            _draw(heads, some, out)
            some = []
    if some:
        _draw(heads, some, out)


def _draw(heads: Sequence[str], rows: Sequence[Sequence[object]], out: TextIO) -> None:
    from rich import box, console, table, text  # noqa: PLC0415 - costs 0.1 s, which only a terminal shall pay

    grid = table.Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for head, cells in zip(heads, zip(*rows, strict=True), strict=True):
        least = max((len(_text(cell)) for cell in cells if _is_whole(cell)), default=None)
        justify: Literal["left", "right"] = "right" if isinstance(cells[0], int | float) else "left"
        grid.add_column(head, justify=justify, overflow="fold", min_width=least)
    for row in rows:
        grid.add_row(*(text.Text(clean(_text(cell))) for cell in row))
    console.Console(file=out, highlight=False).print(grid, crop=False)


def _is_whole(cell: object) -> bool:
    """Whether half of it would be of no use: a number, or an id."""
    return isinstance(cell, int | float) or (isinstance(cell, str) and ID.fullmatch(cell) is not None)


def _text(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, dt.datetime):
        return cell.isoformat(timespec="seconds")
    return f"{cell:.4f}" if isinstance(cell, float) else str(cell)
