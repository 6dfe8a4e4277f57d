"""Results written out, however many there are: as a table, as JSON, as CSV, or in the forms that the server makes."""

import contextlib
import csv
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, TextIO

from sortbelt import frames, manifest, records, terminal

SERVERS = {"parquet": "application/vnd.apache.parquet", "labelstudio": "application/vnd.label-studio+json"}
"""The forms that the server makes, by the names that people give them."""
FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def as_table(results: Iterable[records.Result], out: TextIO) -> None:
    """Every image with its label and confidence, or why it has none."""
    heads = ("image", "status", "label", "confidence", "why")
    rows = (
        (r.image, r.status, r.label, r.confidence, r.error and f"{r.error.code}: {r.error.detail}") for r in results
    )
    terminal.table(heads, rows, out)


def as_json(results: Iterable[records.Result], out: TextIO) -> None:
    """One object, as the API answers: `{"results": […]}`, one result to a line."""
    out.write('{"results": [')
    out.writelines((",\n" if number else "\n") + terminal.as_json(r.raw) for number, r in enumerate(results))
    out.write("\n]}\n")


def as_ndjson(results: Iterable[records.Result], out: TextIO) -> None:
    """One object to a line."""
    out.writelines(terminal.as_json(result.raw) + "\n" for result in results)


def as_csv(results: Iterable[records.Result], out: TextIO) -> None:
    """One line per image (RFC 4180), under a line of names."""
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(frames.COLUMNS)
    for result in results:
        row = dict(zip(frames.COLUMNS, frames.row(result), strict=True))
        row["cached"] = str(result.cached).lower()
        row["finished_at"] = result.finished_at.isoformat() if result.finished_at else ""
        writer.writerow(inert(row.values()))


def inert(row: Iterable[Any]) -> list[Any]:
    """A row of CSV in which no spreadsheet finds a formula: a text that looks like one has a `'` before it."""
    return [f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell for cell in row]


WRITERS: dict[str, Callable[[Iterable[records.Result], TextIO], None]] = {
    "table": as_table,
    "json": as_json,
    "csv": as_csv,
    "ndjson": as_ndjson,
}
FORMS = (*WRITERS, *SERVERS)


@contextlib.contextmanager
def target(path: str | None, *, binary: bool = False) -> Iterator[Any]:
    """Stdout, or a file that appears under its name only when all of it is written."""
    if path is None or path == "-":
        yield sys.stdout.buffer if binary else sys.stdout
        return
    final = Path(path)
    draft = final.with_name(f".{final.name}.{os.getpid()}")
    try:
        with _opened(draft, binary=binary) as file:
            yield file
        draft.replace(final)
    finally:
        draft.unlink(missing_ok=True)


def _opened(path: Path, *, binary: bool) -> IO[Any]:
    return path.open("wb") if binary else path.open("w", encoding="utf-8", newline="")


def failures(found: Iterable[manifest.Failure], path: str) -> None:
    """Write what failed, and why, as CSV or NDJSON, as the file's name says."""
    with target(path) as file:
        if path.lower().endswith(".csv"):
            writer = csv.writer(file)
            writer.writerow(("image", "code", "detail"))
            writer.writerows(inert((f.name, f.code, f.detail)) for f in found)
            return
        file.writelines(json.dumps({"image": f.name, "code": f.code, "detail": f.detail}) + "\n" for f in found)
