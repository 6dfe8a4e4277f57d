"""Export formats of results and reviews, each streamed: NDJSON, CSV, Parquet, and predictions for Label Studio."""

import codecs
import csv
import io
import itertools
import json
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import flask
from werkzeug import datastructures, http

from api.schemas import fields, result_responses, review_responses
from api.services import chunk_buffer
from core import errors
from sortbelt.files import spreadsheets

JSON_MEDIA_TYPE, CSV_MEDIA_TYPE = "application/json", "text/csv"
LABEL_STUDIO_MEDIA_TYPE = "application/vnd.label-studio+json"
PARAMETERS: dict[str, dict[str, tuple[str, ...]]] = {
    CSV_MEDIA_TYPE: {"header": ("present",), "charset": ("utf-8",), "bom": ("0", "1")},
    LABEL_STUDIO_MEDIA_TYPE: {"images": ("names", "links")},
}
PARAMETERS_HINTS = {
    CSV_MEDIA_TYPE: "send header=present, charset=utf-8 or bom=1, or no parameter",
    LABEL_STUDIO_MEDIA_TYPE: "send images=names or images=links, or no parameter",
}
ROW_GROUP_SIZE = 10_000  # rows of Parquet that are in memory at a time
SPECIAL_COLUMNS: dict[str, Callable[[Any], Any]] = {
    "image": operator.attrgetter("name"),
    "image_id": lambda row: str(row.image_id),
    "review_id": lambda row: str(row.id),
}


def _columns(names: str) -> dict[str, Callable[[Any], Any]]:
    """Return the function of each column that returns its value in a row: the attribute of the same name, for most."""
    return {name: SPECIAL_COLUMNS.get(name) or operator.attrgetter(name) for name in names.split()}


COLUMNS = _columns(
    """
    image job_id status label confidence error_code error_detail model_name model_version model_digest cached
    finished_at scores image_id custom_id worker device precision torch decoder sortbelt familiarity review_verdict
    review_label owner
    """
)
"""The columns of CSV and Parquet."""
REVIEW_COLUMNS = _columns(
    """
    review_id image_id job_id image sha256 verdict label model_label confidence familiarity note reviewed_by
    reviewed_at strategy draw_probability model_name model_version replaced_at
    """
)
CSV_DESCRIPTION = (
    f"CSV (RFC 4180) with a header line: {', '.join(COLUMNS)}. `scores` is a JSON object. Before `=`, `+`, `-` "
    "or `@` at the start of a text or after a `;` in it there is a `'`, so that spreadsheets do not evaluate it as a "
    "formula; the other formats are exact. `Accept: text/csv; bom=1` gives a byte order mark, by which spreadsheets "
    "recognise UTF-8."
)

RowPages = Iterable[Sequence[Any]]


class NotAcceptable(errors.ClientError):
    """The request accepts none of the supported formats."""

    code = "not_acceptable"


@dataclass(frozen=True)
class Table:
    """The exported form of rows: their JSON, and their columns in CSV and Parquet."""

    serialize: Callable[[Any], Any]
    columns: Mapping[str, Callable[[Any], Any]]
    image: Callable[[Any], str] = lambda row: row.name
    """Returns the image of a task of Label Studio: its name, or a link to it."""


RESULTS = Table(result_responses.serialize_result, COLUMNS)
REVIEWS = Table(review_responses.serialize_review, REVIEW_COLUMNS)


class Accepted(NamedTuple):
    """The media type of a response, and the parameters that the request gave with it."""

    media_type: str
    parameters: Mapping[str, str]


def negotiate(media_types: Iterable[str]) -> Accepted:
    """Return the media type that the request prefers among JSON and others; JSON without an Accept header.

    Raises:
        NotAcceptable: the request accepts only unsupported ones.
    """
    supported = [JSON_MEDIA_TYPE, *media_types]
    wanted = [(*http.parse_options_header(value), quality) for value, quality in flask.request.accept_mimetypes]
    types = datastructures.MIMEAccept([(media_type, quality) for media_type, _, quality in wanted])
    best = types.best_match(supported)
    if best is None and "Accept" in flask.request.headers:
        raise NotAcceptable(f"Accept has none of the supported formats: {', '.join(supported)}.")
    parameters = next((options for media_type, options, _ in wanted if media_type == best), {})
    return Accepted(best or JSON_MEDIA_TYPE, parameters)


def export(accepted: Accepted, pages: "RowPages", table: Table) -> Iterator[bytes]:
    """Yield rows in a format of `EXPORTERS`.

    Raises:
        NotAcceptable: a parameter of the media type is not supported.
    """
    media_type, parameters = accepted
    chunks = EXPORTERS[media_type](pages, table)
    if media_type not in PARAMETERS:
        return chunks
    for name, value in parameters.items():
        if value.lower() not in PARAMETERS[media_type].get(name, ()):
            problem = f"{media_type}; {name}={value[:50]} is not supported"
            raise NotAcceptable(f"{problem}; {PARAMETERS_HINTS[media_type]}.")
    return itertools.chain([codecs.BOM_UTF8], chunks) if parameters.get("bom") == "1" else chunks


def to_ndjson(pages: RowPages, table: Table) -> Iterator[bytes]:
    """Yield one JSON object per line."""
    for rows in pages:
        yield "".join(json.dumps(table.serialize(row)) + "\n" for row in rows).encode()


def to_csv(pages: RowPages, table: Table) -> Iterator[bytes]:
    """Yield CSV with a header line; scores are a JSON object, and texts are escaped for spreadsheets."""
    yield (",".join(table.columns) + "\r\n").encode()
    for rows in pages:
        buffer = io.StringIO(newline="")
        csv_rows = ([_csv_cell(value(row)) for value in table.columns.values()] for row in rows)
        csv.writer(buffer, lineterminator="\r\n").writerows(csv_rows)
        yield buffer.getvalue().encode()


def _csv_cell(value: Any) -> Any:
    """Return a cell that spreadsheets do not evaluate: names come from untrusted callers."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return fields.timestamp(value)
    if isinstance(value, dict):
        return json.dumps(value)
    return spreadsheets.escape_formula(value)


def to_parquet(pages: RowPages, table: Table) -> Iterator[bytes]:
    """Yield Parquet, one row group at a time."""
    import pyarrow as pa  # noqa: PLC0415 (loaded only when Parquet is requested)
    from pyarrow import parquet as pq  # noqa: PLC0415 (as above)

    special_types = {"cached": pa.bool_(), "scores": pa.map_(pa.string(), pa.float64())}
    special_types |= dict.fromkeys(("confidence", "familiarity", "draw_probability"), pa.float64())
    special_types |= dict.fromkeys(("finished_at", "reviewed_at", "replaced_at"), pa.timestamp("us", tz="UTC"))
    schema = pa.schema([(name, special_types.get(name, pa.string())) for name in table.columns])
    buffer = chunk_buffer.ChunkBuffer()
    with pq.ParquetWriter(pa.PythonFile(buffer), schema, compression="snappy") as writer:
        for rows in _row_groups(pages):
            if rows:
                columns = {name: [_map_items(value(row)) for row in rows] for name, value in table.columns.items()}
                writer.write_table(pa.table(columns, schema=schema), row_group_size=ROW_GROUP_SIZE)
            yield buffer.drain()
    yield buffer.drain()


def _row_groups(pages: RowPages) -> Iterator[Sequence[Any]]:
    """Yield the rows of pages in groups of `ROW_GROUP_SIZE`, and no rows after a page that fills none."""
    rows: list[Any] = []
    for page in pages:
        rows += page
        group_size = ROW_GROUP_SIZE if len(rows) >= ROW_GROUP_SIZE else 0
        yield rows[:group_size]
        rows = rows[group_size:]
    yield rows


def _map_items(value: Any) -> Any:
    """Return a map in the form that Arrow takes; other values as they are."""
    return list(value.items()) if isinstance(value, dict) else value


def to_label_studio(pages: RowPages, table: Table) -> Iterator[bytes]:
    """Yield tasks with predictions for Label Studio's import; `$image` is the name of the image, or a link to it."""
    separator = "["
    for rows in pages:
        tasks = ",\n".join(json.dumps(_label_studio_task(row, table.image(row))) for row in rows)
        yield (separator + tasks if tasks else "").encode()
        separator = ",\n" if tasks else separator
    yield b"]\n" if separator != "[" else b"[]\n"


def _label_studio_task(row: Any, image: str) -> dict[str, Any]:
    meta = {"job_id": row.job_id, "result_id": str(row.image_id), "image": row.name}
    task: dict[str, Any] = {"data": {"image": image}, "meta": meta, "predictions": []}
    if row.custom_id is not None:
        task["meta"]["custom_id"] = row.custom_id
    if row.label is not None:
        choice = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [row.label]}}
        version = f"{row.model_name} {row.model_version}"
        task["predictions"] = [{"model_version": version, "score": row.confidence, "result": [choice]}]
    return task


EXPORTERS: dict[str, Callable[[RowPages, Table], Iterator[bytes]]] = {
    "application/x-ndjson": to_ndjson,
    "text/csv": to_csv,
    "application/vnd.apache.parquet": to_parquet,
    LABEL_STUDIO_MEDIA_TYPE: to_label_studio,
}
DESCRIPTIONS = {
    "application/x-ndjson": "one result per line",
    "text/csv": CSV_DESCRIPTION,
    "application/vnd.apache.parquet": "the columns of CSV, with types",
    LABEL_STUDIO_MEDIA_TYPE: "tasks with predictions, for Label Studio's import. `$image` is the name of the image; "
    "with `; images=links` it is a link to its thumbnail that needs no key for a day",
}
"""Their descriptions in the OpenAPI document."""
REVIEW_DESCRIPTIONS = {
    "application/x-ndjson": "one review per line",
    "text/csv": f"CSV (RFC 4180) with a header line: {', '.join(REVIEW_COLUMNS)}; escaped like that of results",
    "application/vnd.apache.parquet": "the columns of CSV, with types",
}
