"""Results as tables for analysts: pandas and Arrow, where those are installed, and HTML for notebooks."""

import html
import importlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sortbelt import errors, records

BATCH = 10_000
COLUMNS = {
    "image": "string",
    "job_id": "string",
    "status": "string",
    "label": "string",
    "confidence": "float64",
    "error_code": "string",
    "error_detail": "string",
    "model_name": "string",
    "model_version": "string",
    "model_digest": "string",
    "cached": "bool",
    "finished_at": "timestamp",
    "image_id": "string",
    "custom_id": "string",
    "worker": "string",
    "device": "string",
    "precision": "string",
    "torch": "string",
    "decoder": "string",
    "sortbelt": "string",
}
"""The columns of every table of results, here and in CSV, with their types."""


def row(result: records.Result) -> tuple[Any, ...]:
    """A result as one value per column."""
    error, model, at = result.error, result.model, result.environment
    return (
        *(result.image, result.job_id, result.status, result.label, result.confidence),
        *((error.code, error.detail) if error else (None, None)),
        *((model.name, model.version, model.digest) if model else (None, None, None)),
        *(result.cached, result.finished_at, result.image_id, result.custom_id, result.worker),
        *((at.device, at.precision, at.torch, at.decoder, at.sortbelt) if at else (None,) * 5),
    )


def arrow(results: Iterable[records.Result]) -> Any:
    """The results as a `pyarrow.Table`.

    Raises:
        errors.BadInput: pyarrow is not installed.
    """
    pa = _library("pyarrow", "to_arrow()")
    special = {"bool": pa.bool_(), "timestamp": pa.timestamp("us", tz="UTC")}
    schema = pa.schema([(name, special.get(kind) or getattr(pa, kind)()) for name, kind in COLUMNS.items()])
    rows = iter(results)
    batches = []
    while some := list(itertools.islice(rows, BATCH)):
        columns = zip(*map(row, some), strict=True)
        arrays = [pa.array(list(column), kind) for column, kind in zip(columns, schema.types, strict=True)]
        batches.append(pa.record_batch(arrays, schema=schema))
    return pa.Table.from_batches(batches, schema)


def pandas(results: Iterable[records.Result]) -> Any:
    """The results as a `pandas.DataFrame`.

    Raises:
        errors.BadInput: pandas is not installed.
    """
    library = _library("pandas", "to_pandas()")
    frame = library.DataFrame(map(row, results), columns=list(COLUMNS))
    kinds = {"string": "string", "float64": "float64", "bool": "bool", "timestamp": "datetime64[us, UTC]"}
    return frame.astype({name: kinds[kind] for name, kind in COLUMNS.items()})


def _library(name: str, wanted_by: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise errors.BadInput(f"{wanted_by} needs {name}: pip install 'sortbelt[frames]'.", "not_installed") from None


def markup(heads: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> str:
    """An HTML table; every text is escaped."""
    cells = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in one)}</tr>" for one in rows)
    names = "".join(f"<th>{_text(head)}</th>" for head in heads)
    return f"<table><caption>{_text(caption)}</caption><tr>{names}</tr>{cells}</table>"


def of_job(job: records.Job) -> str:
    """A job as HTML."""
    counts: Mapping[str, int] = {name: getattr(job.counts, name) for name in records.Counts.__slots__}
    return markup(list(counts), [list(counts.values())], f"Job {job.id}: {job.status}")


def of_results(results: Iterable[records.Result], caption: str) -> str:
    """Some results as HTML."""
    rows = [(r.image, r.status, r.label, r.confidence, r.error and r.error.detail) for r in results]
    return markup(("image", "status", "label", "confidence", "why"), rows, caption)


def _text(cell: object) -> str:
    if cell is None:
        return ""
    return html.escape(f"{cell:.4f}" if isinstance(cell, float) else str(cell))
