"""The forms in which results go out, each made piece by piece: NDJSON, CSV, Parquet, predictions for Label Studio."""

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import flask

from api import shapes

JSON = "application/json"
GROUP_ROWS = 10_000  # of one row group of Parquet: they are in memory together
COLUMNS = {
    "image": lambda row: row.name,
    "job_id": lambda row: row.job_id,
    "status": lambda row: row.status,
    "label": lambda row: row.label,
    "confidence": lambda row: row.confidence,
    "error_code": lambda row: row.error_code,
    "error_detail": lambda row: row.error_detail,
    "model_name": lambda row: row.model,
    "model_version": lambda row: row.model_version,
    "model_digest": lambda row: row.model_digest,
    "cached": lambda row: row.cached,
    "finished_at": lambda row: row.finished_at,
    "scores": lambda row: row.scores,
    "image_id": lambda row: str(row.image_id),
    "custom_id": lambda row: row.custom_id,
    "worker": lambda row: row.worker,
    "device": lambda row: row.device,
    "precision": lambda row: row.precision,
    "torch": lambda row: row.torch,
    "decoder": lambda row: row.decoder,
    "sortbelt": lambda row: row.sortbelt,
}
"""What a row of CSV or Parquet holds; the same columns in both."""
FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
CSV = (
    f"CSV as RFC 4180 has it, under a line of names: {', '.join(COLUMNS)}. `scores` is a JSON object. A text that "
    "begins with `=`, `+`, `-`, `@` or a control character has a `'` before it, so that no spreadsheet takes it for a "
    "formula; the other forms are exact."
)

Pages = Iterable[Sequence[Any]]


class NotAcceptable(Exception):
    """None of the forms that the request accepts is one of ours."""


def accepted() -> str:
    """The form that the request accepts best; JSON if it does not say.

    Raises:
        NotAcceptable: it names only others.
    """
    found = flask.request.accept_mimetypes.best_match([JSON, *STREAMS])
    if found is None and "Accept" in flask.request.headers:
        raise NotAcceptable(f"Results come as {', '.join([JSON, *STREAMS])}; Accept names none of them.")
    return found or JSON


def ndjson(pages: Pages) -> Iterator[bytes]:
    """One JSON object to a line."""
    for rows in pages:
        yield "".join(json.dumps(shapes.result(row)) + "\n" for row in rows).encode()


def comma_separated(pages: Pages) -> Iterator[bytes]:
    """CSV as RFC 4180 has it, under a line of names; scores are a JSON object, and no text is a formula."""
    yield (",".join(COLUMNS) + "\r\n").encode()
    for rows in pages:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\r\n").writerows(map(_cells, rows))
        yield text.getvalue().encode()


def _cells(row: Any) -> list[Any]:
    values = {name: value(row) for name, value in COLUMNS.items()}
    values["cached"] = str(row.cached).lower()
    values["finished_at"] = shapes.time(row.finished_at)
    values["scores"] = None if row.scores is None else json.dumps(row.scores)
    return [_inert(value) for value in values.values()]


def _inert(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: names are what strangers say."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def parquet(pages: Pages) -> Iterator[bytes]:
    """Parquet, a row group at a time."""
    import pyarrow as pa  # noqa: PLC0415 (only those who ask for Parquet pay for its library)
    from pyarrow import parquet as pq  # noqa: PLC0415 (as above)

    kinds: dict[str, Any] = dict.fromkeys(COLUMNS, pa.string())
    kinds |= {"confidence": pa.float64(), "cached": pa.bool_(), "finished_at": pa.timestamp("us", tz="UTC")}
    schema = pa.schema(kinds | {"scores": pa.map_(pa.string(), pa.float64())})
    sink = _Sink()
    with pq.ParquetWriter(pa.PythonFile(sink), schema, compression="snappy") as writer:
        every = itertools.chain.from_iterable(pages)
        while rows := list(itertools.islice(every, GROUP_ROWS)):
            columns = {name: [value(row) for row in rows] for name, value in COLUMNS.items()}
            columns["scores"] = [None if scores is None else list(scores.items()) for scores in columns["scores"]]
            writer.write_table(pa.table(columns, schema=schema), row_group_size=GROUP_ROWS)
            yield sink.take()
    yield sink.take()


class _Sink(io.RawIOBase):
    """A file that remembers what nobody has taken yet, and how much there was before: Parquet's end tells places."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._place = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        self._place += len(self._pieces[-1])
        return len(self._pieces[-1])

    def take(self) -> bytes:
        data, self._pieces = b"".join(self._pieces), []
        return data


def label_studio(pages: Pages) -> Iterator[bytes]:
    """Tasks with predictions, as Label Studio imports them: `$image` is the caller's name for the picture."""
    before = "["
    for rows in pages:
        tasks = ",\n".join(json.dumps(_task(row)) for row in rows)
        yield (before + tasks).encode()
        before = ",\n" if tasks else before
    yield b"]\n" if before != "[" else b"[]\n"


def _task(row: Any) -> dict[str, Any]:
    task: dict[str, Any] = {"data": {"image": row.name}, "meta": {"job_id": row.job_id}, "predictions": []}
    if row.custom_id is not None:
        task["meta"]["custom_id"] = row.custom_id
    if row.label is not None:
        choice = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [row.label]}}
        version = f"{row.model} {row.model_version}"
        task["predictions"] = [{"model_version": version, "score": row.confidence, "result": [choice]}]
    return task


STREAMS: dict[str, Callable[[Pages], Iterator[bytes]]] = {
    "application/x-ndjson": ndjson,
    "text/csv": comma_separated,
    "application/vnd.apache.parquet": parquet,
    "application/vnd.label-studio+json": label_studio,
}
SAYS = {
    "application/x-ndjson": "a result to a line",
    "text/csv": CSV,
    "application/vnd.apache.parquet": "the columns of CSV, with their types",
    "application/vnd.label-studio+json": "tasks with predictions, as Label Studio imports them",
}
"""What each is."""
