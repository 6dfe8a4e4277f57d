"""Output: tables on a terminal, tab-separated lines elsewhere, JSON on request; control characters are escaped."""

import datetime as dt
import itertools
import json
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, TextIO, TypeVar

TABLE_CHUNK_ROWS = 500  # a longer list is printed as several tables, so that it may be endless
MIN_COLUMN_WIDTH = 8  # characters of a cell that wraps; a terminal too narrow for them gets records
ID_PATTERN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class ApiObject(Protocol):
    """Object of the API with its JSON."""

    @property
    def raw(self) -> Mapping[str, Any]:
        """The JSON object as the server sent it."""


Item = TypeVar("Item", bound=ApiObject)


def escape(text: str) -> str:
    """Escape what does not print, so that a text cannot move the cursor, change colors or break a line."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def to_json_line(value: Mapping[str, Any]) -> str:
    """Return one line of JSON in ASCII, since some terminals obey control characters above it."""
    return json.dumps(value, separators=(", ", ": "))


def print_item(
    item: Item,
    headers: Sequence[str],
    to_row: Callable[[Item], Sequence[object]],
    *,
    as_json: bool,
    optional: Collection[str] = (),
) -> None:
    """Print one object of the API, as JSON or as a table row; for `optional`, see `print_table`."""
    if as_json:
        print(to_json_line(item.raw))
    else:
        print_table(headers, [to_row(item)], optional=optional)


def print_items(
    name: str,
    items: Iterable[Item],
    headers: Sequence[str],
    to_row: Callable[[Item], Sequence[object]],
    *,
    as_json: bool,
    optional: Collection[str] = (),
) -> None:
    """Print objects of the API, as one JSON object with the list `name` or as a table; see `print_table`."""
    if as_json:
        print(to_json_line({name: [item.raw for item in items]}))
    else:
        print_table(headers, map(to_row, items), optional=optional)


def print_table(
    headers: Sequence[str],
    rows: Iterable[Sequence[object]],
    out: TextIO | None = None,
    *,
    optional: Collection[str] = (),
    roomy: Collection[str] = (),
) -> None:
    """Print rows: as a table on a terminal, else as tab-separated lines without a header.

    A terminal gets no column of `optional` that has only zeros and empty cells, and those of `roomy` only if no cell
    wraps then.
    """
    out = out or sys.stdout
    if not out.isatty():
        for row in rows:
            print(*(_shown(cell) for cell in row), sep="\t", file=out)
        return
    remaining = iter(rows)
    while chunk := list(itertools.islice(remaining, TABLE_CHUNK_ROWS)):
        _print_for_people(*_drop_empty(headers, chunk, optional), out, roomy)


def _drop_empty(
    headers: Sequence[str], rows: Sequence[Sequence[object]], optional: Collection[str]
) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
    is_shown = [header not in optional or any(row[index] for row in rows) for index, header in enumerate(headers)]
    return _choose_columns(headers, rows, is_shown)


def _choose_columns(
    headers: Sequence[str], rows: Sequence[Sequence[object]], is_shown: Sequence[bool]
) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
    return list(itertools.compress(headers, is_shown)), [list(itertools.compress(row, is_shown)) for row in rows]


def _print_for_people(
    headers: Sequence[str], rows: Sequence[Sequence[object]], out: TextIO, roomy: Collection[str]
) -> None:
    from rich import box, console, table, text  # noqa: PLC0415 - takes 0.1 s, which only a terminal needs

    screen = console.Console(file=out, highlight=False)
    if roomy and sum(_natural_widths(headers, rows)) + 2 * (len(headers) - 1) > screen.width:
        headers, rows = _choose_columns(headers, rows, [header not in roomy for header in headers])
    widths, gap = _fit_columns(headers, rows, screen.width)
    if not widths:
        _print_records(headers, rows, out)
        return
    grid = table.Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, gap - 1, 0, 0))
    for header, cell, width in zip(headers, rows[0], widths, strict=True):
        justify: Literal["left", "right"] = "right" if isinstance(cell, int | float) else "left"
        grid.add_column(header, justify=justify, overflow="fold", width=width)
    for row in rows:
        grid.add_row(*(text.Text(_shown(cell)) for cell in row))
    screen.print(grid, crop=False)


def _print_records(headers: Sequence[str], rows: Sequence[Sequence[object]], out: TextIO) -> None:
    """Print one field per line, and an empty line after each row."""
    width = max(map(len, headers))
    for row in rows:
        for header, cell in zip(headers, row, strict=True):
            print(f"{header:>{width}}: {_shown(cell)}", file=out)
        print(file=out)


def _fit_columns(headers: Sequence[str], rows: Sequence[Sequence[object]], available: int) -> tuple[list[int], int]:
    """Return column widths and the gap between columns; no widths if the table is too wide even when cells wrap."""
    columns = list(zip(*rows, strict=True))
    widths = _natural_widths(headers, rows)
    whole = [max((len(_shown(cell)) for cell in cells if _is_unbreakable(cell)), default=1) for cells in columns]
    min_widths = [max(least, min(width, MIN_COLUMN_WIDTH)) for least, width in zip(whole, widths, strict=True)]
    gap = 2 if sum(widths) + 2 * (len(headers) - 1) <= available else 1
    available -= gap * (len(headers) - 1)
    if sum(min_widths) > available:
        return [], gap
    while sum(widths) > available:
        widest = max(range(len(widths)), key=lambda column: widths[column] - min_widths[column])
        widths[widest] -= 1
    return widths, gap


def _natural_widths(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> list[int]:
    """Return the widths of columns in which no cell wraps."""
    columns = zip(*rows, strict=True)
    return [max(map(len, (header, *map(_shown, cells)))) for header, cells in zip(headers, columns, strict=True)]


def _shown(cell: object) -> str:
    return escape(_format_cell(cell))


def _is_unbreakable(cell: object) -> bool:
    return isinstance(cell, int | float) or (isinstance(cell, str) and ID_PATTERN.fullmatch(cell) is not None)


def _format_cell(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, dt.datetime):
        return cell.isoformat(timespec="seconds")
    return f"{cell:.4f}" if isinstance(cell, float) else str(cell)
