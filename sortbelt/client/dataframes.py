"""Results as data frames: pandas and Arrow, if installed, and HTML for notebooks."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sortbelt import errors
from sortbelt.client import responses
from sortbelt.files import file_names

BATCH_ROWS = 10_000
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
    "scores": "scores",
    "familiarity": "float64",
    "review_verdict": "string",
    "review_label": "string",
    "owner": "string",
}
"""Columns of a data frame of results, with their types."""


def to_row(result: responses.Result) -> tuple[Any, ...]:
    """Return one value per column."""
    error, model, environment = result.error, result.model, result.environment
    return (
        *(result.image, result.job_id, result.status, result.label, result.confidence),
        *((error.code, error.detail) if error else (None, None)),
        *((model.name, model.version, model.digest) if model else (None, None, None)),
        *(result.cached, result.finished_at, result.image_id, result.custom_id, result.worker),
        *(
            (environment.device, environment.precision, environment.torch, environment.decoder, environment.sortbelt)
            if environment
            else (None,) * 5
        ),
        *(dict(result.scores) or None, result.familiarity),
        *((result.review.verdict, result.review.label) if result.review else (None, None)),
        result.owner,
    )


def to_arrow(results: Iterable[responses.Result]) -> Any:
    """Return the results as a `pyarrow.Table`.

    Raises:
        errors.BadInput: pyarrow is not installed.
    """
    pa = _import_optional("pyarrow", "to_arrow()")
    special_types = {"bool": pa.bool_(), "timestamp": pa.timestamp("us", tz="UTC")}
    special_types["scores"] = pa.map_(pa.string(), pa.float64())
    schema = pa.schema([(name, special_types.get(kind) or getattr(pa, kind)()) for name, kind in COLUMNS.items()])
    rows = iter(results)
    batches = []
    while chunk := list(itertools.islice(rows, BATCH_ROWS)):
        columns = zip(*map(to_row, chunk), strict=True)
        arrays = [pa.array(list(column), kind) for column, kind in zip(columns, schema.types, strict=True)]
        batches.append(pa.record_batch(arrays, schema=schema))
    return pa.Table.from_batches(batches, schema)


def to_pandas(results: Iterable[responses.Result]) -> Any:
    """Return the results as a `pandas.DataFrame`.

    Raises:
        errors.BadInput: pandas is not installed.
    """
    library = _import_optional("pandas", "to_pandas()")
    frame = library.DataFrame(map(to_row, results), columns=list(COLUMNS))
    dtypes = {"string": "string", "float64": "float64", "bool": "bool", "timestamp": "datetime64[us, UTC]"}
    dtypes["scores"] = "object"
    return frame.astype({name: dtypes[kind] for name, kind in COLUMNS.items()})


def _import_optional(name: str, feature: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise errors.BadInput(f"{feature} needs {name}: pip install 'sortbelt[frames]'.", "not_installed") from None


def html_table(headers: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> str:
    """Return an HTML table; all texts are escaped."""
    cells = "".join(f"<tr>{''.join(f'<td>{_format_cell(cell)}</td>' for cell in row)}</tr>" for row in rows)
    header_cells = "".join(f"<th>{_format_cell(head)}</th>" for head in headers)
    return f"<table><caption>{_format_cell(caption)}</caption><tr>{header_cells}</tr>{cells}</table>"


def job_html(job: responses.Job) -> str:
    """Return a job as HTML."""
    counts: Mapping[str, int] = {name: getattr(job.counts, name) for name in responses.Counts.__slots__}
    return html_table(list(counts), [list(counts.values())], f"Job {job.name or job.id}: {job.outcome}")


def job_line(job: responses.Job) -> str:
    """Return a job as a line of text, without control characters."""
    created = job.created_at.strftime("%Y-%m-%d %H:%M") if job.created_at else ""
    name = file_names.storable_name(job.name or "without a name")
    return f"{job.id}: {name}, {job.outcome}, {job.counts.total:,} images, {created}, {job.owner}, {job.model}"


def preview_row(result: responses.Result) -> str:
    """Return a result as a line of text, without control characters."""
    outcome = f"{result.label} {result.confidence:.4f}" if result.confidence is not None else result.status
    detail = f" ({result.error.code})" if result.error else ""
    return f"{file_names.storable_name(result.image)}: {outcome}{detail}"


def results_html(results: Iterable[responses.Result], caption: str) -> str:
    """Return results as HTML."""
    rows = [(r.image, r.status, r.label, r.confidence, r.error and r.error.detail) for r in results]
    return html_table(("image", "status", "label", "confidence", "why"), rows, caption)


def _format_cell(cell: object) -> str:
    import html  # noqa: PLC0415 - with its table of entities, for notebooks only

    if cell is None:
        return ""
    return html.escape(f"{cell:.4f}" if isinstance(cell, float) else str(cell))
