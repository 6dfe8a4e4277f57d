"""Writers for results: a table, JSON, or the formats that the server streams."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TextIO

from sortbelt import errors
from sortbelt.cli import terminal
from sortbelt.client import responses
from sortbelt.files import spreadsheets

if TYPE_CHECKING:
    from sortbelt.bulk import run_manifest

CSV_MEDIA_TYPE = "text/csv"
EXCEL_MEDIA_TYPE = "text/csv; bom=1"
STREAM_FORMATS = {
    "csv": CSV_MEDIA_TYPE,
    "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "labelstudio": "application/vnd.label-studio+json; images=links",
}
"""Media types of the formats that the server makes, by their names on the command line."""
ROW_FORMATS = ("csv", "ndjson")
FORMATS = ("table", "json", *STREAM_FORMATS)
MAX_SCORES = 3  # of an image, in a table


def write_table(results: Iterable[responses.Result], out: TextIO, *, scores: bool = False) -> None:
    """Write each image with its label and confidence, or the reason why it has none.

    The highest scores are shown if `scores`, or on a terminal that is wide enough.
    """
    headers = ("image", "status", "label", "confidence", "why")
    rows: Iterable[tuple[object, ...]] = (
        (r.image, r.status, r.label, r.confidence, r.error and f"{r.error.code}: {r.error.detail}", top_scores(r))
        for r in results
    )
    if scores or out.isatty():
        terminal.print_table((*headers, "scores"), rows, out, roomy=() if scores else ("scores",))
    else:
        terminal.print_table(headers, (row[:-1] for row in rows), out)


def top_scores(result: responses.Result) -> str:
    """Return the highest scores of a result, such as `sushi .93, sandwich .07`."""
    highest = sorted(result.scores.items(), key=lambda item: -item[1])[:MAX_SCORES]
    return ", ".join(f"{label} {f'{score:.2f}'.removeprefix('0')}" for label, score in highest)


def write_json(results: Iterable[responses.Result], out: TextIO) -> None:
    """Write one object in the shape of the API, `{"results": […]}`, one result per line."""
    out.write('{"results": [')
    out.writelines((",\n" if number else "\n") + terminal.to_json_line(r.raw) for number, r in enumerate(results))
    out.write("\n]}\n")


def split_rows(chunks: Iterable[bytes], output_format: str) -> Iterator[bytes]:
    """Yield the rows of a CSV or NDJSON stream, bytes unchanged; the first row of CSV is its header."""
    row, is_csv = b"", output_format == "csv"
    for line in _split_lines(chunks):
        row += line
        if not is_csv or row.count(b'"') % 2 == 0:  # a quoted cell may hold line breaks
            yield row
            row = b""
    if row:
        yield row


def _split_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    pending = b""
    for chunk in chunks:
        *lines, pending = (pending + chunk).split(b"\n")
        yield from (line + b"\n" for line in lines)
    if pending:
        yield pending


@contextlib.contextmanager
def open_output(path: str | None, *, binary: bool = False) -> Iterator[Any]:
    """Open stdout, a pipe or a device; or a file that appears under its name only when it is complete.

    A symbolic link stays: the file that it leads to is written.
    """
    if path is None or path == "-":
        yield sys.stdout.buffer if binary else sys.stdout
        return
    check_output(path)
    if _is_stream(path):
        with _open_stream(path, binary=binary) as file:
            yield file
        return
    final_path = Path(os.path.realpath(path))
    temp_path = final_path.with_name(f".{final_path.name}.{os.getpid()}")
    try:
        with temp_path.open("wb") if binary else temp_path.open("w", encoding="utf-8", newline="") as file:
            yield file
        temp_path.replace(final_path)
    finally:
        temp_path.unlink(missing_ok=True)


def check_output(path: str) -> None:
    """Check that a file of this name can be written, before the work whose results it gets.

    Raises:
        errors.BadInput: it is a folder, or its folder does not exist or cannot be written.
    """
    if _is_stream(path):
        return
    final_path = Path(os.path.realpath(path))
    problem = errno.EISDIR if final_path.is_dir() else 0 if final_path.parent.is_dir() else errno.ENOENT
    if not problem and not os.access(final_path.parent, os.W_OK):
        problem = errno.EACCES
    if problem:
        raise errors.BadInput(f"{path} cannot be written: {os.strerror(problem)}. Name another file.", "bad_output")


def _open_stream(path: str, *, binary: bool) -> IO[Any]:
    """Open a pipe or a device; an open file of this process by its descriptor, which has one position for all."""
    sys.stdout.flush()
    number = {"/dev/stdout": "1", "/dev/stderr": "2"}.get(path, path.removeprefix("/dev/fd/"))
    target = os.dup(int(number)) if number.isdecimal() and path.startswith("/dev/") else path
    return open(target, "ab") if binary else open(target, "a", encoding="utf-8", newline="")  # noqa: PTH123


def _is_stream(path: str) -> bool:
    """Return whether this is a pipe, a device or an open file of a process, which a file must not replace."""
    absolute = Path(path).absolute()
    is_other_kind = absolute.exists() and not absolute.is_file() and not absolute.is_dir()
    return is_other_kind or str(absolute).startswith(("/dev/std", "/dev/fd/", "/proc/"))


def write_failures(failed_images: Iterable[run_manifest.FailedImage], path: str) -> None:
    """Write failed images and their errors as CSV if the path ends in `.csv`, else as NDJSON."""
    import csv  # noqa: PLC0415 - for this option only

    with open_output(path) as file:
        if path.lower().endswith(".csv"):
            writer = csv.writer(file)
            writer.writerow(("image", "code", "detail"))
            writer.writerows(map(spreadsheets.escape_formula, (f.name, f.code, f.detail)) for f in failed_images)
            return
        file.writelines(json.dumps({"image": f.name, "code": f.code, "detail": f.detail}) + "\n" for f in failed_images)
