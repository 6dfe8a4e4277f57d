"""Results written out: as a table, as JSON in the API's shape, as CSV; one by one, however many there are."""

import csv
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from sortbelt import records, terminal

COLUMNS = (
    "image",
    "job_id",
    "status",
    "label",
    "confidence",
    "error_code",
    "error_detail",
    "model_name",
    "model_version",
    "model_digest",
    "cached",
    "finished_at",
)


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


def as_csv(results: Iterable[records.Result], out: TextIO) -> None:
    """One line per image (RFC 4180), under a line of names."""
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for r in results:
        error, model = r.error, r.model
        writer.writerow(
            (
                *(r.image, r.job_id, r.status, r.label, r.confidence),
                *((error.code, error.detail) if error else ("", "")),
                *((model.name, model.version, model.digest) if model else ("", "", "")),
                *(str(r.cached).lower(), r.finished_at.isoformat() if r.finished_at else ""),
            )
        )


WRITERS: dict[str, Callable[[Iterable[records.Result], TextIO], None]] = {
    "table": as_table,
    "json": as_json,
    "csv": as_csv,
}


@contextmanager
def target(path: str | None) -> Iterator[TextIO]:
    """Stdout, or a file that appears under its name only when all of it is written."""
    if path is None or path == "-":
        yield sys.stdout
        return
    final = Path(path)
    draft = final.with_name(f".{final.name}.{os.getpid()}")
    try:
        with draft.open("w", encoding="utf-8", newline="") as file:
            yield file
        draft.replace(final)
    finally:
        draft.unlink(missing_ok=True)
